"""Curves of a trade-off, and how much of the picture two of them keep where they change it equally well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..loading.atomic import atomic_path
from .equal import at_equal
from .intervals import RESAMPLES
from .rates import Rate, markdown_table

KEPT = ("image", "patches", "structure")  # what is held against the direction


@dataclass(frozen=True)
class Curve:
    """One method over the values of its knob; each array is (values, cases), of the same cases for every method.

    `direction`: cosine of the change in pictures with that in captions. `image`: cosine of the picture's embedding
    before and after. `patches`: of what the embedder says of each place (`similarity.patch_similarity`). `structure`:
    `metrics.structure.structural_similarity` of the two.
    """

    method: str
    knob: str
    values: tuple[float, ...]
    direction: NDArray
    image: NDArray
    patches: NDArray
    structure: NDArray

    def rates(self, what: str) -> list[Rate]:
        """Mean and standard error for every value of the knob."""
        return [Rate.of(row) for row in getattr(self, what)]

    def save(self, path: Path, settings: str) -> None:
        """Every case of it, with the settings it was measured with."""
        arrays = {what: getattr(self, what) for what in ("direction", *KEPT)}
        with atomic_path(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, settings=settings, method=self.method, knob=self.knob, values=self.values, **arrays)

    @classmethod
    def load(cls, path: Path, settings: str) -> Curve | None:
        """What `save` wrote; None where there is nothing, or it was measured with other settings."""
        if not path.is_file():
            return None
        with np.load(path) as stored:
            if str(stored["settings"]) != settings:
                return None
            arrays = {what: stored[what] for what in ("direction", *KEPT)}
            return cls(str(stored["method"]), str(stored["knob"]), tuple(stored["values"].tolist()), **arrays)

    def to_dict(self) -> dict[str, Any]:
        measured = {what: [rate.to_dict() for rate in self.rates(what)] for what in ("direction", *KEPT)}
        return {"method": self.method, "knob": self.knob, "values": list(self.values), **measured}


@dataclass(frozen=True)
class Comparison:
    """`first` and `second` (L,) of what is kept at directional similarities `levels` (L,); `differences`: first less
    second, with the spread of the bootstrap as standard error; `mean`: of the differences. All empty where the curves
    share no directional similarity."""

    first_method: str
    second_method: str
    what: str
    levels: tuple[float, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    differences: tuple[Rate, ...]
    mean: Rate

    def to_dict(self) -> dict[str, Any]:
        return {
            "methods": [self.first_method, self.second_method], "what": self.what,
            "direction": [round(v, 5) for v in self.levels], "first": [round(v, 5) for v in self.first],
            "second": [round(v, 5) for v in self.second], "difference": [r.to_dict() for r in self.differences],
            "mean": self.mean.to_dict(),
        }  # fmt: skip


def compare(first: Curve, second: Curve, what: str, seed: int = 0, draws: int = RESAMPLES) -> Comparison:
    """At equal directional similarity, how much more of `what` the first keeps; errors by drawing the cases again."""
    pairs = [(curve.direction, getattr(curve, what)) for curve in (first, second)]
    found = at_equal(*pairs, resamples=draws, seed=seed)
    if not len(found.levels):
        return Comparison(first.method, second.method, what, (), (), (), (), Rate.of([]))
    cases = first.direction.shape[1]
    rates = [Rate(float(m), float(e), cases) for m, e in zip(found.differences, found.errors, strict=True)]
    columns = [tuple(map(float, values)) for values in (found.levels, found.first, found.second)]
    return Comparison(first.method, second.method, what, *columns, tuple(rates[:-1]), rates[-1])


def curves_table(curves: Sequence[dict[str, Any]]) -> str:
    """A line for every point, from `Curve.to_dict`."""
    rows = [
        (curve["method"], f"{curve['knob']} {value:g}", *(_cell(curve[what][i]) for what in ("direction", *KEPT)))
        for curve in curves
        for i, value in enumerate(curve["values"])
    ]
    return markdown_table(
        ("method", "knob", *(f"{what} similarity" for what in ("directional", "image", "patch", "structural"))), rows
    )


def comparison_table(comparisons: Sequence[dict[str, Any]]) -> str:
    """What is kept at equal directional similarity, from `Comparison.to_dict`."""
    rows = []
    for found in comparisons:
        columns = zip(found["direction"], found["first"], found["second"], found["difference"], strict=True)
        rows += [(found["what"], f"{d:.3f}", f"{a:.3f}", f"{b:.3f}", _cell(rate, "+")) for d, a, b, rate in columns]
        mean = found["mean"]
        told = _cell(mean, "+") if mean["count"] else "the curves share no directional similarity"
        rows.append((found["what"], "mean", "", "", told))
    first, second = comparisons[0]["methods"]
    return markdown_table(("kept", "directional similarity", first, second, f"{first} - {second}"), rows)


def _cell(rate: dict[str, Any], sign: str = "") -> str:
    error = "" if rate["error"] is None else f" ± {rate['error']:.3f}"
    return f"{rate['mean']:{sign}.3f}{error}"
