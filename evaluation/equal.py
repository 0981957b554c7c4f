"""How much two methods keep of the picture where they edit it equally well (InstructPix2Pix, arXiv 2211.09800, sec. 4.1
and fig. 8), with scenes resampled by scipy's bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, bootstrap

from .intervals import CONFIDENCE, RESAMPLES, SEED
from .rates import markdown_table

if TYPE_CHECKING:
    from pandas import DataFrame

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the span of the metric that both methods reach
# What is held against the metric; the paper's own measure is the first.
KEPT = ("image_similarity", "patch_similarity", "structure", "psnr", "ssim")
BATCH = 200  # resamples at once


def read_off(level: NDArray, kept: NDArray, wanted: float) -> NDArray:
    """The most that a curve keeps where its metric is `wanted`: (D,), NaN where it never is.

    `level`, `kept` (values, D): the points of D curves, joined by straight lines in the order of the knob. A curve
    that turns back passes a level more than once; an artist would take the better setting.
    """
    before, after = level[:-1], level[1:]
    crosses = (np.minimum(before, after) <= wanted) & (wanted <= np.maximum(before, after))
    length = np.where(after == before, 1.0, after - before)
    share = np.clip((wanted - before) / length, 0.0, 1.0)
    found = np.where(crosses, kept[:-1] + share * (kept[1:] - kept[:-1]), -np.inf).max(axis=0)
    return np.where(np.isfinite(found), found, np.nan)


@dataclass(frozen=True)
class AtEqual:
    """`first` and `second` (L,): what is kept at `levels` (L,). `drawn` (L + 1, B): the differences, first less
    second, of resampled scenes, and in the last row their mean over the levels. All empty where the curves share no
    level."""

    levels: NDArray
    first: NDArray
    second: NDArray
    drawn: NDArray

    @property
    def differences(self) -> NDArray:
        """(L + 1,), the last one the mean over the levels."""
        found = self.first - self.second
        return np.append(found, found.mean())

    @property
    def errors(self) -> NDArray:
        """Standard errors (L + 1,) of the differences."""
        return np.nanstd(self.drawn, axis=1, ddof=1)

    @property
    def intervals(self) -> NDArray:
        """(L + 1, 2): bounds of the differences. Where a resampled curve never has the level it does not count."""
        tails = (1 - CONFIDENCE) / 2
        return np.nanquantile(self.drawn, (tails, 1 - tails), axis=1).T


def at_equal(
    first: tuple[NDArray, NDArray], second: tuple[NDArray, NDArray], resamples: int = RESAMPLES, seed: int = SEED
) -> AtEqual:
    """Two curves, each (level, kept), both (values, scenes) of the same scenes."""
    spans = [(level.mean(1).min(), level.mean(1).max()) for level, _ in (first, second)]
    low, high = max(span[0] for span in spans), min(span[1] for span in spans)
    if not low < high:
        return AtEqual(*(np.zeros(0),) * 3, np.zeros((0, 0)))
    levels = low + np.array(LEVELS) * (high - low)

    def kept_at(curve: tuple[NDArray, NDArray], drawn: NDArray) -> NDArray:
        level, kept = (values[:, drawn].mean(-1) for values in curve)  # (values, B)
        return np.stack([read_off(level, kept, wanted) for wanted in levels])

    def differences(drawn: NDArray, axis: int) -> NDArray:
        found = kept_at(first, drawn) - kept_at(second, drawn)
        return np.concatenate([found, found.mean(axis=0, keepdims=True)])

    everything = np.arange(first[0].shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of NaN in its own interval, which is not used
        found = bootstrap(
            (everything,), differences, vectorized=True, method="percentile", n_resamples=resamples, batch=BATCH,
            rng=np.random.default_rng(seed),
        )  # fmt: skip
    own = [kept_at(curve, everything[None])[:, 0] for curve in (first, second)]
    return AtEqual(levels, *own, found.bootstrap_distribution)


def comparisons_of(frame: DataFrame, metric: str) -> list[tuple[str, str, str, AtEqual]]:
    """(method, other method, what is kept, comparison) for each two methods of several settings, from long rows."""
    settings = frame.groupby("method")["setting"].nunique()
    methods = [name for name in dict.fromkeys(frame["method"]) if settings[name] > 1]
    if len(methods) < 2:
        raise ValueError(
            f"Only {', '.join(methods) or 'no method'} has several settings. Give `run` a --sweep for two methods."
        )
    measured = set(frame["metric"])
    if metric not in measured:
        raise ValueError(f"There are no rows of {metric!r}. Keep it with --metrics.")
    found = []
    for one, other in combinations(methods, 2):
        for what in KEPT:
            if what in measured:
                scenes = _scenes(frame, (one, other), (metric, what))
                pairs = [tuple(_curve(frame, name, which, scenes) for which in (metric, what)) for name in (one, other)]
                found.append((one, other, what, at_equal(*pairs)))
    return found


def _scenes(frame: DataFrame, methods: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The scenes for which every setting of the methods has these metrics."""
    part = frame[frame["method"].isin(methods) & frame["metric"].isin(metrics)]
    wide = part.pivot_table(index="scene", columns=["method", "setting", "metric"], values="value")
    scenes = wide.dropna().index.tolist()
    if not scenes:
        raise ValueError(f"{' and '.join(methods)} share no scene with {' and '.join(metrics)}. Run them on the same.")
    return scenes


def _curve(frame: DataFrame, method: str, metric: str, scenes: Sequence[str]) -> NDArray:
    """(settings, scenes) in the order in which the settings were run; the mean of each scene's cases."""
    part = frame[(frame["method"] == method) & (frame["metric"] == metric)]
    wide = part.pivot_table(index="setting", columns="scene", values="value", sort=False)
    return wide.loc[list(dict.fromkeys(part["setting"])), list(scenes)].to_numpy()


def equal_table(comparisons: Sequence[tuple[str, str, str, AtEqual]], each_level: bool = True) -> str:
    """A line for every level and the mean over them, or for the mean alone, in markdown."""
    rows = []
    for one, other, what, found in comparisons:
        if not len(found.levels):
            rows.append((one, other, what, "no level is reached by both", "", "", ""))
            continue
        names = [*(f"{level:.3f}" for level in found.levels), "mean"]
        kept = [*zip(found.first, found.second, strict=True), (found.first.mean(), found.second.mean())]
        differences = list(zip(names, kept, found.differences, found.intervals, strict=True))
        rows += [
            (one, other, what, name, f"{a:.3f}", f"{b:.3f}", f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]")
            for name, (a, b), difference, (low, high) in differences[0 if each_level else -1 :]
        ]
    return markdown_table(("first", "second", "kept", "at", "by first", "by second", "first - second"), rows)
