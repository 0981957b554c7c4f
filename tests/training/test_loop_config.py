"""Optimisers, schedules and gradient checkpointing by choice."""

import sys

import pytest
import torch
from any2pix.models.diffusion import DiffusionDims
from any2pix.training.loop import fit
from any2pix.training.loop_config import (
    OPTIMIZERS,
    SCHEDULES,
    LoopConfig,
    checkpoint_activations,
    make_optimizer,
    make_schedule,
)
from diffusers import UNet2DConditionModel
from torch import nn

PLAIN = {"steps": 100, "batch_size": 16, "learning_rate": 0.05, "warmup": 10}


def learned(work, **options):
    torch.manual_seed(0)

    def make_batch(number, generator):
        x = torch.randn((16, 3), generator=generator)
        return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])

    def loss(module, batch):
        return {"loss": (module(batch[0]) - batch[1]).square().mean()}

    return fit("toy", nn.Linear(3, 1), make_batch, loss, LoopConfig(**{**PLAIN, **options}), work, "one").module.weight


def test_a_factored_optimiser_learns_and_keeps_little(tmp_path):
    weight = learned(tmp_path, optimizer="adafactor", ema_decay=0.9)
    torch.testing.assert_close(weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.1, rtol=0)
    large = nn.Parameter(torch.randn(40, 50))
    kept = {}
    for name in ("adamw", "adafactor"):
        optimizer = make_optimizer(LoopConfig(**PLAIN, optimizer=name), [large], fused=False)
        large.grad = torch.ones_like(large)
        optimizer.step()
        kept[name] = sum(value.numel() for value in optimizer.state[large].values() if torch.is_tensor(value))
    assert kept["adafactor"] < 100 < 2 * 2000 <= kept["adamw"]


def test_an_optimiser_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    assert "adamw8bit" in OPTIMIZERS
    with pytest.raises(ImportError, match="pip install bitsandbytes.*adamw or adafactor"):
        make_optimizer(LoopConfig(**PLAIN, optimizer="adamw8bit"), [nn.Parameter(torch.ones(2))], fused=False)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_rise_to_the_peak_and_end_where_they_shall(name):
    config = LoopConfig(**PLAIN, schedule=name, final_lr_share=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], config.learning_rate)
    schedule, rates = make_schedule(config, optimizer), []
    for _ in range(config.steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(config.learning_rate) == rates[config.warmup]
    assert (rates[0] < 0.2 * config.learning_rate) == (name != "constant")
    final = {"cosine_with_min_lr": 0.1, "cosine": 0.0, "linear": 0.0}.get(name, 1.0)
    assert rates[-1] == pytest.approx(final * config.learning_rate, abs=0.02 * config.learning_rate)


def test_gradient_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    dims = DiffusionDims((32, 32), (0, 1), 1, 16, context=16, pooled=16, sample_size=8)
    unet = UNet2DConditionModel(**dims.unet_config())
    added = {"text_embeds": torch.ones(1, 16), "time_ids": torch.ones(1, 6)}
    gradients = []
    for switch in (False, True):
        if switch:
            checkpoint_activations(nn.ModuleDict({"unet": unet, "frozen": nn.Linear(2, 2).requires_grad_(False)}))
            assert unet.is_gradient_checkpointing
        unet.train().zero_grad()
        found = unet(torch.ones(1, 4, 8, 8), 5, torch.ones(1, 3, 16), added_cond_kwargs=added).sample
        found.square().sum().backward()
        gradients.append(unet.conv_in.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_a_training_with_gradient_checkpointing_is_the_same(tmp_path):
    def trained(name, **options):
        torch.manual_seed(0)
        dims = DiffusionDims((32, 32), (0, 1), 1, 16, context=16, pooled=16, sample_size=8)
        unet = UNet2DConditionModel(**dims.unet_config())
        added = {"text_embeds": torch.ones(2, 16), "time_ids": torch.ones(2, 6)}

        def loss(module, batch):
            found = module(batch, 5, torch.ones(2, 3, 16), added_cond_kwargs=added).sample
            return {"loss": (found - batch).square().mean()}

        def make_batch(number, generator):
            return torch.randn((2, 4, 8, 8), generator=generator)

        config = LoopConfig(steps=2, batch_size=2, learning_rate=1e-3, warmup=0, **options)
        return fit(name, unet, make_batch, loss, config, tmp_path, "one").module.state_dict()

    plain, checkpointed = trained("plain"), trained("checkpointed", gradient_checkpointing=True)
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, atol=1e-5, rtol=1e-4)


def test_a_network_without_it_is_named(tmp_path):
    with pytest.raises(ValueError, match="gradient_checkpointing is on, but Linear has no part that supports it"):
        learned(tmp_path, gradient_checkpointing=True)
