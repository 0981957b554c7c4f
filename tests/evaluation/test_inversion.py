"""The measurement of the inversion, on the bundled checkpoint."""

import json

import pytest
import torch
from any2pix.evaluation.inversion import CURVES, STEPS, Record, invert_flipped, main, measured_of, settings
from any2pix.stages.sample import SCHEDULES


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """One picture, one scheduler; with its plot."""
    folder = tmp_path_factory.mktemp("inversion")
    files = ["--json", str(folder / "inversion.json"), "--plot", str(folder / "inversion.png")]
    main(["--split", "validation", "--samples", "1", "--schedulers", "ddim_uniform", "--cfg", "1", *files])
    assert (folder / "inversion.png").stat().st_size > 1000
    return json.loads((folder / "inversion.json").read_text())


def test_the_defaults_meet_their_target(record):
    """Within 0.5 dB of the round trip at 2.5 calls a step; see the committed results for more pictures."""
    by_way = {m.way: m for m in measured_of(record)}
    assert by_way["fixed point"].loss.mean < 0.5 and by_way["fixed point"].calls <= 2.5
    for way in ("plain DDIM", "flipped sigmas"):
        assert by_way[way].calls == 1
        assert by_way[way].error.mean > 3 * by_way["fixed point"].error.mean


def test_the_committed_results_meet_the_target(root):
    committed = measured_of(json.loads((root / "miniature" / "results" / "inversion.json").read_text()))
    aimed = [m for m in committed if (m.way, m.steps, m.cfg) == ("fixed point", 20, 1.0)]
    assert {m.scheduler for m in aimed} == set(SCHEDULES)
    assert all(m.loss.mean < 0.5 and m.calls <= 2.5 for m in aimed)


def test_every_scheduler_is_compared_and_some_over_all_steps():
    asked = settings(SCHEDULES, (1.0, 5.0))
    assert {name for name, steps, cfg in asked if (steps, cfg) == (20, 1.0)} == set(SCHEDULES)
    for scheduler in CURVES:
        for cfg in (1.0, 5.0):
            assert [steps for name, steps, guided in asked if (name, guided) == (scheduler, cfg)] == list(STEPS)


def test_a_stopped_run_goes_on_where_it_was(record, tmp_path):
    path = tmp_path / "record.json"
    header = {name: value for name, value in record.items() if name != "inversions"}
    first, *others = measured_of(record)
    Record(path, header).add(first)
    going_on = Record(path, header, resume=True)
    assert [m.to_dict() for m in going_on.rows.values()] == [first.to_dict()]
    going_on.add(others[0])
    assert len(measured_of(json.loads(path.read_text()))) == 2
    assert not Record(path, {**header, "seed": -1}, resume=True).rows, "other settings are not mixed in"
    assert not Record(path, header).rows, "weights may have changed: only where it is asked for"


def test_flipped_sigmas_believe_the_lower_end_of_a_step():
    """One euler step up from 1e-4 to 2 along what the model says at 1e-4."""
    asked = []

    def model(x, sigma):
        asked.append(float(sigma[0]))
        return x / 2

    x = torch.ones(1, 4, 2, 2)
    raised, below = invert_flipped(model, x, torch.tensor([0.0, 2.0]))
    assert asked == pytest.approx([1e-4]) and below is None, "euler follows it"
    torch.testing.assert_close(raised, x + (2 - 1e-4) * 0.5 * x / 1e-4, rtol=1e-5, atol=0)
