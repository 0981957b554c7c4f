"""An edit to be measured, whatever data set it comes from, and what a method makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..stages.sources import Source


@dataclass(frozen=True, eq=False)
class Case:
    """One edit.

    `name`: unique in its data set. `scene`: cases of one scene share their pictures, so their results are not
    independent, and errors are drawn by scene. `instruction` with marks such as [image1] for the `references`;
    `base`: which of the references is the picture to edit, None where the picture is painted from noise.
    `words`: the instruction for a method that reads words alone; empty where the edit cannot be given so.
    `source`, `target` (H, W, 3) in [0, 1], None where there is none. `region` (H, W) bool: where the edit may change
    things; None where that is unknown. `labels`: what a classifier should find before and after the edit, (before,
    after) for each attribute; empty where there are none. `tags`: what results are grouped by.
    """

    name: str
    scene: str
    instruction: str
    references: tuple[Source, ...]
    base: int | None = None
    words: str = ""
    source: Tensor | None = None
    source_caption: str = ""
    target_caption: str = ""
    target: Tensor | None = None
    region: Tensor | None = None
    labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.scene:
            raise ValueError(f"The case {self.name!r} of the scene {self.scene!r} needs a name and a scene.")
        if self.base is not None and not 0 <= self.base < len(self.references):
            raise ValueError(
                f"The case {self.name!r} has {len(self.references)} references, but its base is number "
                f"{self.base + 1}. Name one of them."
            )
        if self.target is not None and self.source is not None and self.target.shape != self.source.shape:
            raise ValueError(
                f"The source of the case {self.name!r} has the shape {tuple(self.source.shape)}, its target "
                f"{tuple(self.target.shape)}. Give two pictures of one size."
            )
        if self.region is not None and self.target is not None and self.region.shape != self.target.shape[:2]:
            raise ValueError(
                f"The region of the case {self.name!r} has the shape {tuple(self.region.shape)}, its picture "
                f"{tuple(self.target.shape[:2])}. Give a mask of the picture's size."
            )

    def marks(self) -> list[str]:
        """What the instruction calls each of the references."""
        found, counts = [], Counter()
        for reference in self.references:
            counts[reference.modality] += 1
            found.append(f"[{reference.modality}{counts[reference.modality]}]")
        return found

    def other_references(self) -> list[tuple[str, Source]]:
        """All but the base, with the mark of each."""
        marked = zip(self.marks(), self.references, strict=True)
        return [pair for place, pair in enumerate(marked) if place != self.base]


@dataclass(frozen=True, eq=False)
class Output:
    """What a method gives for a case: `picture` (H, W, 3) in [0, 1].

    Of a method that plans from the instruction, else None: `planned`, whether an edit could be read from its answer;
    `caption` of the result; `base`, the reference it took for the picture to edit (None: painted from noise).
    """

    picture: Tensor
    planned: bool | None = None
    caption: str = ""
    base: int | None = None


@dataclass(frozen=True)
class Method:
    """A way to edit, with one setting of its options.

    `setting`: the options that are swept, as text, for instance "alpha=0.4"; empty for the defaults. `options`: all of
    them, for the record. `takes`: whether it can be given a case. `edit`: cases -> an Output for each.
    """

    name: str
    setting: str
    options: Mapping[str, Any]
    takes: Callable[[Case], bool]
    edit: Callable[[Sequence[Case]], list[Output]]

    @property
    def title(self) -> str:
        """The name with the setting."""
        return f"{self.name} {self.setting}".strip()
