"""Data sets of edits: a new one is one function in one file of this package.

A data set is a function of a place (a folder, or "" where it needs none) and a `Draw`, and gives cases. Read it with
`DATASETS[name]`, or with `load_cases("folder:/my/pictures", draw)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..case import Case
from ..registry import Registry


@dataclass(frozen=True)
class Draw:
    """Which cases. `split`: one of SPLITS of the data set. `count`: how many of each kind, None for all there are;
    `kinds`: only these kinds of edit. `seed` draws where a data set is drawn."""

    split: str = "validation"
    seed: int = 1
    count: int | None = None
    kinds: tuple[str, ...] | None = None


Load = Callable[[str, Draw], list[Case]]
DATASETS: Registry[Load] = Registry("data set", __name__)


def dataset(name: str) -> Callable[[Load], Load]:
    """Register the function below as a data set."""

    def register(load: Load) -> Load:
        DATASETS.add(name, load)
        return load

    return register


def load_cases(spec: str, draw: Draw) -> list[Case]:
    """`spec`: "toyland", or a name with its place, "folder:/my/pictures". ValueError where there is no case."""
    name, _, place = spec.partition(":")
    cases = DATASETS[name](place, draw)
    if not cases:
        raise ValueError(f"{spec} has no case for {draw}. Ask for other kinds, or another split.")
    return cases
