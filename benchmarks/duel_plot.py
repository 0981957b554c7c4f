"""The growth series of benchmarks/against_upstream.py as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .duel import Measured


def plot_growth(measured: Sequence[Measured], series: Mapping[str, str], path: Path) -> None:
    """A panel for each series (name -> what grows): seconds against size, both sides, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {name: [one for one in measured if one.case.series == name] for name in series}
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        raise ValueError("There is no growth series to plot: leave out --only, or name one of its rows.")
    figure, axes = pyplot.subplots(1, len(found), figsize=(3.2 * len(found), 3), squeeze=False)
    for axis, (name, rows) in zip(axes[0], found.items(), strict=True):
        sizes = [one.case.at for one in rows]
        for side, label in (("upstream", "authors"), ("ours", "ours")):
            axis.plot(sizes, [one.median(side) for one in rows], "o-", label=label)
        axis.set(xscale="log", yscale="log", xlabel=series[name], ylabel="seconds", xticks=sizes, xticklabels=sizes)
        axis.minorticks_off()
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
