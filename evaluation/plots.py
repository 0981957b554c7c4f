"""Curves of methods over their settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .metrics import METRICS
from .report import estimates_of, shown_name

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
    estimates = {metric: cells for (metric, _), cells in estimates_of(frame, None).items()}
    for metric, axes in zip(metrics, panels[0], strict=True):
        for method in dict.fromkeys(frame["method"]):
            settings = sorted(dict.fromkeys(frame.loc[frame["method"] == method, "setting"]), key=value_of)
            columns = [shown_name(method, setting) for setting in settings]
            found = [estimates[metric][column] for column in columns]
            x = [estimates[over][column].mean for column in columns] if over else list(map(value_of, settings))
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


def _option(frame: DataFrame) -> str:
    """The name of the swept option."""
    return frame["setting"].iloc[0].partition("=")[0]
