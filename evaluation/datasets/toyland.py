"""Toyland's edits as cases: the world draws source, target and everything else that is measured.

Three splits. "validation": combinations of the training with seeds of their own; options and thresholds are chosen
here. "seen": the held-out seeds that were looked at while the miniature was made. "final": held-out seeds that no
development has drawn. They lie beyond every other seed, their stream has no number to choose, and `run` asks for
`--final-report` before it draws them. Draw them once, for the report of finished weights; the next report, made after
that one was read, draws a stream of its own (`FINAL_REPORT`).
"""

from __future__ import annotations

from dataclasses import replace

from ...datagen.instructions import ReferenceSpec
from ...datagen.toyland import TEST_SEEDS_FROM, Scene, caption
from ...stages.sources import Source
from ..case import Case
from ..cases import ROWS, EditCase, can_be_said, cases_of_row, draw_cases, in_words, picture_of, sound_of
from ..judge import ATTRIBUTES
from ..metrics.fidelity import changed_region
from . import Draw, dataset

SPLITS = ("validation", "seen", "final")
FINAL = "final"
FINAL_STREAM = 20_261_128  # first number of the seed of the final draws; nothing else draws from it
FINAL_REPORT = 1  # second number: one more for every report after the first
FINAL_SEEDS_FROM = 2 * TEST_SEEDS_FROM  # scenes and sounds: below lie the training's and the seen test seeds
SAMPLES = 16  # of each kind, where nobody asked for another number
LEAST_CHANGE = 1.5 / 255  # of a colour: more than rounding
REGION_MARGIN = 4  # pixels; half a place of the latent, which the autoencoder smears


@dataset("toyland")
def toyland(place: str, draw: Draw) -> list[Case]:
    """`draw.count` edits of each kind and way of giving it; the same edit given in three ways is one scene."""
    if place:
        raise ValueError(f"Toyland is drawn, and needs no place: write toyland, not toyland:{place}.")
    if draw.split not in SPLITS:
        raise ValueError(f"Toyland has no split {draw.split!r}. Choose one of: {', '.join(SPLITS)}.")
    if unknown := set(draw.kinds or ()) - set(ROWS):
        raise ValueError(f"Toyland has no kind of edit {sorted(unknown)[0]!r}. Choose from: {', '.join(ROWS)}.")
    return [case_of(edit) for edit in _drawn(draw, draw.count if draw.count is not None else SAMPLES)]


def _drawn(draw: Draw, count: int) -> list[EditCase]:
    if draw.split != FINAL:
        return draw_cases(draw.seed, count, "test" if draw.split == "seen" else draw.split, draw.kinds)
    return [
        beyond(edit)
        for place, row in enumerate(ROWS)
        if draw.kinds is None or row in draw.kinds
        for number in range(count)
        for edit in cases_of_row(row, number, (FINAL_STREAM, FINAL_REPORT, place, number), "test")
    ]


def beyond(edit: EditCase) -> EditCase:
    """A case of the test split, its scenes and sounds moved to the final seeds."""
    offset = FINAL_SEEDS_FROM - TEST_SEEDS_FROM

    def moved(content: Scene | str | None) -> Scene | str | None:
        return replace(content, seed=content.seed + offset) if isinstance(content, Scene) else content

    sample = edit.sample
    references = tuple(replace(reference, content=moved(reference.content)) for reference in sample.references)
    sample = replace(sample, source=moved(sample.source), target=moved(sample.target), references=references)
    return replace(edit, sample=sample, sound_seed=edit.sound_seed + offset)


def case_of(edit: EditCase) -> Case:
    """What Toyland draws, as a case that no longer needs it."""
    sample = edit.sample
    source = picture_of(sample.source) if sample.source else None
    target = picture_of(sample.target)
    return Case(
        name=f"{edit.row}/{edit.number}/{edit.modality}",
        scene=f"{edit.row}/{edit.number}",
        instruction=sample.instruction,
        references=tuple(source_of(edit, reference) for reference in sample.references),
        base=sample.base_index,
        words=in_words(edit) if can_be_said(edit) else "",
        source=source,
        source_caption=caption(sample.source) if sample.source else "",
        target_caption=caption(sample.target),
        target=target,
        region=None if source is None else changed_region(source, target, LEAST_CHANGE, REGION_MARGIN),
        labels={name: (getattr(sample.source, name, ""), getattr(sample.target, name)) for name in ATTRIBUTES},
        tags={"kind": edit.row, "given_as": edit.modality, "background": sample.target.background},
    )


def source_of(edit: EditCase, reference: ReferenceSpec) -> Source:
    if reference.modality == "image":
        return Source("image", picture_of(reference.content), label=reference.label)
    if reference.modality == "audio":
        return Source("audio", sound_of(edit, reference), label=reference.label)
    return Source("text", reference.content, label=reference.label)
