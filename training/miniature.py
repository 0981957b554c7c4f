"""Train the whole miniature, in order, skipping what is done: python -m any2pix.training.miniature [--work DIR] [--out
DIR] [--only NAME ...].

About four and a half hours on two CPU cores, minutes on a GPU. The networks of one row need only those of the rows
above, so a row's are trained side by side when `--jobs` is 2 (one thread each is the fastest way to use two cores).
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..loading.atomic import write_atomic
from ..miniature import manifest
from .command import WORK
from .digests import file_digest
from .recipe_files import load_recipe


@dataclass(frozen=True)
class Stage:
    """One training script `train_<name>`, the file it leaves, and the networks it builds on."""

    name: str
    file: str
    needs: tuple[str, ...] = ()

    def inputs(self, out: Path) -> dict[str, str]:
        """The digests of the networks it builds on, by file."""
        return {name: file_digest(out / name) for name in self.needs if (out / name).is_file()}


ROWS = (
    (Stage("autoencoder", manifest.VAE), Stage("imagebind", manifest.IMAGEBIND)),
    (
        Stage("diffusion", manifest.UNET, (manifest.VAE, manifest.IMAGEBIND)),
        Stage("llm", manifest.LLM, (manifest.IMAGEBIND,)),
        Stage("text_diffusion", manifest.TEXT_UNET, (manifest.VAE,)),
    ),
    (
        Stage(
            "instructpix2pix",
            manifest.PIX2PIX,
            (manifest.VAE, manifest.TEXT_UNET, manifest.TEXT_ENCODER),
        ),
        Stage("prior", manifest.PRIOR, (manifest.IMAGEBIND,)),
        Stage("judge", manifest.JUDGE),
    ),
)
STAGES = tuple(stage for row in ROWS for stage in row)


def is_done(stage: Stage, out: Path) -> bool:
    """A stage is done when its file is there and was made with the same configuration from the same networks."""
    record = read_results(out).get(stage.name)
    if not record or not (out / stage.file).is_file():
        return False
    return record["config"] == load_recipe(stage.name) and record["inputs"] == stage.inputs(out)


def read_results(out: Path) -> dict:
    """What each finished stage reported, by name."""
    path = out / manifest.TRAINING
    return json.loads(path.read_text()) if path.is_file() else {}


def run_stage(stage: Stage, work: Path, out: Path, threads: int) -> dict:
    """Run one training script to its end in a process of its own; its log goes to work/<name>.log."""
    package = __package__.removesuffix(".training")
    command = [sys.executable, "-m", f"{package}.training.train_{stage.name}", "--work", str(work), "--out", str(out)]
    started = time.monotonic()
    print(f"{stage.name}: training, see {work / stage.name}.log", flush=True)
    with open(work / f"{stage.name}.log", "a") as log:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
    if done.returncode:
        raise RuntimeError(
            f"Training {stage.name} ended with code {done.returncode}; the reason is at the end of "
            f"{work / stage.name}.log."
        )
    results = json.loads(done.stdout)
    minutes = (time.monotonic() - started) / 60
    print(f"{stage.name}: {minutes:.1f} min, {results}", flush=True)
    return {
        "results": results,
        "minutes": round(minutes, 1),
        "config": load_recipe(stage.name),
        "inputs": stage.inputs(out),
    }


def write_result(stage: Stage, record: dict, out: Path):
    write_atomic(out / manifest.TRAINING, json.dumps({**read_results(out), stage.name: record}, indent=2) + "\n")


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=WORK, help="checkpoints and caches (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=manifest.FOLDER, help="folder for the weights (default: %(default)s)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[stage.name for stage in STAGES], help="train these even if they are done"
    )
    parser.add_argument("--jobs", type=int, default=2, help="networks to train side by side (default: %(default)s)")
    arguments = parser.parse_args(argv)
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    writing = threading.Lock()

    def train_stage(stage: Stage):
        record = run_stage(stage, arguments.work, arguments.out, threads)
        with writing:
            write_result(stage, record, arguments.out)

    for row in ROWS:
        wanted = [
            stage
            for stage in row
            if (stage.name in arguments.only if arguments.only else not is_done(stage, arguments.out))
        ]
        if not wanted:
            continue
        with ThreadPoolExecutor(arguments.jobs) as pool:
            running = [pool.submit(train_stage, stage) for stage in wanted]
        for future in running:
            future.result()
    print(f"The miniature is complete in {arguments.out}.")


if __name__ == "__main__":
    main()
