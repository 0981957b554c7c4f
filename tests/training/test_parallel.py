"""Several processes train what one does, a killed run goes on as if nothing had been, and no process is left alone."""

import json

import pytest
import torch
from toy_run import run

STEPS = {"steps": 9, "checkpoint_every": 3}


def start(place, processes=1, **options):
    return run(place, processes, **{**STEPS, **options})


def finished(place, processes=1, **options):
    done = start(place, processes, **options)
    assert done.codes == (0,) * processes, done.outputs
    return done.found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One process with batches of four, two of them a step."""
    (found,) = finished(tmp_path_factory.mktemp("one"), global_batch_size=8)
    return found


def check_equal(found, expected, tolerance=1e-5):
    assert found["probe"] == pytest.approx(expected["probe"], abs=tolerance)
    for name, value in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, atol=tolerance, rtol=0)


def losses(place):
    return [json.loads(line) for line in (place / "work/toy/log.jsonl").read_text().splitlines()]


def test_two_processes_with_the_same_global_batch_give_the_same_weights(whole, tmp_path):
    for found in finished(tmp_path, 2, global_batch_size=8, workers=1):
        check_equal(found, whole)
    (other,) = finished(tmp_path / "half", global_batch_size=4)
    assert not torch.allclose(other["weights"]["body.0.weight"], whole["weights"]["body.0.weight"], atol=1e-4)


@pytest.mark.parametrize(("kill_in", "kill_at", "step"), [("batch", 14, 6), ("save", 6, 3), ("batch", 2, 0)])
def test_two_killed_processes_go_on_to_the_same_weights(whole, tmp_path, kill_in, kill_at, step):
    assert -9 in start(tmp_path, 2, global_batch_size=8, kill_in=kill_in, kill_at=kill_at).codes
    resumed = start(tmp_path, 2, global_batch_size=8)
    assert resumed.codes == (0, 0)
    assert all((f"resumed toy at step {step}" in output) == bool(step) for output in resumed.outputs)
    for one in resumed.found:
        check_equal(one, whole)
    assert [row["step"] for row in losses(tmp_path)] == list(range(STEPS["steps"]))


def test_a_killed_run_of_one_process_goes_on_with_its_random_numbers(tmp_path):
    (expected,) = finished(tmp_path / "whole", dropout=0.5)
    assert start(tmp_path / "parts", dropout=0.5, kill_in="batch", kill_at=7).codes == (-9,)
    (found,) = finished(tmp_path / "parts", dropout=0.5)
    check_equal(found, expected, 0)


def test_sharded_weights_train_and_resume_as_whole_ones(whole, tmp_path):
    assert -9 in start(tmp_path, 2, global_batch_size=8, fsdp=True, kill_in="batch", kill_at=14).codes
    assert list((tmp_path / "work/toy/checkpoints").glob("*/pytorch_model_fsdp_0/__1_0.distcp")), "it is not sharded"
    for found in finished(tmp_path, 2, global_batch_size=8, fsdp=True):
        check_equal(found, whole)


def test_a_loss_that_is_not_a_number_in_one_process_stops_both(tmp_path):
    done = start(tmp_path, 2, global_batch_size=8, nan_at=9)
    assert done.codes == (1, 1)
    assert all("FloatingPointError: toy: the loss is nan at step 4" in output for output in done.outputs)


def test_a_run_with_other_steps_is_not_resumed_silently(tmp_path):
    finished(tmp_path, global_batch_size=8)
    done = start(tmp_path, global_batch_size=4)
    assert done.codes == (1,) and "2 batches in a step over all processes, but this run has 1" in done.outputs[0]
