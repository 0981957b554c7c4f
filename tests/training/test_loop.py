import json

import pytest
import torch
from accelerate import Accelerator
from any2pix.training.loop import fit
from any2pix.training.loop_config import LoopConfig
from torch import nn


def make_batch(step, generator):
    x = torch.randn((16, 3), generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


def loss(module, batch):
    x, y = batch
    return {"loss": (module(x) - y).square().mean()}


def run(work, steps, stop_at=None, made_from="one", **options):
    torch.manual_seed(0)
    module = nn.Linear(3, 1)
    config = LoopConfig(
        steps=steps, batch_size=16, learning_rate=0.05, warmup=5, ema_decay=0.9, **{"checkpoint_every": 10, **options}
    )

    def batches(step, generator):
        if step == stop_at:
            raise KeyboardInterrupt
        return make_batch(step, generator)

    return fit("toy", module, batches, loss, config, work, made_from).module


def test_learns_and_leaves_log_and_plot(tmp_path):
    module = run(tmp_path, 200, checkpoint_every=100)
    torch.testing.assert_close(module.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.05, rtol=0)
    rows = [json.loads(line) for line in (tmp_path / "toy/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(200))
    assert (tmp_path / "toy/loss.png").stat().st_size > 1000


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    whole = run(tmp_path / "whole", 30)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", 30, stop_at=17)
    with open(tmp_path / "parts/toy/log.jsonl", "a") as log:
        log.write('{"step": 3')  # as a kill leaves it
    resumed = run(tmp_path / "parts", 30)
    torch.testing.assert_close(resumed.weight, whole.weight, atol=0, rtol=0)
    assert len((tmp_path / "parts/toy/log.jsonl").read_text().splitlines()) == 30


def test_what_a_killed_run_left_beside_its_last_checkpoint_is_removed(tmp_path):
    """Killed between renaming the last checkpoint and removing the one before; no later save clears it away."""
    whole = run(tmp_path, 20)
    checkpoints = tmp_path / "toy/checkpoints"
    for name in ("step-00000010", ".step-00000020.unfinished"):
        (checkpoints / name).mkdir()
        (checkpoints / name / "model.safetensors").write_bytes(b"left")
    torch.testing.assert_close(run(tmp_path, 20).weight, whole.weight, atol=0, rtol=0)
    assert [place.name for place in checkpoints.iterdir()] == ["step-00000020"]


def saving(work, monkeypatch, main=True, **options):
    """The steps at which a training calls on_checkpoint, each with the weights it is given; and the trained module."""
    monkeypatch.setattr(Accelerator, "is_main_process", main)
    saved = []
    config = LoopConfig(batch_size=16, learning_rate=0.05, warmup=5, ema_decay=0.9, **options)
    torch.manual_seed(0)
    trained = fit(
        "toy",
        nn.Linear(3, 1),
        make_batch,
        loss,
        config,
        work,
        "one",
        lambda module, step: saved.append((step, module.weight.clone())),
    ).module
    return saved, trained


def test_checkpoints_are_told_of_and_the_end_is_one(tmp_path, monkeypatch):
    saved, trained = saving(tmp_path, monkeypatch, steps=25, checkpoint_every=10)
    assert [step for step, _ in saved] == [10, 20, 25]
    assert torch.equal(saved[-1][1], trained.weight) and not torch.equal(saved[1][1], trained.weight)
    again, same = saving(tmp_path, monkeypatch, steps=25, checkpoint_every=10)
    assert [step for step, _ in again] == [25], "what was lost after training is written again"
    assert torch.equal(same.weight, trained.weight)


def test_one_of_many_processes_tells_of_checkpoints(tmp_path, monkeypatch):
    saved, trained = saving(tmp_path, monkeypatch, main=False, steps=25, checkpoint_every=10)
    assert not saved
    assert torch.equal(trained.weight, saving(tmp_path / "main", monkeypatch, steps=25, checkpoint_every=10)[1].weight)


def test_accumulated_batches_are_one_large_batch(tmp_path):
    options = {"steps": 7, "learning_rate": 0.1, "warmup": 2, "ema_decay": 0.5}

    def train(name, many, **sizes):
        def parts(step, generator):
            rows = make_batch(step, generator)
            return (
                rows
                if many == 1
                else tuple(
                    map(
                        torch.cat,
                        zip(*(make_batch(many * step + n, seeded(many * step + n)) for n in range(many)), strict=True),
                    )
                )
            )

        torch.manual_seed(0)
        config = LoopConfig(**options, batch_size=16 * many, **sizes)
        return fit(name, nn.Linear(3, 1), parts, loss, config, tmp_path, "one").module.weight

    def seeded(number):
        return torch.Generator().manual_seed(hash((0, 0, number)) % 2**63)

    accumulated = train("parts", 1, gradient_accumulation_steps=3)
    torch.testing.assert_close(accumulated, train("whole", 3))
    assert not torch.allclose(accumulated, train("one", 1), atol=1e-3)
    rows = [
        json.loads(line)
        for name in ("parts", "whole")
        for line in (tmp_path / name / "log.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 14 and [row["loss"] for row in rows[:7]] == pytest.approx([row["loss"] for row in rows[7:]])


def test_what_is_not_trained_is_as_it_was(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    before, started = (part.weight.clone() for part in module)
    config = LoopConfig(steps=4, batch_size=16, learning_rate=0.1)
    trained = fit("half", module, make_batch, loss, config, tmp_path, "one").module
    assert torch.equal(trained[0].weight, before) and not torch.equal(trained[1].weight, started)


def test_a_checkpoint_made_from_something_else_is_put_aside(tmp_path, caplog):
    run(tmp_path, 20)
    run(tmp_path, 20, made_from="another")
    assert "another configuration" in caplog.text
    assert (tmp_path / "toy/former").is_dir()
    whole = run(tmp_path / "fresh", 20, made_from="another")
    torch.testing.assert_close(run(tmp_path, 20, made_from="another").weight, whole.weight, atol=0, rtol=0)


def test_a_loss_that_is_not_a_number_ends_the_run(tmp_path):
    def broken(module, batch):
        return {"loss": loss(module, batch)["loss"] * float("nan")}

    config = LoopConfig(steps=3, batch_size=16, learning_rate=0.1)
    with pytest.raises(FloatingPointError, match="broken: the loss is nan at step 0"):
        fit("broken", nn.Linear(3, 1), make_batch, broken, config, tmp_path, "one")


def test_bad_configuration_is_named():
    with pytest.raises(ValueError, match="steps \\(0\\)"):
        LoopConfig(steps=0, batch_size=1, learning_rate=1.0)
    with pytest.raises(ValueError, match="gradient_accumulation_steps \\(0\\)"):
        LoopConfig(steps=1, batch_size=1, learning_rate=1.0, gradient_accumulation_steps=0)
    for wrong in ({"checkpoint_every": 0}, {"ema_decay": 1.0}):
        with pytest.raises(ValueError, match="must be at least 1, ema_decay .* below 1"):
            LoopConfig(steps=1, batch_size=1, learning_rate=1.0, **wrong)
    with pytest.raises(ValueError, match='mixed_precision is "int8"'):
        LoopConfig(steps=1, batch_size=1, learning_rate=1.0, mixed_precision="int8")
