"""A small training in processes of its own, for tests of several processes and of kills."""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from any2pix.training.loop import fit
from any2pix.training.loop_config import LoopConfig
from any2pix.training.probe import Probe
from torch import nn

SECONDS = 120  # a run may take
# The server imports once, and a run is a fork of it: the imports take longer than a run.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["toy_run", "diffusers.training_utils", "transformers.optimization"])


@dataclass(frozen=True)
class Run:
    """How a run ended: the exit codes of its processes, what they wrote, and what those that finished found."""

    codes: tuple[int, ...]
    outputs: tuple[str, ...]
    found: tuple[dict, ...]


def run(place: Path, processes: int = 1, **options) -> Run:
    """`train_toy` in so many processes, to its end."""
    place.mkdir(parents=True, exist_ok=True)
    results = [place / f"result.{rank}" for rank in range(processes)]
    for file in results:
        file.unlink(missing_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [SERVER.Process(target=_enter, args=(place, rank, processes, port, options)) for rank in range(processes)]
    with _without_comfyui():
        for process in started:
            process.start()
    for process in started:
        process.join(SECONDS)
        process.kill()
        process.join()
    outputs = tuple((place / f"output.{rank}").read_text() for rank in range(processes))
    found = tuple(torch.load(file, weights_only=True) for file in results if file.exists())
    return Run(tuple(process.exitcode for process in started), outputs, found)


@contextmanager
def _without_comfyui() -> Iterator[None]:
    """Where the pack finds ComfyUI it imports its nodes. The tests of the nodes put ComfyUI on sys.path."""
    paths = sys.path[:]
    sys.path[:] = [path for path in paths if not (Path(path) / "comfy_api").is_dir()]
    try:
        yield
    finally:
        sys.path[:] = paths


def _enter(place: Path, rank: int, processes: int, port: int, options: dict) -> None:
    """A process of a run, as `accelerate launch` would have started it."""
    os.environ |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    output = os.open(place / f"output.{rank}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    try:
        train_toy(place, place / f"result.{rank}", dict(options))
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # at once, as a process that dies: what the others wait for does not come
    os._exit(0)


class Toy(nn.Module):
    """A frozen layer, a body with dropout, and a last layer. Sharded, the body is a unit, the others are the root's."""

    def __init__(self, dropout: float):
        super().__init__()
        self.frozen = nn.Linear(3, 16).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Dropout(dropout))
        self.last = nn.Linear(16, 1)

    def forward(self, x):
        return self.last(self.body(self.frozen(x)))


def shard_on_cpu() -> None:
    """accelerate shards on accelerators alone; FSDP itself runs over gloo as well."""
    Accelerator()
    AcceleratorState().fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="TRANSFORMER_BASED_WRAP",
        transformer_cls_names_to_wrap=["Sequential"],
        cpu_ram_efficient_loading=False,
    )
    for state in (PartialState, AcceleratorState):
        state._shared_state["distributed_type"] = DistributedType.FSDP


def samples(generator: torch.Generator):
    x = torch.randn((4, 3), generator=generator)
    return {"x": x, "y": x @ torch.tensor([[1.0], [-2.0], [0.5]])}


def train_toy(place: Path, result: Path, given: dict) -> None:
    """Options: those of LoopConfig, and `dropout`, `fsdp`, `nan_at`, `kill_at` (a step), `kill_in` ("batch",
    "save": while a checkpoint is being written)."""
    dropout, fsdp, nan_at, kill_at, kill_in = (
        given.pop(name, default)
        for name, default in (("dropout", 0.0), ("fsdp", False), ("nan_at", None), ("kill_at", None), ("kill_in", ""))
    )
    if fsdp:
        shard_on_cpu()
    config = LoopConfig(batch_size=4, learning_rate=0.02, warmup=2, ema_decay=0.9, **given)

    def make_batch(number, generator):
        if kill_in == "batch" and number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = samples(generator)
        return {**batch, "broken": torch.tensor(float("nan") if number == nan_at else 0.0)}

    def loss(module, batch):
        error = (module(batch["x"]) - batch["y"]).square().mean()
        return {"loss": error + batch.get("broken", 0.0), "mse": error}

    if kill_in == "save":
        plain = Accelerator.save_state

        def save_and_die(self, folder):
            plain(self, folder)
            if f"{kill_at:08d}" in folder:
                os.kill(os.getpid(), signal.SIGKILL)

        Accelerator.save_state = save_and_die
    probe = Probe(12, 4, lambda start, stop: samples(torch.Generator().manual_seed(start)))
    torch.manual_seed(0)
    fitted = fit("toy", Toy(dropout), make_batch, loss, config, place / "work", "one", probe=probe)
    torch.save({"weights": fitted.module.state_dict(), "probe": fitted.probe}, result)
