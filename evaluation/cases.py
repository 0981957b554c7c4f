"""The edits that are measured: drawn from a seed, the same edit once for every way of giving it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datagen.instructions import ATTRIBUTE, EDIT_KINDS, GIVEN, EditSample, ReferenceSpec, sample_edit
from ..datagen.plain_text import text_instruction, without_base_mark
from ..datagen.sounds import synthesize
from ..datagen.toyland import TEST_SEEDS_FROM, Scene, render

SPLITS = ("test", "validation")
WORDING_STREAM = 3  # of a case's random numbers, for the choices that its words leave open
VALIDATION_STREAM = 910_000  # first number of the seed of validation draws, which no training script uses


@dataclass(frozen=True)
class EditCase:
    """`row`: the line of the table it counts in, an edit kind or "two edits", "three edits", "generate".

    Cases of one `row` and `number` differ only in how the edit is given (`modality`).
    """

    row: str
    number: int
    modality: str
    sample: EditSample
    sound_seed: int


def draw_cases(seed: int, count: int, split: str = "test", rows: Sequence[str] | None = None) -> list[EditCase]:
    """`count` edits for every kind and way of giving it, `count` of each kind of composition, `count` to paint from
    nothing.

    "test": held-out seeds and combinations. "validation": training combinations with seeds of their own, to choose
    options by.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r} to evaluate on. Choose one of: {', '.join(SPLITS)}.")
    cases = []
    for place, row in enumerate(ROWS):
        if rows is not None and row not in rows:
            continue
        for number in range(count):
            stream = (seed, place, number) if split == "test" else (VALIDATION_STREAM, seed, place, number)
            cases += cases_of_row(row, number, stream, "test" if split == "test" else "train")
    return cases


def cases_of_row(row: str, number: int, stream: tuple[int, ...], split: str) -> list[EditCase]:
    extra = np.random.default_rng((*stream, 1))
    sound_seed = int(extra.integers(TEST_SEEDS_FROM)) + (TEST_SEEDS_FROM if split == "test" else 0)
    if row in EDIT_KINDS:
        # The same numbers draw the same two scenes, whatever the way of giving the edit.
        return [
            EditCase(row, number, way, sample_edit(np.random.default_rng(stream), split, (row,), way), sound_seed)
            for way in GIVEN[row]
        ]
    kinds = ("generate",) if row == "generate" else _composition(extra, COMPOSITIONS[row])
    return [EditCase(row, number, "mixed", sample_edit(np.random.default_rng(stream), split, kinds), sound_seed)]


def _composition(rng: np.random.Generator, count: int) -> tuple[str, ...]:
    """`count` edits, each of another attribute, in any order."""
    kinds: list[str] = []
    for kind in rng.permutation(EDIT_KINDS):
        if ATTRIBUTE[kind] not in {ATTRIBUTE[other] for other in kinds}:
            kinds.append(str(kind))
    return tuple(kinds[:count])


COMPOSITIONS = {"two edits": 2, "three edits": 3}
ROWS = (*EDIT_KINDS, *COMPOSITIONS, "generate")


def picture_of(scene: Scene) -> Tensor:
    """(128, 128, 3) in [0, 1]."""
    return torch.from_numpy(render(scene)).float() / 255.0


def sound_of(case: EditCase, spec: ReferenceSpec) -> tuple[Tensor, int]:
    """(C, T) and the sample rate of a reference that is a sound; two of one kind are two different sounds."""
    waveform, sample_rate = synthesize(spec.content, case.sound_seed + case.sample.references.index(spec))
    return torch.from_numpy(waveform), sample_rate


def can_be_said(case: EditCase) -> bool:
    """Whether the case counts for an editor that reads words alone: every edit once, not once for each way of giving
    it."""
    return case.sample.source is not None and case.modality in ("text", "mixed")


def in_words(case: EditCase) -> str:
    """The instruction of a case without marks. Where nothing but the picture to edit has one, it is the case's own
    sentence; else the same edit asked for in other words, those that the training knows."""
    sample = case.sample
    rng = np.random.default_rng((case.sound_seed, WORDING_STREAM))
    base = sample.references[sample.base_index].mark
    if any(other.mark in sample.instruction for other in sample.references if other.mark != base):
        return text_instruction(rng, sample.source, sample.target)
    return without_base_mark(sample.instruction, base, rng)
