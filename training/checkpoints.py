"""Checkpoints to resume from: accelerate's state and the average of the weights, in a folder that is whole or
absent."""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..loading.atomic import UNFINISHED, make_durable, named_write_errors, write_atomic
from .average import Average

logger = logging.getLogger(__name__)

RECORD, AVERAGE, FORMER = "run.json", "average", "former"
PREFIX = "step-"


@dataclass(frozen=True)
class Record:
    """What a checkpoint belongs to. `made_from`: a digest of everything the run depends on; `batches`: batches in a
    step over all processes; `updates`: steps of the average."""

    made_from: str
    step: int
    batches: int
    updates: int


class Checkpoints:
    """The checkpoints in `folder`/checkpoints, of which only the newest is kept; all processes must see the same
    folder."""

    def __init__(self, folder: Path, accelerator: Accelerator, average: Average, made_from: str, batches: int):
        self.folder, self.accelerator, self.average = folder / "checkpoints", accelerator, average
        self.made_from, self.batches = made_from, batches

    def save(self, step: int) -> None:
        """Write the state after `step` steps. A process killed at any moment leaves this checkpoint or the previous one
        whole."""
        target = self.folder / f"{PREFIX}{step:08d}"
        partial = self.folder / f".{target.name}{UNFINISHED}"
        with named_write_errors(target):
            if self.accelerator.is_main_process:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            self.accelerator.save_state(str(partial))
            with _single_process_is_meant():
                dcp.save(self.average.tensors(), checkpoint_id=partial / AVERAGE, no_dist=_is_alone())
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                self._finish(partial, target, step)

    def _finish(self, partial: Path, target: Path, step: int) -> None:
        record = Record(self.made_from, step, self.batches, self.average.ema.optimization_step)
        write_atomic(partial / RECORD, json.dumps(asdict(record)))
        for file in (place for place in partial.rglob("*") if place.is_file()):
            make_durable(file)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
        self._keep_only(target)

    def _keep_only(self, newest: Path | None) -> None:
        for place in self.folder.glob("*"):
            if place != newest:
                shutil.rmtree(place, ignore_errors=True)

    def resume(self) -> int:
        """Load the newest checkpoint of this run; returns its step, 0 if there is none.

        A checkpoint of another configuration is moved to `former`. ValueError: it belongs to this run, but with another
        number of batches in a step.
        """
        found = [None]
        if self.accelerator.is_main_process:
            self._put_aside()
            found = [self._newest()]
            self._keep_only(found[0])  # a killed process may have left others
        (place,) = broadcast_object_list(found)  # one process looks, so that all load the same
        if place is None:
            return 0
        record = _read(place)
        if record.batches != self.batches:
            raise ValueError(
                f"The checkpoint {place} was made with {record.batches} batches in a step over all processes, but this "
                f"run has {self.batches}. Use the same number of processes or change gradient_accumulation_steps. With "
                "global_batch_size in the recipe the number of processes may change."
            )
        self.accelerator.load_state(str(place))
        with _single_process_is_meant():
            dcp.load(self.average.tensors(), checkpoint_id=place / AVERAGE, no_dist=_is_alone())
        self.average.ema.optimization_step = record.updates
        logger.info("resumed %s at step %d", self.folder.parent.name, record.step)
        return record.step

    def _put_aside(self) -> None:
        place = self._newest()
        if place is None or _read(place).made_from == self.made_from:
            return
        former = self.folder.with_name(FORMER)
        shutil.rmtree(former, ignore_errors=True)
        os.replace(self.folder, former)
        logger.warning(
            "%s: the checkpoint belongs to another configuration or to other networks; it was moved to %s",
            self.folder.parent.name,
            former,
        )

    def _newest(self) -> Path | None:
        return max(self.folder.glob(f"{PREFIX}*"), default=None)


def _read(place: Path) -> Record:
    return Record(**json.loads((place / RECORD).read_text()))


@contextmanager
def _single_process_is_meant() -> Iterator[None]:
    """Silences torch's warning about a distributed checkpoint of a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _is_alone() -> bool:
    return not (torch.distributed.is_available() and torch.distributed.is_initialized())
