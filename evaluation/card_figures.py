"""Measure all that the card tells of the edits: python -m any2pix.evaluation.card_figures --samples 4 --out results/

Each of RUNS is a call of `run`, its rows a file; what was painted is kept in `--work`, so that a stopped command goes
on. Plots and the sheet lie beside the rows. `--split final --final-report` is for finished weights, once; the knobs are
always measured on the validation split.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import run
from .checkpoint import add_checkpoint
from .datasets.toyland import FINAL
from .equal import KEPT
from .plots import plot_curves
from .report import with_columns
from .results import read_rows

logger = logging.getLogger(__name__)
VALIDATION = "validation"
DIRECTION = "direction"
SHEET = "edits.jpg"
METHODS, TRADEOFF = "methods", "tradeoff"


@dataclass(frozen=True)
class Measurement:
    """`arguments` of `run`. `drawn`: the metrics that are plotted, over another one or (`over` None) over the swept
    option. `knob`: not for the final report."""

    arguments: tuple[str, ...]
    drawn: tuple[str, ...] = ()
    over: str | None = None
    knob: bool = False

    def command(self, split: str, samples: int) -> list[str]:
        """All arguments of `run` but where to write."""
        own = VALIDATION if self.knob else split
        final = ["--final-report"] if own == FINAL else []
        return ["--split", own, *final, "--samples", str(samples), *self.arguments]


def _knob(*arguments: str) -> Measurement:
    drawn = ("psnr", "structure", "direction", "drawn_right")
    where = ("--methods", "any2pix", "--where", "given_as=text", "--metrics", *drawn)
    return Measurement((*where, *arguments), drawn, knob=True)


RUNS = {
    METHODS: Measurement(()),
    TRADEOFF: Measurement(
        (
            "--methods", "pix2pix", "sdedit", "any2pix", "--where", "given_as=text",
            "--options", "pix2pix.text_guidance=1.5",
            "--sweep", "pix2pix.image_guidance=1,1.25,1.5,1.75,2,2.5,3",
            "sdedit.strength=0.3,0.4,0.5,0.6,0.7,0.8,0.9,1", "any2pix.alpha=0,0.25,0.5,0.75,1",
            "--metrics", DIRECTION, *KEPT,
        ),
        KEPT,
        over=DIRECTION,
    ),
    "alpha": _knob("--sweep", "any2pix.alpha=0,0.2,0.4,0.6,0.8,1"),
    "base_weight": _knob("--sweep", "any2pix.base_weight=0,0.25,0.5,1,1.5,2"),
    "refined_weight": _knob("--sweep", "any2pix.refined_weight=0,0.5,1,2"),
    "score": _knob("--sweep", "any2pix.score=2,3.5,5,6.5,8"),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run.add_split(parser)
    parser.add_argument("--samples", type=int, default=16, help="edits of each kind (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    add_checkpoint(parser)
    parser.add_argument("--work", type=Path, help="folder that keeps the painted pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    given = parser.parse_args(argv)
    run.require_final_report(parser, given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        measure(name, given)


def measure(name: str, given: argparse.Namespace) -> None:
    """One of RUNS: rows, and the plot or the sheet."""
    measurement, rows = RUNS[name], given.out / f"{name}.parquet"
    arguments = [*measurement.command(given.split, given.samples), "--miniature", given.miniature]
    arguments += ["--device", given.device, "--out", rows]
    arguments += ["--pictures", given.work] if given.work else []
    arguments += ["--sheet", given.out / SHEET] if name == METHODS else []
    run.main(list(map(str, arguments)))
    if measurement.drawn:
        frame = with_columns(read_rows([rows]))
        plot_curves(frame, measurement.over, measurement.drawn, rows.with_suffix(".png"))


if __name__ == "__main__":
    main()
