"""Batches by number, loaded by worker processes. They depend neither on the number of processes nor on a stop."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

MakeBatch = Callable[[int, torch.Generator], Any]


class NumberedBatches(Dataset):
    """Item n is `make_batch(n, generator)`, with a generator seeded by `seed` and n alone."""

    def __init__(self, make_batch: MakeBatch, seed: int):
        self.make_batch, self.seed = make_batch, seed

    def __getitem__(self, number: int) -> Any:
        return self.make_batch(number, torch.Generator().manual_seed(hash((self.seed, 0, number)) % 2**63))


def numbers_of(process: int, processes: int, accumulated: int, steps: range) -> list[int]:
    """The numbers of the batches that a process trains on, in order.

    A step takes `accumulated` x `processes` consecutive numbers, so the samples of a step do not depend on how they are
    distributed.
    """
    return [(step * accumulated + part) * processes + process for step in steps for part in range(accumulated)]


def load_batches(batches: NumberedBatches, numbers: list[int], workers: int, device: torch.device) -> DataLoader:
    """A loader of these batches in this order, `workers` processes ahead of the training."""
    return DataLoader(
        batches,
        sampler=numbers,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # of its own: starting a loader draws a number, and a resumed run starts one more
        multiprocessing_context="fork" if workers else None,
    )


def _as_it_is(batch: Any) -> Any:
    return batch
