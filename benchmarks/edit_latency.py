"""Seconds per stage of an edit: python -m any2pix.benchmarks.edit_latency --repeats 3

A first edit of a picture, and a second one of the same picture with another instruction, where the picture's embedding, its
latent and its inversion are known already. Beside them, in the same run and interleaved: bare calls of the same UNet on tensors
of the same shapes, as many as the stage makes, so that our own time over them shows as a ratio.
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
from torch import Tensor

from ..evaluation.cases import EditCase, draw_cases, encode_references
from ..evaluation.editor import MINIATURE, load_networks, options_from
from ..evaluation.metrics import markdown_table
from ..models.diffusion import default_time_ids
from ..stages.edit import EditOptions, Networks, decode_pictures, encode_pictures, invert_pictures, mix_plan, paint
from ..stages.instruct import instruct
from ..stages.retrieve import retrieve_base
from ..stages.types import References

logger = logging.getLogger(__name__)
UNET_STAGES = ("invert", "sample")  # the VAE's share in both is timed apart and taken off
OWN = "own time over bare calls"  # what a stage takes beyond bare UNet calls and VAE passes, over the bare calls
STAGES = ("encode references", "instruct", "retrieve", "refine and mix", "invert", "sample")


@dataclass(frozen=True)
class Call:
    """The shapes of one UNet call."""

    batch: int
    side: int


@dataclass(frozen=True)
class Known:
    """What a second edit of the same picture finds done."""

    references: References
    inverted: Tensor  # (1, 4, h, w)


class Stopwatch:
    """Seconds by stage, synchronised with the device.

    `busy` is what ratios are made of: on a CPU the seconds this process computed, so that whatever else the machine does
    falls out; on a GPU the same as `seconds`.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.busy: dict[str, float] = defaultdict(float)

    def run(self, stage: str, work: Callable):
        self._wait()
        busy_clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        started, busy_from = time.perf_counter(), busy_clock()
        result = work()
        self._wait()
        self.seconds[stage] += time.perf_counter() - started
        self.busy[stage] += busy_clock() - busy_from
        return result

    def _wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Recorder:
    """Notes the shape of every call of a UNet while it is in use."""

    def __init__(self, unet: torch.nn.Module):
        self.unet = unet
        self.calls: list[Call] = []

    def __enter__(self):
        self.handle = self.unet.register_forward_pre_hook(
            lambda _, given: self.calls.append(Call(given[0].shape[0], given[0].shape[-1]))
        )
        return self

    def __exit__(self, *_):
        self.handle.remove()


@torch.no_grad()
def bare_calls(networks: Networks, calls: list[Call]):
    """The same UNet, called as often on tensors of the same shapes, and nothing else."""
    like = next(networks.diffusion.parameters())
    config = networks.diffusion.unet.config
    pooled = networks.diffusion.projector.dims.pooled
    inputs = {}
    for call in set(calls):
        z = torch.zeros(call.batch, config.in_channels, call.side, call.side, device=like.device, dtype=like.dtype)
        context = z.new_zeros(call.batch, 1, config.cross_attention_dim)
        added = {
            "text_embeds": z.new_zeros(call.batch, pooled),
            "time_ids": default_time_ids(call.batch, 8 * call.side, 8 * call.side).to(z),
        }
        inputs[call] = (z, torch.full((call.batch,), 500, device=like.device), context, added)
    for call in calls:
        z, timesteps, context, added = inputs[call]
        networks.diffusion.unet(z, timesteps, context, added_cond_kwargs=added)


def timed_edit(
    networks: Networks, case: EditCase, instruction: str, options: EditOptions, known: Known | None
) -> tuple[Stopwatch, Known]:
    """One edit by its stages. With `known`, the picture was edited before: only the instruction is new."""
    watch = Stopwatch(next(networks.diffusion.parameters()).device)
    references = (
        known.references
        if known
        else watch.run("encode references", lambda: encode_references(networks.imagebind, case))
    )
    plan = watch.run("instruct", lambda: instruct(networks.llm, references, instruction))
    watch.run("retrieve", lambda: retrieve_base(references, plan.base, plan.mentioned))
    embedding = watch.run("refine and mix", lambda: mix_plan(networks.prior, plan, options))
    base = references[case.sample.base_index]
    own = base.embedding[None]
    inverted = (
        known.inverted
        if known
        else watch.run("invert", lambda: invert_pictures(networks, base.image[None], own, options))
    )
    generator = torch.Generator().manual_seed(0)
    watch.run("sample", lambda: paint(networks, embedding[None], options, inverted, own, generator=generator))
    return watch, Known(references, inverted)


def timed_parts(
    networks: Networks, case: EditCase, known: Known, options: EditOptions
) -> tuple[Stopwatch, Stopwatch, dict[str, int]]:
    """Bare UNet calls and bare VAE passes of both stages, and how many calls each stage makes."""
    base = known.references[case.sample.base_index]
    own = base.embedding[None]
    device = next(networks.diffusion.parameters()).device
    bare, vae, counts = Stopwatch(device), Stopwatch(device), {}
    works = {
        "invert": lambda: invert_pictures(networks, base.image[None], own, options),
        "sample": lambda: paint(networks, own * options.norm, options, known.inverted, own),
    }
    for stage, work in works.items():
        with Recorder(networks.diffusion.unet) as recorder:
            work()
        counts[stage] = len(recorder.calls)
        bare.run(stage, lambda: bare_calls(networks, recorder.calls))
    vae.run("invert", lambda: encode_pictures(networks.vae, base.image[None]))
    vae.run("sample", lambda: decode_pictures(networks.vae, known.inverted))
    return bare, vae, counts


def measure(networks: Networks, options: EditOptions, seed: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds by stage of the first and the second edit, and of the bare parts; the first round only warms up."""
    case = next(case for case in draw_cases(seed, 1, "test", ("atmosphere",)) if case.modality == "audio")
    again = f"redraw {case.sample.references[case.sample.base_index].mark} as an ink drawing"
    runs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for repeat in range(repeats + 1):
        first, known = timed_edit(networks, case, case.sample.instruction, options, None)
        second, _ = timed_edit(networks, case, again, options, known)
        bare, vae, counts = timed_parts(networks, case, known, options)
        for name, watch in (("first edit", first), ("second edit", second), ("bare UNet", bare), ("bare VAE", vae)):
            for stage, seconds in watch.seconds.items():
                if repeat:
                    runs[name][stage].append(seconds)
        if repeat:
            spent = {stage: first.busy[stage] - vae.busy[stage] for stage in UNET_STAGES}
            for stage in UNET_STAGES:
                runs[OWN][stage].append(spent[stage] / bare.busy[stage] - 1)
            runs[OWN]["total"].append(sum(spent.values()) / sum(bare.busy.values()) - 1)
    medians = {
        name: {stage: statistics.median(values) for stage, values in stages.items()} for name, stages in runs.items()
    }
    return {**medians, "UNet calls": counts}


def latency_table(medians: dict[str, dict[str, float]]) -> str:
    """Seconds and ratios in markdown."""
    first, second, bare = (medians[name] for name in ("first edit", "second edit", "bare UNet"))
    own = {stage: f"{100 * share:+.1f} %" for stage, share in medians[OWN].items()}
    rows = []
    for stage in STAGES:
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
    parser.add_argument("--miniature", type=Path, default=MINIATURE, help="folder of the weight files")
    parser.add_argument("--options", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    medians = measure(
        load_networks(arguments.miniature), options_from(arguments.options), arguments.seed, arguments.repeats
    )
    logger.info("%s", latency_table(medians))
    if arguments.json:
        arguments.json.write_text(json.dumps(medians, indent=1) + "\n")


if __name__ == "__main__":
    main()
