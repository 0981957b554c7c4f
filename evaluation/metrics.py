"""Grades of edits: what the judge sees in a result, held against the scene that the edit should give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .judge import ATTRIBUTES

STRUCTURE_SIDE = 64  # pixels to which a picture is reduced: drops and flakes are no structure
STRUCTURE_WINDOW = 11  # pixels; Wang et al. 2004, sec. III-C
STRUCTURE_FLOOR = 0.03**2 / 2  # their C3 for values in [0, 1]


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

    def points(self) -> str:
        """The same for a difference of rates, in percentage points."""
        return f"{100 * self.mean:.1f} ± {100 * self.error:.1f} (n {self.count})" if self.count else "-"

    def to_dict(self) -> dict:
        """For JSON, which has no NaN."""
        return {name: None if math.isnan(value) else round(value, 5) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Grade:
    """One picture's grade. `done`: every attribute that should change reads as wanted; `kept`: share of the others left
    as they were."""

    done: bool
    kept: float
    seen: dict[str, str]


def changed_attributes(source, target) -> tuple[str, ...]:
    """The attributes that tell two scenes apart."""
    return tuple(name for name in ATTRIBUTES if getattr(source, name) != getattr(target, name))


def grade(source, target, seen: dict[str, str]) -> Grade:
    """Scenes before and after the wanted edit, and what the judge sees in the result."""
    wanted = changed_attributes(source, target)
    if not wanted:
        raise ValueError(f"Source and target are the same scene ({source}): there is no edit to grade.")
    others = [name for name in ATTRIBUTES if name not in wanted]
    done = all(seen[name] == getattr(target, name) for name in wanted)
    kept = [seen[name] == getattr(source, name) for name in others]
    return Grade(done=done, kept=sum(kept) / len(kept) if kept else 1.0, seen=seen)


def caption_right(parsed: dict | None, target) -> bool:
    """Whether a parsed caption names every attribute of the target; None is a caption that could not be read."""
    return parsed is not None and all(parsed.get(name) == getattr(target, name) for name in ATTRIBUTES)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of pictures (B, ...) in [0, 1] -> (B,)."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-10).log10()


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """How alike two batches of pictures (B, H, W, 3) in [0, 1] are drawn: (B,), 1 for the same lines, about 0 for
    unrelated ones.

    The structure term of SSIM (Wang et al. 2004, eq. 10) of their grey values, the mean over windows: a correlation
    that brightness and contrast, and so weather and drawing style, change little.
    """
    grey = [F.interpolate(x.float().mean(-1)[:, None], (STRUCTURE_SIDE, STRUCTURE_SIDE), mode="area") for x in (a, b)]

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, STRUCTURE_WINDOW, stride=1)

    x, y = grey
    covariance = mean(x * y) - mean(x) * mean(y)
    spread = ((mean(x * x) - mean(x) ** 2).clamp_min(0) * (mean(y * y) - mean(y) ** 2).clamp_min(0)).sqrt()
    return ((covariance + STRUCTURE_FLOOR) / (spread + STRUCTURE_FLOOR)).mean(dim=(1, 2, 3))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])
