"""Means with 95 % intervals, resampled by scene: one edit given in three ways is not three independent edits.

The bootstrap draws whole scenes (the cluster bootstrap: Davison and Hinkley 1997, sec. 3.8; Field and Welsh 2007), by
scipy.stats. Where a share is 0 or 1 in every case there is no spread to draw from; there the interval is Wilson's, with
the scenes as trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, bootstrap

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0  # of the resampling: the same rows give the same interval


@dataclass(frozen=True)
class Estimate:
    """A mean over `cases` of `scenes`; `low` and `high` bound it, NaN with a single scene."""

    mean: float
    low: float
    high: float
    cases: int
    scenes: int

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no NaN."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def estimate(values: ArrayLike, scenes: Sequence[str], share: bool = False) -> Estimate:
    """The mean of `values` (N,), one for each case, with the scene of each. `share`: they are 0 or 1, or between.

    ValueError where there is no value.
    """
    values = np.asarray(values, dtype=float)
    if len(values) == 0 or len(values) != len(scenes):
        raise ValueError(f"{len(values)} values of {len(scenes)} cases have no mean. Give one value for each case.")
    sums, counts = by_scene(values, scenes)
    mean, trials = float(values.mean()), len(sums)
    if trials == 1:
        return Estimate(mean, math.nan, math.nan, len(values), 1)
    if np.ptp(values) == 0:
        low, high = _wilson(mean, trials) if share and mean in (0.0, 1.0) else (mean, mean)
        return Estimate(mean, low, high, len(values), trials)
    drawn = bootstrap(
        (sums, counts), _ratio, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
        method="percentile", rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return Estimate(mean, *map(float, drawn.confidence_interval), len(values), trials)


def by_scene(values: NDArray, scenes: Sequence[str]) -> tuple[NDArray, NDArray]:
    """Sum and number of the values of each scene: (S,), (S,)."""
    _, place = np.unique(np.asarray(scenes), return_inverse=True)
    return np.bincount(place, weights=values), np.bincount(place).astype(float)


def _ratio(sums: NDArray, counts: NDArray, axis: int) -> NDArray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def _wilson(share: float, trials: int) -> tuple[float, float]:
    found = binomtest(round(share * trials), trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
