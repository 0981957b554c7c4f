"""Seconds per stage of an edit: python -m any2pix.benchmarks.edit_latency --repeats 3

A first edit of a picture, and a second one of the same picture with another instruction, where the picture's embedding,
its latent and its inversion are known already. Beside them, of the same edit: the seconds within the UNet's own calls,
so that our own time beyond them and the VAE shows as a ratio.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..evaluation.case import Case
from ..evaluation.checkpoint import load_networks
from ..evaluation.datasets import Draw, load_cases
from ..evaluation.options import options_from
from ..evaluation.rates import markdown_table
from ..miniature import manifest
from ..stages.any2pix.options import EditOptions
from ..stages.any2pix.pipeline import (
    STEPS,
    EditJob,
    InvertedPicture,
    Networks,
    invert_edits,
    mix_edits,
    paint_edits,
    plan_edits,
)
from ..stages.types import References

logger = logging.getLogger(__name__)
UNET_STAGES = ("invert", "paint")
OWN = "own time over bare calls"  # what a stage takes beyond bare UNet calls and VAE passes, over the bare calls


@dataclass(frozen=True)
class Known:
    """What a second edit of the same picture finds done."""

    references: References
    inverted: InvertedPicture


class Stopwatch:
    """Seconds by stage, synchronised with the device.

    `busy` is what ratios are made of: on a CPU the processor seconds of this process, so that other load on the machine
    does not count; on a GPU the same as `seconds`.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.busy: dict[str, float] = defaultdict(float)

    def run(self, stage: str, work: Callable):
        started = self.now()
        result = work()
        self.add(stage, started)
        return result

    def now(self) -> tuple[float, float]:
        """Wall-clock and processor seconds, once the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        passed = time.perf_counter()
        return passed, time.process_time() if self.device.type == "cpu" else passed

    def add(self, stage: str, started: tuple[float, float]) -> None:
        """Count what went by since then."""
        for counted, before, after in zip((self.seconds, self.busy), started, self.now(), strict=True):
            counted[stage] += after - before


class Inside:
    """Seconds that some modules take while a stage runs, and how often they are called."""

    def __init__(self, watch: Stopwatch, stage: str, *modules: torch.nn.Module):
        self.watch, self.stage, self.modules = watch, stage, modules
        self.calls = 0

    def __enter__(self):
        self.handles = [module.register_forward_pre_hook(self._start) for module in self.modules]
        self.handles += [module.register_forward_hook(self._stop) for module in self.modules]
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def _start(self, *_):
        self.calls += 1
        self.started = self.watch.now()

    def _stop(self, *_):
        self.watch.add(self.stage, self.started)


@dataclass(frozen=True)
class Timed:
    """One edit: its stages, and within them the UNet, the VAE, and how many calls of the UNet each stage made."""

    stages: Stopwatch
    unet: Stopwatch
    vae: Stopwatch
    calls: dict[str, int]


def timed_edit(
    networks: Networks, case: Case, instruction: str, options: EditOptions, known: Known | None
) -> tuple[Timed, Known]:
    """One edit by its steps. With `known`, the picture was edited before: only the instruction is new."""
    device = next(networks.diffusion.parameters()).device
    timed = Timed(Stopwatch(device), Stopwatch(device), Stopwatch(device), {})
    vae = networks.vae

    def hook(step: str, work: Callable):
        unet_clock = Inside(timed.unet, step, networks.diffusion.unet)
        with unet_clock, Inside(timed.vae, step, vae.encoder, vae.decoder):
            result = timed.stages.run(step, work)
        if unet_clock.calls:
            timed.calls[step] = unet_clock.calls
        return result

    job = EditJob(instruction, case.references, known.references if known else None)
    planned = plan_edits(networks, [job], options, hook)[0]
    embeddings = mix_edits(networks, [planned], options, hook)
    (inverted,) = [known.inverted] if known else invert_edits(networks, [planned], options, hook)
    paint_edits(networks, [planned], embeddings, [inverted], options, hook)
    return timed, Known(planned.references, inverted)


def measure(networks: Networks, options: EditOptions, seed: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds by stage of the first and the second edit, and of the bare parts; the first round only warms
    up."""
    drawn = load_cases("toyland", Draw("seen", seed, 1, ("atmosphere",)))
    case = next(case for case in drawn if case.tags["given_as"] == "audio")
    again = f"redraw {case.marks()[case.base]} as an ink drawing"
    runs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for repeat in range(repeats + 1):
        first, known = timed_edit(networks, case, case.instruction, options, None)
        second, _ = timed_edit(networks, case, again, options, known)
        if not repeat:
            continue
        watches = (first.stages, second.stages, first.unet, first.vae)
        for name, watch in zip(("first edit", "second edit", "bare UNet", "bare VAE"), watches, strict=True):
            for stage, seconds in watch.seconds.items():
                runs[name][stage].append(seconds)
        unet = first.unet.busy
        own = {stage: first.stages.busy[stage] - unet[stage] for stage in UNET_STAGES}
        for stage in UNET_STAGES:
            runs[OWN][stage].append(own[stage] / unet[stage])
        runs[OWN]["total"].append(sum(own.values()) / sum(unet.values()))
    medians = {
        name: {stage: statistics.median(values) for stage, values in stages.items()} for name, stages in runs.items()
    }
    return {**medians, "UNet calls": first.calls}


def latency_table(medians: dict[str, dict[str, float]]) -> str:
    """Seconds and ratios in markdown."""
    first, second, bare = (medians[name] for name in ("first edit", "second edit", "bare UNet"))
    own = {stage: f"{100 * share:+.1f} %" for stage, share in medians[OWN].items()}
    rows = []
    for stage in STEPS:
        seconds = [f"{edit[stage]:.3f}" if stage in edit else "known" for edit in (first, second)]
        calls = f"{bare[stage]:.3f} ({medians['UNet calls'][stage]} calls)" if stage in bare else ""
        rows.append((stage, *seconds, calls, own.get(stage, "")))
    totals = [sum(edit.values()) for edit in (first, second)]
    again = f"{totals[1]:.3f} ({totals[1] / totals[0]:.2f} of the first)"
    rows.append(("total", f"{totals[0]:.3f}", again, f"{sum(bare.values()):.3f}", own["total"]))
    return markdown_table(
        ("stage", "first edit, s", "second edit, s", "bare UNet calls, s", "our own time over them"), rows
    )


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--miniature", type=Path, default=manifest.FOLDER, help="folder of the weight files")
    parser.add_argument("--options", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    medians = measure(
        load_networks(arguments.miniature),
        options_from(arguments.options, EditOptions()),
        arguments.seed,
        arguments.repeats,
    )
    logger.info("%s", latency_table(medians))
    if arguments.json:
        arguments.json.write_text(json.dumps(medians, indent=1) + "\n")


if __name__ == "__main__":
    main()
