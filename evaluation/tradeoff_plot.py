"""The plot of the trade-off: a line for each method, every point with the value of its knob."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TITLES = {
    "image": "image similarity (embeddings before and after)",
    "patches": "patch similarity (embeddings of each place)",
    "structure": "structural similarity (lines before and after)",
}
DISTANCES = (11, 15, 20, 26, 33, 41, 50)  # of a label's middle from its point, in points of 1/72 inch
ANGLES = np.deg2rad(45 + np.arange(16) * 22.5)  # of a label from its point, where error bars are not
FONT, HALO = 8, 2  # points
COLOURS = 128  # of the file, a third of the size of one with all
LEADER_FROM = 16  # points; a label farther away than this is tied to its point
INK = 2  # half the width of what a label should not cover, pixels
STEPS = 24  # boxes along each line between two points
Box = tuple[float, float, float, float]  # left, bottom, right, top in pixels


def plot(curves: Sequence[Mapping[str, Any]], levels: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """`curves` as `Curve.to_dict` gives them, `levels`: single points by name, each with its rates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(TITLES), figsize=(6 * len(TITLES), 6.4))
    for axes, (what, title) in zip(panels, TITLES.items(), strict=True):
        for number, curve in enumerate(curves):
            _draw(axes, curve, what, f"C{number}")
        for name, level in levels.items():
            at = level["direction"]["mean"], level[what]["mean"]
            axes.plot(*at, marker="*", markersize=13, color="0.35", linestyle="none", label=name)
        axes.set(xlabel="directional similarity (change in pictures with change in captions)", ylabel=title)
        axes.grid(alpha=0.3)
        axes.margins(0.09)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=10, loc="upper center", ncols=len(names))
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    for axes, what in zip(panels, TITLES, strict=True):
        _label(axes, curves, levels, what)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=110)
    pyplot.close(figure)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, "png", optimize=True)


def _draw(axes, curve: Mapping[str, Any], what: str, colour: str) -> None:
    """A curve with its standard errors, which stay in the background."""
    points, errors = _points(curve, what), _errors(curve, what)
    axes.errorbar(*points.T, *errors.T[::-1], fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.4)
    label = f"{curve['method']}, over {curve['knob']}"
    axes.plot(*points.T, color=colour, marker="o", markersize=4.5, linewidth=1.3, label=label)


def _points(curve: Mapping[str, Any], what: str) -> np.ndarray:
    """(values, 2): direction and what is kept."""
    return np.array([[rate["mean"] for rate in curve[name]] for name in ("direction", what)]).T


def _errors(curve: Mapping[str, Any], what: str) -> np.ndarray:
    """(values, 2): their standard errors, 0 where there is none."""
    return np.array([[rate["error"] or 0.0 for rate in curve[name]] for name in ("direction", what)]).T


def _label(axes, curves: Sequence[Mapping[str, Any]], levels: Mapping[str, Mapping[str, Any]], what: str) -> None:
    """Writes the value of the knob near every point, where it covers as little as possible of all that is drawn."""
    from matplotlib import patheffects
    from matplotlib.text import Text

    renderer, pixels = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    taken = [box for curve in curves for box in _drawn(axes, curve, what)]
    stars = [axes.transData.transform((level["direction"]["mean"], level[what]["mean"])) for level in levels.values()]
    taken += [(x - 9, y - 9, x + 9, y + 9) for x, y in stars]
    for number, curve in enumerate(curves):
        for point, value in zip(_points(curve, what), curve["values"], strict=True):
            written = axes.annotate(
                f"{value:g}", point, (0, 0), textcoords="offset points", ha="center", va="center", fontsize=FONT,
                color=f"C{number}", path_effects=[patheffects.withStroke(linewidth=HALO, foreground="white")],
                arrowprops={"arrowstyle": "-", "color": f"C{number}", "linewidth": 0.6, "shrinkA": 4, "shrinkB": 2},
            )  # fmt: skip
            extent = Text.get_window_extent(written, renderer)
            half = extent.width / 2 + 1, extent.height / 2 + 1
            offset = best_offset(axes.transData.transform(point), half, taken, frame.extents, pixels)
            written.set_position(offset)
            written.arrow_patch.set_visible(bool(np.hypot(*offset) > LEADER_FROM))
            middle = axes.transData.transform(point) + np.array(offset) * pixels
            taken.append((*(middle - half), *(middle + half)))


def best_offset(
    point: Sequence[float], half: tuple[float, float], taken: Sequence[Box], frame: Sequence[float], pixels: float = 1.0
) -> tuple[float, float]:
    """Where from `point` a box of half size `half` covers least of the boxes that are `taken`, the nearest of the best.

    All in pixels, but for the offset itself, which is in points of `pixels` pixels. Outside of `frame` nothing is seen.
    """
    boxes, (w, h) = np.array(taken).reshape(-1, 4), half
    offsets = [(d * np.cos(angle), d * np.sin(angle)) for d in DISTANCES for angle in ANGLES]

    def covered(offset: tuple[float, float]) -> float:
        x, y = point[0] + offset[0] * pixels, point[1] + offset[1] * pixels
        if x - w < frame[0] or y - h < frame[1] or x + w > frame[2] or y + h > frame[3]:
            return np.inf
        across = np.minimum(x + w, boxes[:, 2]) - np.maximum(x - w, boxes[:, 0])
        up = np.minimum(y + h, boxes[:, 3]) - np.maximum(y - h, boxes[:, 1])
        return float((across.clip(0) * up.clip(0)).sum())

    return min(offsets, key=covered)  # the first of equals: offsets go outwards


def _drawn(axes, curve: Mapping[str, Any], what: str) -> list[Box]:
    """What a curve covers: its markers, its error bars and, in small steps, its lines."""
    points, errors = _points(curve, what), _errors(curve, what)
    middle, upper = axes.transData.transform(points), axes.transData.transform(points + errors)
    boxes = []
    for (x, y), (right, top) in zip(middle, upper, strict=True):
        boxes += [(x - 4, y - 4, x + 4, y + 4), (2 * x - right, y - 1, right, y + 1), (x - 1, 2 * y - top, x + 1, top)]
    for start, end in pairwise(middle):
        steps = start + np.linspace(0, 1, STEPS)[:, None] * (end - start)
        boxes += [(x - INK, y - INK, x + INK, y + INK) for x, y in steps]
    return boxes
