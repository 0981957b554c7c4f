"""A mean with its standard error, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True)
class Rate:
    """A mean over `count` cases and its standard error.

    Where all cases agree the spread is 0 and says nothing; the error is then that of two more successes and two more
    failures (Agresti and Coull 1998).
    """

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Rate:
        x = torch.tensor([float(v) for v in values], dtype=torch.float64)
        if len(x) == 0:
            return cls(math.nan, math.nan, 0)
        if len(x) == 1:
            return cls(x.item(), math.nan, 1)
        error = x.std().item() / math.sqrt(len(x))
        if error == 0.0:
            share = 2 / (len(x) + 4)
            error = math.sqrt(share * (1 - share) / (len(x) + 4))
        return cls(x.mean().item(), error, len(x))

    def percent(self) -> str:
        if self.count == 0:
            return "-"
        error = "" if math.isnan(self.error) else f" ± {100 * self.error:.1f}"
        return f"{100 * self.mean:.1f}{error} % (n {self.count})"

    def to_dict(self) -> dict:
        """For JSON, which has no NaN."""
        return {name: None if math.isnan(value) else round(value, 5) for name, value in asdict(self).items()}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])
