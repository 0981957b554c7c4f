"""The comparison with the authors' code, with our own code on both sides: their repository is no part of ours."""

import json
import logging
import os
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from any2pix.benchmarks import against_upstream, duel_inputs, duel_ours
from any2pix.benchmarks.duel import Case, Measured, duel, relative_difference
from any2pix.benchmarks.duel_plot import plot_growth
from any2pix.benchmarks.duel_worker import build_task

CASES = against_upstream.quick_cases()


@pytest.fixture(scope="module")
def sides():
    with against_upstream.two_sides(("ours", "ours"), [], {"OMP_NUM_THREADS": "1"}) as pair:
        yield pair


@pytest.mark.parametrize("case", CASES[:6], ids=lambda case: case.name)
def test_two_processes_on_the_same_weights_agree(sides, tmp_path, case):
    measured = duel(case, *sides, repeats=2, folder=tmp_path)
    assert measured.difference == 0.0
    assert len(measured.ratios()) == len(measured.ratios("wall")) == 2
    assert all(run["cpu"] > 0 and run["wall"] > 0 for run in measured.ours + measured.upstream)


def test_an_error_in_a_process_is_raised_here_and_the_process_lives(sides, tmp_path):
    with pytest.raises(RuntimeError, match="ours failed at prepare"):
        sides[0].ask("prepare", kind="llm", task={"width": 3}, folder=str(tmp_path))
    duel(CASES[0], *sides, repeats=1, folder=tmp_path)


def test_a_dead_process_is_named_with_its_log(tmp_path):
    with (
        against_upstream.two_sides(("nobody", "nobody"), [], {}) as (dead, _),
        pytest.raises(RuntimeError, match="(?s)process of nobody has ended.*duel_nobody"),
    ):
        dead.ask("check")


@torch.no_grad()
def test_a_second_edit_only_samples(tmp_path):
    """Twice as many UNet calls in the first, and no pass through ImageBind, LLM or prior in the second."""
    first, second = (case.task for case in CASES[4:6])
    assert second.second and not first.second
    calls = {}
    real = duel_ours.random_network

    def counted(module, file):
        module.register_forward_hook(lambda *_: calls.update({file.stem: calls.get(file.stem, 0) + 1}))
        return real(module, file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duel_ours, "random_network", counted)
        for task, expected in ((first, {"llm": first.llm.new_tokens, "unet": 6}), (second, {"unet": 3})):
            prepared = duel_ours.prepare_edit(task, tmp_path)
            calls.clear()
            prepared.run()
            assert {name: calls.get(name, 0) for name in ("llm", "unet")} == {"llm": 0, **expected}
            assert ("prior" in calls) == (task is first)


@pytest.mark.parametrize("case", CASES + against_upstream.full_cases(), ids=lambda case: case.name)
def test_tasks_travel_as_json(case):
    assert build_task(case.kind, json.loads(json.dumps(asdict(case.task)))) == case.task


def test_an_edit_that_shows_other_references_than_it_encodes_is_refused():
    with pytest.raises(ValueError, match="shown 2 references, but 1 are encoded"):
        duel_inputs.EditTask(encode=duel_inputs.EncodeTask())


def measured(name, ours, upstream, series="", at=0):
    def runs(seconds):
        return [{"wall": 2 * value, "cpu": value} for value in seconds]

    return Measured(Case(name, "llm", duel_inputs.LLMTask(), series, at), runs(ours), runs(upstream), 1e-6)


def test_tables_give_median_spread_and_growth():
    rows = [
        measured("LLM", [1.0, 2.0, 1.0], [4.0, 6.0, 5.0]),
        measured("15", [1.0], [1.0], "answer", 15),
        measured("60", [4.0], [16.0], "answer", 60),
    ]
    text = against_upstream.report(rows, "2 cores.")
    assert "| LLM | 5 | 1 | 4.00 (3.00 to 5.00) | 4.00 | 1e-06 |" in text
    assert "power 2.00" in text and "power 1.00" in text
    assert "tokens of the prompt" not in text


def test_sides_that_answer_with_different_shapes_are_an_error():
    assert relative_difference(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 5.0])) == pytest.approx(1 / 34**0.5)
    with pytest.raises(ValueError, match="2 and 3 numbers"):
        relative_difference(torch.zeros(2), torch.zeros(3))


def test_without_imagebind_what_needs_it_is_left_out():
    arguments = against_upstream.parse(["--upstream", "somewhere", "--quick"])
    kinds = {case.kind for case in against_upstream.choose_cases(arguments)}
    assert kinds == {"llm", "prior", "paint"}
    arguments = against_upstream.parse(["--upstream", "somewhere", "--only", "no such words"])
    with pytest.raises(SystemExit, match="no such words"):
        against_upstream.choose_cases(arguments)


def test_files_of_different_machines_are_not_mixed(tmp_path):
    for name in ("one", "two"):
        Path(tmp_path, name).write_text(json.dumps({"machine": name, "cases": []}))
    with pytest.raises(SystemExit, match="different machines: one / two"):
        against_upstream.main(["--from", str(tmp_path / "one"), str(tmp_path / "two")])


def test_plot_is_drawn_and_needs_a_series(tmp_path):
    rows = [measured("15", [1.0], [1.0], "answer", 15), measured("60", [4.0], [16.0], "answer", 60)]
    plot_growth(rows, against_upstream.SERIES, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 3000
    with pytest.raises(ValueError, match="no growth series"):
        plot_growth([measured("LLM", [1.0], [1.0])], against_upstream.SERIES, tmp_path / "none.png")


def test_the_whole_command_with_our_own_code_on_both_sides(sides, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    asked = []

    def started(names, site, variables):
        asked.append((names, list(site), variables["OMP_NUM_THREADS"]))
        return nullcontext(sides)

    monkeypatch.setattr(against_upstream, "two_sides", started)
    against_upstream.main(
        [
            "--upstream",
            str(tmp_path),
            "--quick",
            "--repeats",
            "1",
            "--only",
            "prior",
            "--json",
            str(tmp_path / "r.json"),
        ]
    )
    assert asked == [(("ours", "upstream"), [], "1")]
    assert "| prior |" in caplog.text
    written = json.loads(Path(tmp_path, "r.json").read_text())
    table = caplog.messages[-1]
    against_upstream.main(["--from", str(tmp_path / "r.json")])
    assert caplog.messages[-1] == table
    assert written["machine"].startswith(f"{os.cpu_count()} cores") and written["cases"][0]["difference"] == 0.0
