"""The losses of a training by step: a JSON-lines file and a plot."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from ..loading.atomic import atomic_path, write_atomic

MEASURES = ("learning_rate", "gradient_norm")  # in the file, but no losses: they are not drawn
PLOT_SIZE, PLOT_DPI = (7, 4), 90  # inches, dots an inch
SMALLEST = 1e-6  # of a loss on the plot's log axis


class History:
    """Rows {"step": ..., name: value}; rows that a stopped run wrote past its checkpoint are dropped."""

    def __init__(self, path: Path, start: int):
        self.path = path
        self.rows: list[dict] = []
        if start and path.exists():
            self.rows = [row for row in _whole_rows(path) if row["step"] < start]
        self.written = 0

    def add(self, step: int, values: dict[str, float]) -> None:
        self.rows.append({"step": step, **values})

    def recent(self, count: int = 50) -> dict[str, float]:
        """Means over the last `count` rows."""
        tail = self.rows[-count:]
        return {key: sum(row.get(key, 0.0) for row in tail) / len(tail) for key in tail[-1] if key != "step"}

    def write(self) -> None:
        """Bring the file up to date."""
        lines = "".join(json.dumps(row) + "\n" for row in self.rows[self.written :])
        if self.written == 0:
            write_atomic(self.path, lines)
        else:
            with open(self.path, "a") as file:
                file.write(lines)
        self.written = len(self.rows)


def _whole_rows(path: Path) -> Iterator[dict]:
    """The rows up to one that was cut off when the process was killed."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def plot_losses(rows: list[dict], path: Path, title: str) -> None:
    """One curve a loss, each a running mean over 2 % of the run, on a log axis."""
    from matplotlib.figure import Figure  # not pyplot: this runs in a thread

    figure = Figure(figsize=PLOT_SIZE)
    axes = figure.subplots()
    window = max(1, len(rows) // 50)
    for key in (key for key in rows[-1] if key not in ("step", *MEASURES)):
        values = torch.tensor([row.get(key, float("nan")) for row in rows])
        smooth = values.unfold(0, window, 1).mean(-1)
        axes.plot([row["step"] for row in rows[window - 1 :]], smooth.clamp_min(SMALLEST), label=key, linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, dpi=PLOT_DPI, format="png")
