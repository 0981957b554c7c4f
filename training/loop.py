"""One training loop for every network of the pack, on accelerate: EMA, resume, progress bar, loss plot."""

import copy
import json
import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from ..loading.atomic import atomic_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train; one YAML section each.

    `steps` optimiser steps of `batch_size` samples; the learning rate rises linearly over `warmup` steps and falls
    along a cosine to `final_lr_share` of its peak at the last step. `gradient_accumulation_steps` batches make one
    step: the same as one batch of so many times the samples, in the memory of one.
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

    def __post_init__(self):
        for name in ("steps", "batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1.")
        if self.checkpoint_every < 1 or not 0 <= self.ema_decay < 1:
            raise ValueError(
                f"checkpoint_every ({self.checkpoint_every}) must be at least 1, ema_decay ({self.ema_decay}) from 0 "
                f"to below 1."
            )
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            raise ValueError(f'mixed_precision is "{self.mixed_precision}"; it must be "no", "bf16" or "fp16".')

    def lr_share(self, step: int) -> float:
        """Share of the peak learning rate at `step` (0-based)."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final_lr_share + (1 - self.final_lr_share) * 0.5 * (1 + math.cos(math.pi * progress))


class _Objective(nn.Module):
    """The loss as a forward pass, so that data-parallel wrappers see every gradient."""

    def __init__(self, module: nn.Module, loss: Callable[[nn.Module, object], dict[str, Tensor]]):
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, batch) -> dict[str, Tensor]:
        return self.loss(self.module, batch)


class Ema:
    """Exponential moving average of what is trained of a module, with the usual short memory in the first steps."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int):
        decay = min(self.decay, (1 + step) / (10 + step))
        trained = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.shadow.values()), [trained[name].detach() for name in self.shadow], 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module):
        trained = dict(module.named_parameters())
        for name, average in self.shadow.items():
            trained[name].copy_(average)


def fit(
    name: str,
    module: nn.Module,
    make_batch: Callable[[int, torch.Generator], object],
    loss: Callable[[nn.Module, object], dict[str, Tensor]],
    config: LoopConfig,
    work: Path,
    made_from: str,
    on_checkpoint: Callable[[nn.Module, int], None] | None = None,
) -> nn.Module:
    """Train `module` on accelerate's device and return it on the CPU, with its EMA weights.

    `make_batch(step, generator)` gives the batch of a step as CPU tensors (in tuples, lists, dicts, or an object with
    `.to(device)`); its generator is seeded by (seed, process, step), so a run that is stopped and resumed sees the same
    batches. With gradients accumulated over n batches, their numbers are n * step, n * step + 1 and so on. `made_from`
    stands for everything that the run depends on (`command.fingerprint`): a checkpoint of another one is put aside as
    former.pt, and training starts anew. `loss(module, batch)` returns a dict with "loss" and whatever else should be
    logged. State lives in `work/name/`: state.pt (resume), log.jsonl, loss.png. `on_checkpoint` is called by the main
    process with the EMA weights on the CPU, every `checkpoint_every` steps and at the end, also where a run finds its
    training done.
    """
    folder = Path(work) / name
    folder.mkdir(parents=True, exist_ok=True)
    batches = config.gradient_accumulation_steps
    accelerator = Accelerator(mixed_precision=config.mixed_precision, gradient_accumulation_steps=batches)
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, config.lr_share)
    state_file = folder / "state.pt"
    module.to(accelerator.device)
    ema = Ema(module, config.ema_decay)
    with accelerator.main_process_first():  # it puts aside what belongs to another run
        start = _resume(state_file, made_from, module, optimizer, scheduler, ema)
    objective, optimizer = accelerator.prepare(_Objective(module, loss), optimizer)
    history = _History(folder / "log.jsonl", start)
    module.train()
    bar = tqdm(
        range(start, config.steps),
        initial=start,
        total=config.steps,
        desc=name,
        mininterval=5,
        disable=not accelerator.is_main_process,
    )
    for step in bar:
        values: dict[str, float] = {}
        for number in range(step * batches, (step + 1) * batches):
            generator = torch.Generator().manual_seed(hash((config.seed, accelerator.process_index, number)) % 2**63)
            batch = send_to_device(make_batch(number, generator), accelerator.device)
            with accelerator.accumulate(objective):
                with accelerator.autocast(), _attention(accelerator.device):
                    losses = objective(batch)
                accelerator.backward(losses["loss"])
            for key, value in losses.items():
                values[key] = values.get(key, 0.0) + float(value.detach()) / batches
        accelerator.clip_grad_norm_(trainable, config.grad_clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(module, step)
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(f"{name}: the loss is {values['loss']} at step {step}; lower the learning rate.")
        history.add(step, values)
        last = step + 1 == config.steps
        if accelerator.is_main_process and (last or (step + 1) % config.checkpoint_every == 0):
            bar.set_postfix({key: f"{value:.4f}" for key, value in history.recent().items()}, refresh=False)
            _save(state_file, made_from, step + 1, module, optimizer, scheduler, ema)
            history.write(folder / "loss.png", name)
            if on_checkpoint is not None and not last:
                snapshot = copy.deepcopy(module).cpu().eval()
                ema.copy_to(snapshot)
                on_checkpoint(snapshot, step + 1)
    ema.copy_to(module)
    trained = module.cpu().eval()
    if on_checkpoint is not None and accelerator.is_main_process:
        on_checkpoint(trained, config.steps)
    return trained


def _attention(device: torch.device) -> AbstractContextManager:
    """torch's choice of attention, but on a CPU its plain form: the backward pass of the flash kernel takes about a
    quarter of a step of the miniature's UNets there."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _save(path: Path, made_from: str, step: int, module, optimizer, scheduler, ema: Ema):
    state = {
        "made_from": made_from,
        "step": step,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "ema": ema.shadow,
    }
    with atomic_path(path) as unfinished:
        torch.save(state, unfinished)


def _resume(path: Path, made_from: str, module, optimizer, scheduler, ema: Ema) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("made_from") != made_from:
        path.replace(path.with_name("former.pt"))
        logger.warning(
            "%s: the checkpoint belongs to another configuration or to other networks; it is former.pt now",
            path.parent.name,
        )
        return 0
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    ema.shadow = {key: value.to(ema.shadow[key]) for key, value in state["ema"].items()}
    logger.info("resumed %s at step %d", path.parent.name, state["step"])
    return state["step"]


class _History:
    """Losses by step, appended to a JSON-lines file; what a stopped run wrote past its checkpoint is dropped."""

    def __init__(self, path: Path, start: int):
        self.path = path
        self.rows: list[dict] = []
        if start and path.exists():
            self.rows = [row for row in map(json.loads, path.read_text().splitlines()) if row["step"] < start]
        self.written = 0

    def add(self, step: int, values: dict[str, float]):
        self.rows.append({"step": step, **values})

    def recent(self, count: int = 50) -> dict[str, float]:
        tail = self.rows[-count:]
        return {key: sum(row.get(key, 0.0) for row in tail) / len(tail) for key in tail[-1] if key != "step"}

    def write(self, plot: Path, title: str):
        with open(self.path, "w" if self.written == 0 else "a") as file:
            for row in self.rows[self.written :]:
                file.write(json.dumps(row) + "\n")
        self.written = len(self.rows)
        plot_losses(self.rows, plot, title)


def plot_losses(rows: list[dict], path: Path, title: str):
    """One curve a loss, each a running mean over 2 % of the run, on a log axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    window = max(1, len(rows) // 50)
    for key in (key for key in rows[-1] if key != "step"):
        values = torch.tensor([row.get(key, float("nan")) for row in rows])
        smooth = values.unfold(0, window, 1).mean(-1)
        axes.plot([row["step"] for row in rows[window - 1 :]], smooth.clamp_min(1e-6), label=key, linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
