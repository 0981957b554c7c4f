"""One training loop for every network of the pack, on accelerate: average of the weights, resume, probes, loss plot.

It runs as one process, under `accelerate launch` on several devices (DDP), or sharded (FSDP version 2).
"""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, send_to_device
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from .average import Average, whole_weights
from .batches import MakeBatch, NumberedBatches, load_batches, numbers_of
from .checkpoints import Checkpoints
from .history import History, plot_losses
from .loop_config import LoopConfig, checkpoint_activations, make_optimizer, make_schedule
from .probe import Probe, measure

logger = logging.getLogger(__name__)

Losses = Callable[[nn.Module, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class Fitted:
    """The trained module on the CPU, with the averaged weights; `probe`: its probe loss, where one was asked for."""

    module: nn.Module
    probe: float | None


def fit(
    name: str,
    module: nn.Module,
    make_batch: MakeBatch,
    loss: Losses,
    config: LoopConfig,
    work: Path,
    made_from: str,
    on_checkpoint: Callable[[nn.Module, int], None] | None = None,
    prepare: Callable[[Any], Any] | None = None,
    probe: Probe | None = None,
) -> Fitted:
    """Train `module`, which is on the CPU, and give it back there with the average of its weights.

    `make_batch(number, generator)` gives a batch as CPU tensors, in tuples, lists or dicts. Number and generator are
    all it may depend on: it runs in `config.workers` processes of its own, and the batches of a step are consecutive
    numbers, shared out over processes and accumulated parts. So a run that is stopped and resumed, or that has other
    processes, sees the same samples. `prepare(batch)`, in the training's process, is for what needs the device, such
    as encoding pictures. `loss(module, batch)` returns "loss" and whatever else is logged.

    `made_from`: a digest of everything the run depends on (`digests.fingerprint`); a checkpoint with another digest is
    put aside. `work/name/` holds checkpoints/, log.jsonl, probe.jsonl and loss.png. Every `checkpoint_every` steps the
    state is saved, `probe` is measured with the averaged weights, and the main process calls `on_checkpoint` with
    them on the CPU, in a separate thread while training goes on. The same happens once more at the end, even if the
    training was already finished.

    FloatingPointError: the loss or its gradient is not finite in any process; then all of them stop.
    """
    return _Training(name, module, make_batch, loss, config, work, made_from, on_checkpoint, prepare, probe).run()


class _Objective(nn.Module):
    """The loss as a forward pass, so that parallel wrappers see every gradient."""

    def __init__(self, module: nn.Module, loss: Losses):
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.loss(self.module, batch)


class _Training:
    """A run of `fit`. The caller's module stays on the CPU; what is trained is a copy of it."""

    def __init__(self, name, module, make_batch, loss, config, work, made_from, on_checkpoint, prepare, probe):
        self.name, self.module, self.config = name, module, config
        self.on_checkpoint, self.prepare, self.probe = on_checkpoint, prepare or (lambda batch: batch), probe
        self.folder = Path(work) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision)
        _require_supported(self.accelerator)
        self.accumulated = config.accumulated(self.accelerator.num_processes)
        self.accelerator.gradient_accumulation_steps = self.accumulated  # by which backward divides
        self._build(loss)
        batches = self.accumulated * self.accelerator.num_processes
        self.checkpoints = Checkpoints(self.folder, self.accelerator, self.average, made_from, batches)
        self.start = self.checkpoints.resume()
        self.batches = NumberedBatches(make_batch, config.seed)
        self.history = History(self.folder / "log.jsonl", self.start)
        self.probes = History(self.folder / "probe.jsonl", self.start + 1)
        self.writer, self.writing = ThreadPoolExecutor(1, f"{name} writer"), list[Future]()

    def _build(self, loss: Losses) -> None:
        """The copy on the device, its optimiser, schedule and average."""
        config, device = self.config, self.accelerator.device
        objective = _Objective(copy.deepcopy(self.module), loss)
        if config.gradient_checkpointing:
            checkpoint_activations(objective.module)
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        sharded = self.accelerator.distributed_type == DistributedType.FSDP
        objective.to(device if not sharded else "cpu")
        optimizer = make_optimizer(config, trained, fused=not sharded)
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.schedule = make_schedule(config, optimizer)
        self.accelerator.register_for_checkpointing(self.schedule)
        self.average = Average(self.accelerator.unwrap_model(self.objective), config.ema_decay)

    def run(self) -> Fitted:
        """Train to the end and return what `fit` does."""
        config, main = self.config, self.accelerator.is_main_process
        steps = range(self.start, config.steps)
        self.module.eval()
        self.objective.train()
        bar = tqdm(
            steps, initial=self.start, total=config.steps, desc=self.name, mininterval=5, disable=not main
        )  # fmt: skip
        batches = self._batches(steps)
        for step in bar:
            self.history.add(step, self._step(step, batches))
            if step + 1 == config.steps or (step + 1) % config.checkpoint_every == 0:
                if main:
                    self.history.write()  # a resumed run drops what lies past its checkpoint
                self.checkpoints.save(step + 1)
                if main:
                    recent = {key: f"{value:.4f}" for key, value in self.history.recent().items()}
                    bar.set_postfix(recent, refresh=False)
                    self._beside(plot_losses, list(self.history.rows), self.folder / "loss.png", self.name)
                if step + 1 < config.steps:
                    self._snapshot(step + 1)
        return self._finish()

    def _batches(self, steps: range) -> Iterator[Any]:
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        numbers = numbers_of(process, processes, self.accumulated, steps)
        return iter(load_batches(self.batches, numbers, self.config.workers, self.accelerator.device))

    def _step(self, step: int, batches: Iterator[Any]) -> dict[str, float]:
        """One step of the optimiser; the losses over all its batches in all processes, and how the step was taken."""
        found = []
        for part in range(self.accumulated):
            batch = send_to_device(self.prepare(next(batches)), self.accelerator.device)
            last = part + 1 == self.accumulated
            with_gradients = nullcontext() if last else self.accelerator.no_sync(self.objective)
            with with_gradients, _attention(self.accelerator.device):  # of what is computed a second time, too
                with self.accelerator.autocast():
                    losses = self.objective(batch)
                self.accelerator.backward(losses["loss"])
            found.append(torch.stack([value.detach().float() for value in losses.values()]))
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.grad_clip)
        norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        means = self.accelerator.reduce(torch.stack(found).mean(0), "mean").tolist()
        values = dict(zip(losses, means, strict=True))
        self._require_finite(step, values["loss"], norm)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:  # fp16 skips the steps in which a gradient overflows
            self.schedule.step()
            self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        return {**values, "learning_rate": rate, "gradient_norm": norm}

    def _require_finite(self, step: int, loss: float, norm: float) -> None:
        """Both numbers are the same in all processes, so all of them stop, before the weights are touched."""
        if not math.isfinite(loss):
            raise FloatingPointError(f"{self.name}: the loss is {loss} at step {step}; lower the learning rate.")
        if not math.isfinite(norm) and self.config.mixed_precision != "fp16":
            raise FloatingPointError(
                f"{self.name}: the gradient's norm is {norm} at step {step}; lower the learning rate."
            )

    def _snapshot(self, step: int) -> None:
        """Measure the probe and hand the averaged weights to `on_checkpoint`, which works beside the training."""
        main = self.accelerator.is_main_process
        with self.average.applied():
            self._measure(step)
            if self.on_checkpoint is not None:
                weights = whole_weights(self.accelerator.unwrap_model(self.objective).module, keep=main)
        if self.on_checkpoint is not None and main:
            self._wait()  # the writer may still read the module
            self.module.load_state_dict(weights)
            self._beside(self.on_checkpoint, self.module, step)

    def _beside(self, work: Callable, *arguments: Any) -> None:
        """Run this in the writer's thread, after what is queued there."""
        self.writing.append(self.writer.submit(work, *arguments))

    def _wait(self) -> None:
        """Wait for the writer's thread; raises what it raised."""
        while self.writing:
            self.writing.pop(0).result()

    def _measure(self, step: int) -> float | None:
        if self.probe is None:
            return None
        with self.accelerator.autocast(), _attention(self.accelerator.device):
            found = measure(self.probe, self.objective, self.accelerator, self.prepare)
        if self.accelerator.is_main_process:
            logger.info("step %d: probe loss %.4f", step, found)
            if step not in (row["step"] for row in self.probes.rows[-1:]):  # a run that was already finished
                self.probes.add(step, {self.probe.value: found})
            self.probes.write()
        return found

    def _finish(self) -> Fitted:
        self._wait()
        self.writer.shutdown()
        with self.average.applied():
            probe = self._measure(self.config.steps)
            self.module.load_state_dict(
                whole_weights(self.accelerator.unwrap_model(self.objective).module, keep=True)
            )  # fmt: skip
        if self.on_checkpoint is not None and self.accelerator.is_main_process:
            self.on_checkpoint(self.module, self.config.steps)
        if self.accelerator.device.type != "cpu":  # it collects garbage, which takes a second
            self.objective, self.optimizer = self.accelerator.free_memory(self.objective, self.optimizer)
        return Fitted(self.module, probe)


def _require_supported(accelerator: Accelerator) -> None:
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError(
            "accelerate is set to FSDP version 1; this training shards with version 2. Set fsdp_version: 2 in the "
            "configuration of accelerate (accelerate config)."
        )


def _attention(device: torch.device) -> AbstractContextManager:
    """torch's default attention; on a CPU its plain form, because the backward pass of the flash kernel takes about a
    quarter of a step of the miniature's UNets there."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
