"""How exactly inversion and sampling reconstruct a picture: python -m any2pix.evaluation.inversion --seed 1 --samples 4
--json FILE --plot FILE

Four ways to invert, each followed by sampling with the same noise levels, the same embedding and the same guidance:
the fixed point with the pack's defaults, the plain DDIM inversion of the released code, and a stock euler sampler on
flipped sigmas ("unsampling"), all followed by euler; and O-BELM, followed by its own rule. The ceiling is the
autoencoder's own round trip. `--split validation` is for choosing.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datagen.toyland import sample_scene
from ..stages.any2pix.options import BELM, EditOptions
from ..stages.any2pix.pipeline import Networks
from ..stages.belm import belm_invert, sample_belm
from ..stages.denoiser import GuidedDenoiser
from ..stages.invert import PLAIN_ITERATIONS, InversionOptions, ddim_invert
from ..stages.latents import decode_pictures, encode_pictures
from ..stages.length import to_length
from ..stages.preprocess import image_to_tensor
from ..stages.sample import SCHEDULES, sample_euler, schedule
from .cases import SPLITS, VALIDATION_STREAM, picture_of
from .checkpoint import Checkpoint, add_checkpoint
from .findings import rates_of
from .metrics.fidelity import psnr
from .rates import Rate, markdown_table

logger = logging.getLogger(__name__)
STEPS = (5, 10, 20, 50)
USUAL_STEPS = 20  # at which every scheduler is compared
CURVES = ("normal", "karras")  # schedulers over all of STEPS
CFGS = (1.0, 5.0)
FLIPPED_START = 1e-4  # stock FlipSigmas puts it in the place of 0, where euler cannot be
HELD_OUT_PICTURES, VALIDATION_PICTURES = 77, 78  # of the streams of the pictures

Inversion = Callable[[GuidedDenoiser, Tensor, Tensor], tuple[Tensor, Tensor | None]]  # the second: for O-BELM's sampler


@dataclass(frozen=True)
class Source:
    """Pictures (N, H, W, 3) in [0, 1], their latents (N, 4, h, w), embeddings (N, D) and round-trip PSNR (N,) in dB."""

    pictures: Tensor
    latents: Tensor
    embeddings: Tensor
    ceiling: Tensor


@dataclass(frozen=True)
class Measured:
    """One way with one setting. `loss`: PSNR below the round trip, dB; `error`: relative L2 of the latent."""

    scheduler: str
    steps: int
    cfg: float
    way: str
    psnr: Rate
    loss: Rate
    error: Rate
    calls: float  # of the network, a step

    def to_dict(self) -> dict:
        rates = {name: getattr(self, name).to_dict() for name in ("psnr", "loss", "error")}
        setting = {"scheduler": self.scheduler, "steps": self.steps, "cfg": self.cfg, "way": self.way}
        return {**setting, **rates, "calls a step": round(self.calls, 3)}


def invert_flipped(model: GuidedDenoiser, x: Tensor, rising: Tensor) -> tuple[Tensor, None]:
    """A stock euler sampler on flipped sigmas: each step uses the noise predicted at its lower end."""
    return sample_euler(model, x, torch.cat([rising.new_tensor([FLIPPED_START]), rising[1:]])), None


def ways(options: InversionOptions) -> dict[str, Inversion]:
    def solving(iterations: int) -> Inversion:
        def invert(model: GuidedDenoiser, x: Tensor, rising: Tensor) -> tuple[Tensor, None]:
            return ddim_invert(model, x, rising, iterations=iterations, tolerance=options.tolerance), None

        return invert

    return {
        "fixed point": solving(options.iterations),
        "plain DDIM": solving(PLAIN_ITERATIONS),
        "flipped sigmas": invert_flipped,
        BELM: belm_invert,
    }


def load_source(networks: Networks, seed: int, count: int, split: str = "test") -> Source:
    """Held-out pictures of Toyland, or with split "validation" others, as the networks see them."""
    held_out = split == "test"
    rng = np.random.default_rng(
        (seed, HELD_OUT_PICTURES) if held_out else (VALIDATION_STREAM, seed, VALIDATION_PICTURES)
    )
    pictures = torch.stack([picture_of(sample_scene(rng, "test" if held_out else "train")) for _ in range(count)])
    latents = encode_pictures(networks.vae, pictures)
    with torch.no_grad():
        shown = image_to_tensor(pictures, networks.imagebind.dims.image_size).to(latents.device)
        own = networks.imagebind.encode_image(shown)
    ceiling = psnr(decode_pictures(networks.vae, latents).cpu(), pictures)
    return Source(pictures, latents, to_length(own, EditOptions().norm), ceiling)


def measure(
    networks: Networks, source: Source, way: str, invert: Inversion, scheduler: str, steps: int, cfg: float
) -> Measured:
    """Invert, sample back, compare."""
    sigmas = schedule(scheduler, steps, networks.backbone).to(source.latents)
    denoiser = GuidedDenoiser(networks.diffusion, source.embeddings, guidance=cfg)
    start, below = (x if x is None else x.to(sigmas) for x in invert(denoiser, source.latents, sigmas.flip(0)))
    calls = denoiser.calls / (len(sigmas) - 1)
    back = sample_euler(denoiser, start, sigmas) if below is None else sample_belm(denoiser, start, sigmas, below=below)
    found = psnr(decode_pictures(networks.vae, back).cpu(), source.pictures)
    error = (back - source.latents).flatten(1).norm(dim=1) / source.latents.flatten(1).norm(dim=1)
    rates = (Rate.of(values.tolist()) for values in (found, source.ceiling - found, error))
    measured = Measured(scheduler, steps, cfg, way, *rates, calls)
    logger.info("%s, %d steps, cfg %g, %s: %.2f dB", scheduler, steps, cfg, way, measured.psnr.mean)
    return measured


def settings(schedulers: Sequence[str], cfgs: Sequence[float]) -> list[tuple[str, int, float]]:
    """The curves over the steps for every guidance; the other schedulers at the usual steps and the first guidance."""
    usual = [(name, USUAL_STEPS, cfgs[0]) for name in schedulers if name not in CURVES]
    curves = [[(name, steps, cfg) for name in schedulers if name in CURVES for steps in STEPS] for cfg in cfgs]
    return [*curves[0], *usual, *(setting for curve in curves[1:] for setting in curve)]


def measured_of(record: dict) -> list[Measured]:
    """The rows of a JSON file of this module."""
    settings_and_way = ("scheduler", "steps", "cfg", "way")
    rows = []
    for row in record["inversions"]:
        rates = rates_of({name: row[name] for name in ("psnr", "loss", "error")})
        rows.append(Measured(**{name: row[name] for name in settings_and_way}, **rates, calls=row["calls a step"]))
    return rows


class Record:
    """The JSON file, written row by row, so that a run that was stopped can go on where it was. `path` None: not
    kept."""

    def __init__(self, path: Path | None, header: dict, resume: bool = False):
        self.path, self.header, self.rows = path, header, {}
        if resume and path is not None and path.is_file():
            old = json.loads(path.read_text())
            if {name: old.get(name) for name in header} == header:
                self.rows = {(m.scheduler, m.steps, m.cfg, m.way): m for m in measured_of(old)}

    def add(self, m: Measured):
        self.rows[m.scheduler, m.steps, m.cfg, m.way] = m
        if self.path is not None:
            rows = [row.to_dict() for row in self.rows.values()]
            self.path.write_text(json.dumps({**self.header, "inversions": rows}, indent=1) + "\n")


def table(measured: Sequence[Measured]) -> str:
    """A line a setting, a column a way: PSNR, how far below the round trip, latent error, calls a step.

    What was not measured yet is left empty.
    """
    names = list(dict.fromkeys(m.way for m in measured))
    cells = {(m.scheduler, m.steps, m.cfg, m.way): _cell(m) for m in measured}
    lines = dict.fromkeys((m.scheduler, m.steps, m.cfg) for m in measured)
    rows = [
        (name, steps, f"{cfg:g}", *(cells.get((name, steps, cfg, way), "") for way in names))
        for name, steps, cfg in lines
    ]
    return markdown_table(("scheduler", "steps", "cfg", *names), rows)


def _cell(m: Measured) -> str:
    return f"{m.psnr.mean:.2f} dB (-{max(m.loss.mean, 0):.2f}), error {m.error.mean:.1%}, {m.calls:.2f} calls"


def plot(measured: Sequence[Measured], ceiling: Rate, path: Path):
    """PSNR over the steps, a panel for each guidance: a colour for each way, a line style for each scheduler."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cfgs = list(dict.fromkeys(m.cfg for m in measured))
    names = list(dict.fromkeys(m.way for m in measured))
    figure, panels = pyplot.subplots(1, len(cfgs), figsize=(5 * len(cfgs) + 2, 4.2), sharey=True, squeeze=False)
    for cfg, axes in zip(cfgs, panels[0], strict=True):
        for number, way in enumerate(names):
            for scheduler, style in zip(CURVES, ("-", "--"), strict=True):
                of = [m for m in measured if (m.cfg, m.way, m.scheduler) == (cfg, way, scheduler)]
                axes.errorbar(
                    [m.steps for m in of], [m.psnr.mean for m in of], yerr=[m.psnr.error for m in of],
                    color=f"C{number}", linestyle=style, marker="o", markersize=4, capsize=3,
                    label=f"{way}, {scheduler}",
                )  # fmt: skip
        axes.axhline(ceiling.mean, linestyle=":", color="0.4", label="VAE round trip")
        axes.set(xlabel="steps", title=f"cfg {cfg:g}", xscale="log", xticks=STEPS, xticklabels=STEPS)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("PSNR of the picture that comes back, dB")
    panels[0, -1].legend(fontsize=8, handlelength=4, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=4, help="pictures (default: %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="test")
    add_checkpoint(parser)
    parser.add_argument("--schedulers", nargs="+", choices=SCHEDULES, default=SCHEDULES)
    parser.add_argument("--cfg", nargs="+", type=float, default=CFGS)
    parser.add_argument("--iterations", type=int, default=InversionOptions().iterations)
    parser.add_argument("--tolerance", type=float, default=InversionOptions().tolerance)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--resume", action="store_true", help="resume from the JSON file of a stopped run")
    parser.add_argument("--plot", type=Path, help="PNG")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    networks = Checkpoint(arguments.miniature, arguments.device).networks
    source = load_source(networks, arguments.seed, arguments.samples, arguments.split)
    options = InversionOptions(arguments.iterations, arguments.tolerance)
    ceiling = Rate.of(source.ceiling.tolist())
    header = {name: getattr(arguments, name) for name in ("seed", "samples", "split", "iterations", "tolerance")}
    record = Record(arguments.json, {**header, "vae psnr": ceiling.to_dict()}, arguments.resume)
    for setting in settings(arguments.schedulers, arguments.cfg):
        for way, invert in ways(options).items():
            if (*setting, way) not in record.rows:
                record.add(measure(networks, source, way, invert, *setting))
    measured = list(record.rows.values())
    logger.info("VAE round trip: %.2f dB\n\n%s", ceiling.mean, table(measured))
    if arguments.plot:
        plot(measured, ceiling, arguments.plot)


if __name__ == "__main__":
    main()
