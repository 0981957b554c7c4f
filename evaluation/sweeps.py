"""What each knob does, with a plot each: python -m any2pix.evaluation.sweeps --seed 1 --samples 8 --out sweeps/

alpha and beta (figure 8 of arXiv 2312.06738) and the refinement prior with its aesthetic score (figure 7). The
inversion has a module of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datagen.instructions import EDIT_KINDS
from ..datagen.toyland import aesthetic, render
from ..models.judge import Judge
from ..stages.any2pix.options import EditOptions
from ..stages.any2pix.pipeline import Networks, mix_edits
from ..stages.preprocess import image_to_tensor
from .arguments import evaluation_parser
from .cases import draw_cases, picture_of
from .checkpoint import Checkpoint
from .editor import (
    PreparedEdit,
    invert_prepared,
    options_from,
    outcome_of,
    paint_prepared,
    prepare,
)
from .rates import Rate
from .scoring import grade_outcomes

logger = logging.getLogger(__name__)
ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BETAS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
SCORES = (2.0, 3.5, 5.0, 6.5, 8.0)
CLEANLINESS = (0.0, 0.25, 0.5, 0.75, 1.0)
LAYOUT_SIDE = 16  # pixels: a thumbnail that shows where things are, not what they are

Curves = dict[str, list[Rate]]


@dataclass(frozen=True)
class Sweep:
    """Curves over the values of one knob."""

    name: str
    knob: str
    values: Sequence[float]
    curves: Curves
    levels: dict[str, Rate]  # what to compare with: horizontal lines
    unit: str = "share"

    def to_dict(self) -> dict:
        curves = {title: [rate.to_dict() for rate in rates] for title, rates in self.curves.items()}
        return {
            "knob": self.knob,
            "values": list(self.values),
            "curves": curves,
            "levels": {k: v.to_dict() for k, v in self.levels.items()},
        }


class Bench:
    """Prepared edits with their inverted latents, so that a sweep pays for the sampling alone."""

    def __init__(self, networks: Networks, judge: Judge, options: EditOptions, seed: int, samples: int, split: str):
        self.networks, self.judge, self.options, self.seed = networks, judge, options, seed
        cases = [case for case in draw_cases(seed, samples, split, EDIT_KINDS) if case.modality == "text"]
        self.prepared: list[PreparedEdit] = [
            edit for edit in prepare(networks, cases) if edit.base_index == edit.case.sample.base_index
        ]
        self.inverted = invert_prepared(networks, self.prepared, options)
        self.sources = torch.stack([picture_of(edit.case.sample.source) for edit in self.prepared])
        self.source_embeddings = self.embed(self.sources)
        self.target_embeddings = self.embed(
            torch.stack([picture_of(edit.case.sample.target) for edit in self.prepared])
        )

    @torch.no_grad()
    def embed(self, pictures: Tensor) -> Tensor:
        """(N, 128, 128, 3) -> (N, D), unit norm."""
        imagebind = self.networks.imagebind
        device = next(imagebind.parameters()).device
        return F.normalize(
            imagebind.encode_image(image_to_tensor(pictures, imagebind.dims.image_size).to(device)).float().cpu(),
            dim=-1,
        )

    def measure(self, options: EditOptions) -> dict[str, Rate]:
        """Paint all edits and say how much was done and what was kept."""
        pictures = torch.stack(paint_prepared(self.networks, self.prepared, self.inverted, options, self.seed))
        outcomes = [outcome_of(picture, edit) for picture, edit in zip(pictures, self.prepared, strict=True)]
        graded = grade_outcomes(self.judge, [edit.case for edit in self.prepared], outcomes)
        embeddings = self.embed(pictures)
        return {
            "edit done": Rate.of(g.grade.done for g in graded),
            "others kept": Rate.of(g.grade.kept for g in graded),
            "layout like the source": Rate.of(layout_similarity(pictures, self.sources).tolist()),
            "meaning like the source": Rate.of((embeddings * self.source_embeddings).sum(1).tolist()),
            "meaning like the target": Rate.of((embeddings * self.target_embeddings).sum(1).tolist()),
        }

    def sweep(
        self,
        name: str,
        knob: str,
        values: Sequence[float],
        change: Callable[[float], EditOptions],
        levels: dict[str, Rate],
    ) -> Sweep:
        measured = [self.measure(change(value)) for value in values]
        return Sweep(name, knob, values, {title: [m[title] for m in measured] for title in measured[0]}, levels)


def layout_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of thumbnails of (N, H, W, 3) pictures, each less its own mean: (N,), 1 for the same layout."""

    def thumbnail(pictures: Tensor) -> Tensor:
        small = F.interpolate(pictures.movedim(-1, 1).float(), (LAYOUT_SIDE, LAYOUT_SIDE), mode="area")
        return (small - small.mean(dim=(2, 3), keepdim=True)).flatten(1)

    return F.cosine_similarity(thumbnail(a), thumbnail(b), dim=1)


def sweep_prior(bench: Bench) -> list[Sweep]:
    """Edits over the score asked for, and how clean the refined embedding looks, next to H as the LLM gives it."""
    plain = bench.measure(replace(bench.options, edit_weight=1.0, refined_weight=0.0))
    levels = {f"{title}, no prior": plain[title] for title in ("edit done", "meaning like the target")}
    edits = bench.sweep(
        "prior", "aesthetic score asked of the prior", SCORES, lambda v: replace(bench.options, score=v), levels
    )
    shown = torch.stack(
        [
            bench.embed(
                torch.stack(
                    [torch.from_numpy(render(edit.case.sample.target, c)).float() / 255 for edit in bench.prepared]
                )
            )
            for c in CLEANLINESS
        ]
    )  # (C, N, D)

    def apparent(options: EditOptions) -> Rate:
        """The score of the drawing of the target whose embedding is nearest."""
        mixed = torch.stack(mix_edits(bench.networks, [edit.planned for edit in bench.prepared], options))
        nearest = (shown * F.normalize(mixed.float().cpu(), dim=-1)).sum(-1).argmax(0)
        return Rate.of(aesthetic(CLEANLINESS[i]) for i in nearest.tolist())

    refined = [apparent(replace(bench.options, edit_weight=0.0, refined_weight=1.0, score=score)) for score in SCORES]
    mixed = [apparent(replace(bench.options, score=score)) for score in SCORES]
    without = {"H_gen, no prior": apparent(replace(bench.options, edit_weight=1.0, refined_weight=0.0))}
    curves = {"refined alone": refined, "refined and mixed": mixed}
    return [
        edits,
        Sweep(
            "prior_score", "aesthetic score asked of the prior", SCORES, curves, without, "score of the nearest drawing"
        ),
    ]


def plot(sweep: Sweep, path: Path):
    """One line a curve with standard errors, dashed lines for what to compare with."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.2))
    for title, rates in sweep.curves.items():
        axes.errorbar(
            sweep.values,
            [r.mean for r in rates],
            yerr=[r.error for r in rates],
            marker="o",
            markersize=4,
            capsize=3,
            label=title,
        )
    for number, (title, rate) in enumerate(sweep.levels.items()):
        axes.axhline(rate.mean, linestyle="--", color=f"{0.25 + 0.3 * number:.2f}", linewidth=1, label=title)
    axes.set(xlabel=sweep.knob, ylabel=sweep.unit, title=f"{sweep.name.replace('_', ' ')} (mean and standard error)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run_sweeps(
    networks: Networks, judge: Judge, options: EditOptions, seed: int, samples: int, split: str
) -> list[Sweep]:
    bench = Bench(networks, judge, options, seed, samples, split)
    logger.info("%d edits in every sweep", len(bench.prepared))
    alpha = bench.sweep(
        "alpha", "alpha, the share of the source picture's noise", ALPHAS, lambda v: replace(options, alpha=v), {}
    )
    beta = bench.sweep(
        "beta",
        "beta, the weight of the base embedding in the mix",
        BETAS,
        lambda v: replace(options, base_weight=v),
        {},
    )
    return [alpha, beta, *sweep_prior(bench)]


def main(argv: list[str] | None = None):
    parser = evaluation_parser(__doc__, 8, "edits of each of the five kinds")
    parser.add_argument("--options", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="folder for sweeps.json and the plots")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(arguments.miniature, arguments.device)
    options = options_from(arguments.options)
    sweeps = run_sweeps(
        checkpoint.networks, checkpoint.judge, options, arguments.seed, arguments.samples, arguments.split
    )
    for sweep in sweeps:
        plot(sweep, arguments.out / f"{sweep.name}.png")
    record = {
        "seed": arguments.seed,
        "samples": arguments.samples,
        "split": arguments.split,
        **{s.name: s.to_dict() for s in sweeps},
    }
    (arguments.out / "sweeps.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
