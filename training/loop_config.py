"""Steps, batches, learning rate and memory settings of a training, and the optimiser and schedule made from them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

BETAS = (0.9, 0.99)
SCHEDULE = "cosine_with_min_lr"
SCHEDULES = (SCHEDULE, "cosine", "linear", "constant_with_warmup", "constant")
OPTIMIZERS = ("adamw", "adamw8bit", "adafactor")
PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True)
class LoopConfig:
    """The section `loop` of a recipe.

    `steps` optimiser steps. `batch_size` samples go through the network at once on one device. A step takes
    `gradient_accumulation_steps` such batches on each device; or, where `global_batch_size` is given, as many as make
    that number of samples over all devices, so that the same recipe trains the same way on other hardware.

    `learning_rate` is the peak of `schedule` (a name of transformers' get_scheduler), reached after `warmup` steps;
    SCHEDULE falls along a cosine to `final_lr_share` of it. `optimizer`: "adamw", "adamw8bit" (bitsandbytes), or
    "adafactor" (factored second moments, no first). `gradient_checkpointing` computes activations a second time
    instead of keeping them. `workers`: processes that load batches on each device; 0: the training's own process.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 100
    final_lr_share: float = 0.02
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    grad_clip: float = 1.0
    seed: int = 0
    checkpoint_every: int = 200
    mixed_precision: str = "no"
    gradient_accumulation_steps: int = 1
    global_batch_size: int | None = None
    schedule: str = SCHEDULE
    optimizer: str = "adamw"
    gradient_checkpointing: bool = False
    workers: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1.")
        if self.checkpoint_every < 1 or not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"checkpoint_every ({self.checkpoint_every}) must be at least 1, ema_decay ({self.ema_decay}) from 0 "
                f"to below 1."
            )
        if self.workers < 0:
            raise ValueError(f"workers is {self.workers}; it must be 0 or more.")
        for name, known in (("mixed_precision", PRECISIONS), ("schedule", SCHEDULES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ValueError(f'{name} is "{getattr(self, name)}"; it must be one of {", ".join(known)}.')
        if self.global_batch_size is not None and self.gradient_accumulation_steps != 1:
            raise ValueError(
                "global_batch_size and gradient_accumulation_steps are both given; the first decides the second. "
                "Leave one of them out."
            )

    def accumulated(self, processes: int) -> int:
        """Batches of one device that make a step, with so many `processes`."""
        if self.global_batch_size is None:
            return self.gradient_accumulation_steps
        batches, rest = divmod(self.global_batch_size, self.batch_size * processes)
        if rest or not batches:
            raise ValueError(
                f"global_batch_size is {self.global_batch_size}; it must be a multiple of batch_size "
                f"({self.batch_size}) times the number of processes ({processes})."
            )
        return batches


def make_optimizer(config: LoopConfig, parameters: Iterable[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
    """The optimiser of `config` for what is trained. `fused`: AdamW in one kernel.

    ImportError: "adamw8bit" without bitsandbytes.
    """
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options, betas=BETAS, fused=fused)
    if config.optimizer == "adafactor":  # Shazeer and Stern, arXiv 1804.04235, with a learning rate from outside
        from transformers.optimization import Adafactor

        return Adafactor(parameters, **options, scale_parameter=False, relative_step=False)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ImportError(
            "optimizer is adamw8bit, which needs bitsandbytes, and it is not installed. Install it "
            "(pip install bitsandbytes), or set loop.optimizer to adamw or adafactor."
        ) from error
    return AdamW8bit(parameters, **options, betas=BETAS)


def make_schedule(config: LoopConfig, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each step."""
    from transformers import get_scheduler

    more = {"min_lr_rate": config.final_lr_share} if config.schedule == SCHEDULE else None
    return get_scheduler(config.schedule, optimizer, config.warmup, config.steps, scheduler_specific_kwargs=more)


def checkpoint_activations(module: nn.Module) -> None:
    """Switch on gradient checkpointing in every trained part that has it (networks of diffusers and transformers)."""
    switches = ("enable_gradient_checkpointing", "gradient_checkpointing_enable")
    found = False
    for part in module.modules():
        if not any(parameter.requires_grad for parameter in part.parameters()):
            continue
        if switch := next((getattr(part, name) for name in switches if hasattr(part, name)), None):
            switch()
            found = True
    if not found:
        raise ValueError(
            f"gradient_checkpointing is on, but {type(module).__name__} has no part that supports it. Set "
            "loop.gradient_checkpointing to false and lower batch_size instead."
        )
