"""From edited pictures to the figures of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..datagen.instructions import EDIT_KINDS
from ..datagen.toyland import HELD_OUT, parse_caption, sample_scene
from ..models.judge import Judge
from ..stages.any2pix.pipeline import Networks
from ..stages.latents import decode_pictures, encode_pictures
from .cases import COMPOSITIONS, EditCase, picture_of
from .editor import Outcome
from .grades import Grade, caption_right, grade
from .judge import ATTRIBUTES, verdicts
from .metrics.fidelity import psnr
from .rates import Rate

ROUND_TRIP_BATCH = 32


@dataclass(frozen=True)
class GradedCase:
    """`grade` is None where there is no source to keep; `all_right`: every attribute of the result is the target's."""

    case: EditCase
    outcome: Outcome
    grade: Grade | None
    all_right: bool
    caption_right: bool
    base_right: bool
    seen: dict[str, str]


def grade_outcomes(judge: Judge, cases: Sequence[EditCase], outcomes: Sequence[Outcome]) -> list[GradedCase]:
    """Show every result to the judge; nothing where there is none, as of a baseline that none of the cases has."""
    if not outcomes:
        return []
    answers = verdicts(judge, torch.stack([outcome.image for outcome in outcomes]))
    graded = []
    for case, outcome, seen in zip(cases, outcomes, answers, strict=True):
        source, target = case.sample.source, case.sample.target
        graded.append(
            GradedCase(
                case=case,
                outcome=outcome,
                grade=grade(source, target, seen) if source is not None else None,
                all_right=all(seen[name] == getattr(target, name) for name in ATTRIBUTES),
                caption_right=caption_right(parse_caption(outcome.caption), target),
                base_right=outcome.base_index == case.sample.base_index,
                seen=seen,
            )
        )
    return graded


def summarise(graded: Sequence[GradedCase]) -> dict[str, Rate]:
    """Every figure by its name; a figure without cases has count 0."""
    edits = [g for g in graded if g.grade is not None]
    single = [g for g in edits if g.case.row in EDIT_KINDS]
    several = [g for g in edits if 2 <= len(g.case.sample.references) <= 4]
    pictures = [g for g in several if sum(r.modality == "image" for r in g.case.sample.references) >= 2]
    figures = {
        "base retrieval": Rate.of(g.base_right for g in several),
        "base retrieval, several pictures": Rate.of(g.base_right for g in pictures),
        "caption": Rate.of(g.caption_right for g in graded),
        "kept": Rate.of(g.grade.kept for g in single),
        "done": Rate.of(g.grade.done for g in single),
        "done, held-out target": Rate.of(g.grade.done for g in single if g.case.sample.target.combination in HELD_OUT),
        "done, seen target": Rate.of(g.grade.done for g in single if g.case.sample.target.combination not in HELD_OUT),
    }
    for kind in EDIT_KINDS:
        of_kind = [g for g in single if g.case.row == kind]
        figures[f"done/{kind}"] = Rate.of(g.grade.done for g in of_kind)
        figures[f"kept/{kind}"] = Rate.of(g.grade.kept for g in of_kind)
        for way in ("text", "image", "audio"):
            figures[f"done/{kind}/{way}"] = Rate.of(g.grade.done for g in of_kind if g.case.modality == way)
    for name in ATTRIBUTES:
        untouched = [g for g in single if getattr(g.case.sample.source, name) == getattr(g.case.sample.target, name)]
        figures[f"kept attribute/{name}"] = Rate.of(
            g.seen[name] == getattr(g.case.sample.source, name) for g in untouched
        )
    for row in COMPOSITIONS:
        figures[f"done/{row}"] = Rate.of(g.grade.done for g in edits if g.case.row == row)
        figures[f"kept/{row}"] = Rate.of(g.grade.kept for g in edits if g.case.row == row)
    made = [g for g in graded if g.case.row == "generate"]
    figures["done/generate"] = Rate.of(g.all_right for g in made)
    figures["no base for generate"] = Rate.of(g.base_right for g in made)
    for way in ("image", "audio"):
        figures[f"{way} worse than text"] = worse_than_text(single, way)
    return figures


def worse_than_text(single: Sequence[GradedCase], way: str) -> Rate:
    """How much less often the same edit is done when it is given in another way: mean over pairs, 0.07 is 7 points."""
    by_text = {(g.case.row, g.case.number): g.grade.done for g in single if g.case.modality == "text"}
    pairs = [(by_text.get((g.case.row, g.case.number)), g.grade.done) for g in single if g.case.modality == way]
    return Rate.of(float(text) - float(other) for text, other in pairs if text is not None)


def copy_editor(cases: Sequence[EditCase]) -> list[Outcome]:
    """The baseline: the source picture unchanged. Only for cases that have one."""
    return [Outcome(picture_of(case.sample.source), "", case.sample.base_index) for case in cases]


def round_trip_editor(networks: Networks) -> Callable[[Sequence[EditCase]], list[Outcome]]:
    """The ceiling: the wanted picture itself, drawn by Toyland and passed through the autoencoder."""

    def edit(cases: Sequence[EditCase]) -> list[Outcome]:
        pictures = torch.stack([picture_of(case.sample.target) for case in cases])
        decoded = [
            decode_pictures(networks.vae, encode_pictures(networks.vae, chunk))
            for chunk in pictures.split(ROUND_TRIP_BATCH)
        ]
        return [
            Outcome(picture, "", case.sample.base_index)
            for picture, case in zip(torch.cat(decoded).cpu(), cases, strict=True)
        ]

    return edit


def held_out_pictures(seed: int, count: int):
    """`count` scenes of the test split and their pictures (N, 128, 128, 3)."""
    rng = np.random.default_rng((seed, 77))
    scenes = [sample_scene(rng, "test") for _ in range(count)]
    return scenes, torch.stack([picture_of(scene) for scene in scenes])


def judge_and_autoencoder(judge: Judge, networks: Networks, seed: int, count: int) -> dict[str, Rate]:
    """How right the judge is on drawings and on their round trips through the VAE; the round trip's PSNR in dB."""
    scenes, pictures = held_out_pictures(seed, count)
    decoded = torch.cat(
        [
            decode_pictures(networks.vae, encode_pictures(networks.vae, chunk))
            for chunk in pictures.split(ROUND_TRIP_BATCH)
        ]
    ).cpu()
    figures = {"vae psnr": Rate.of(psnr(decoded, pictures).tolist())}
    for title, shown in (("judge", pictures), ("judge after the vae", decoded)):
        answers = verdicts(judge, shown)
        for name in ATTRIBUTES:
            figures[f"{title}/{name}"] = Rate.of(
                answer[name] == getattr(scene, name) for answer, scene in zip(answers, scenes, strict=True)
            )
    return figures
