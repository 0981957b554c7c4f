"""A loss on the same samples at every checkpoint, computed by all processes together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn


@dataclass(frozen=True)
class Probe:
    """`count` samples, `at_once` in one forward pass. `make(start, stop)` gives the batch of a slice of them on the
    CPU, always the same; `value` is the entry of the losses that is averaged."""

    count: int
    at_once: int
    make: Callable[[int, int], Any]
    value: str = "mse"

    def slices(self) -> list[tuple[int, int]]:
        return [(start, min(start + self.at_once, self.count)) for start in range(0, self.count, self.at_once)]


@torch.no_grad()
def measure(probe: Probe, objective: nn.Module, accelerator: Accelerator, prepare: Callable[[Any], Any]) -> float:
    """The mean over all samples, the same in every process. Each takes every n-th slice; where the
    last round has fewer slices than processes, some repeat one that does not count: sharded networks need all
    processes in every forward pass."""
    slices = probe.slices()
    totals = torch.zeros(2, device=accelerator.device)
    was_training = objective.training
    objective.eval()
    for first in range(0, len(slices), accelerator.num_processes):
        place = first + accelerator.process_index
        counts = place < len(slices)
        start, stop = slices[place if counts else 0]
        batch = send_to_device(prepare(probe.make(start, stop)), accelerator.device)
        value = objective(batch)[probe.value].detach().float()
        if counts:
            totals += torch.stack([value * (stop - start), value.new_tensor(float(stop - start))])
    objective.train(was_training)
    total, samples = accelerator.reduce(totals, "sum").tolist()
    return total / samples
