"""Which options InstructPix2Pix edits best with: python -m any2pix.evaluation.pix2pix_options --seed 1 --samples 6

Every combination of the values given, on the validation split alone. Edits are those of edit_quality.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..models.judge import Judge
from ..stages.pix2pix.pipeline import TextEditOptions
from ..stages.sample import SCHEDULES
from .cases import EditCase, draw_cases
from .checkpoint import Checkpoint
from .editor import MINIATURE, Editor
from .pix2pix import can_be_said, pix2pix_editor
from .rates import Rate, markdown_table
from .scoring import grade_outcomes

logger = logging.getLogger(__name__)
TEXT_GUIDANCES = (2.0, 3.0, 5.0, 7.5)
IMAGE_GUIDANCES = (1.0, 1.25, 1.5, 2.0)
COLUMNS = ("all attributes right", "done", "kept")
Scores = tuple[Rate, Rate, Rate]


def score(judge: Judge, editor: Editor, cases: Sequence[EditCase]) -> Scores:
    """The shares of edits in which every attribute is right, the wanted ones are, and the others stayed."""
    graded = grade_outcomes(judge, cases, editor(cases))
    return (
        Rate.of(g.all_right for g in graded),
        Rate.of(g.grade.done for g in graded),
        Rate.of(g.grade.kept for g in graded),
    )


def sweep(
    judge: Judge,
    editor: Callable[[TextEditOptions], Editor],
    cases: Sequence[EditCase],
    options: Iterable[TextEditOptions],
) -> list[tuple[TextEditOptions, Scores]]:
    """Best first; each is logged as it comes, for a run that is stopped."""
    found = []
    for chosen in options:
        found.append((chosen, score(judge, editor(chosen), cases)))
        logger.info(
            "%s: %s", chosen, ", ".join(f"{k} {r.percent()}" for k, r in zip(COLUMNS, found[-1][1], strict=True))
        )
    return sorted(found, key=lambda entry: -entry[1][0].mean)


def table(found: Sequence[tuple[TextEditOptions, Scores]]) -> str:
    rows = [(*asdict(options).values(), *(rate.percent() for rate in scores)) for options, scores in found]
    return markdown_table((*TextEditOptions.__dataclass_fields__, *COLUMNS), rows)


def main(argv: list[str] | None = None):
    plain = TextEditOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=6, help="edits of each kind")
    parser.add_argument("--text-guidance", nargs="+", type=float, default=TEXT_GUIDANCES)
    parser.add_argument("--image-guidance", nargs="+", type=float, default=IMAGE_GUIDANCES)
    parser.add_argument("--steps", nargs="+", type=int, default=[plain.steps])
    parser.add_argument("--schedulers", nargs="+", choices=SCHEDULES, default=[plain.scheduler])
    parser.add_argument("--miniature", type=Path, default=MINIATURE, help="folder of the weight files")
    parser.add_argument("--device", default="cpu", help="for instance cuda (default: %(default)s)")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cases = [case for case in draw_cases(given.seed, given.samples, "validation") if can_be_said(case)]
    checkpoint = Checkpoint(given.miniature, given.device)
    options = itertools.starmap(
        TextEditOptions, itertools.product(given.text_guidance, given.image_guidance, given.steps, given.schedulers)
    )
    pix2pix, vae = checkpoint.pix2pix, checkpoint.vae
    with torch.autocast(checkpoint.device.type, torch.bfloat16, enabled=given.bf16):
        found = sweep(checkpoint.judge, lambda chosen: pix2pix_editor(pix2pix, vae, chosen, given.seed), cases, options)
    logger.info("%d edits of the validation split, seed %d\n\n%s", len(cases), given.seed, table(found))
    if given.json:
        rows = [{**asdict(o), **{k: r.to_dict() for k, r in zip(COLUMNS, scores, strict=True)}} for o, scores in found]
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
