"""Curves of methods over their settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .intervals import Estimate, estimate
from .metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame

PANEL = (3.4, 3.0)  # inches
DPI = 100


def plot_curves(frame: DataFrame, over: str | None, metrics: Sequence[str], path: Path) -> None:
    """A panel for each of `metrics`, a line for each method through its settings, with 95 % intervals.

    `over`: the metric of the x axis; None: the value of the swept option. Rows as `report.chosen_rows` gives them.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(metrics), figsize=(PANEL[0] * len(metrics), PANEL[1] + 0.4), squeeze=False, layout="constrained"
    )
    for metric, axes in zip(metrics, panels[0], strict=True):
        for method in dict.fromkeys(frame["method"]):
            own = frame[frame["method"] == method]
            settings = sorted(dict.fromkeys(own["setting"]), key=value_of)
            found = [estimated(own, setting, metric) for setting in settings]
            x = [estimated(own, setting, over).mean if over else value_of(setting) for setting in settings]
            y = [point.mean for point in found]
            down, up = [point.mean - point.low for point in found], [point.high - point.mean for point in found]
            bars = np.nan_to_num([down, up]).clip(min=0)
            axes.errorbar(x, y, yerr=bars, marker="o", markersize=3, capsize=2, label=method)
        unit = f", {METRICS[metric].unit}" if METRICS[metric].unit else ""
        axes.set(title=f"{metric.replace('_', ' ')}{unit}", xlabel=over or _option(frame))
        axes.grid(alpha=0.3)
    if frame["method"].nunique() > 1:
        figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)


def value_of(setting: str) -> float:
    """The number in a setting such as alpha=0.4; ValueError where it is no number."""
    return float(setting.partition("=")[2])


def estimated(frame: DataFrame, setting: str, metric: str) -> Estimate:
    """Of one setting."""
    rows = frame[(frame["setting"] == setting) & (frame["metric"] == metric)]
    return estimate(rows["value"], list(rows["scene"]), METRICS[metric].unit == "share")


def _option(frame: DataFrame) -> str:
    """The name of the swept option."""
    return frame["setting"].iloc[0].partition("=")[0]
