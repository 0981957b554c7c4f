"""Two processes that do the same work in turn, and the ratios of their seconds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, tensor

MODULE = f"{__package__}.duel_worker"


class Side:
    """A worker process. ``python_path``: folders in front of its import path; ``variables``: more of its
    environment."""

    def __init__(self, name: str, python_path: list[str], variables: Mapping[str, str], log: Path):
        self.name, self.log = name, log
        path = os.pathsep.join([*python_path, *filter(None, [os.environ.get("PYTHONPATH")])])
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", MODULE, name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **variables, "PYTHONPATH": path},
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request; what went wrong in the worker is raised here."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"The process of {self.name} has ended:\n{self.log.read_text()[-2000:]}")
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(f"{self.name} failed at {do}:\n{found['error']}")
        return found

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@dataclass(frozen=True)
class Case:
    """One row of the table. ``kind`` and ``task`` say what is done; ``series`` and ``at`` place it in a growth
    series."""

    name: str
    kind: str
    task: Any
    series: str = ""
    at: int = 0


@dataclass(frozen=True)
class Measured:
    """Seconds of every run, by side, and how far the numbers of the sides lie apart (relative L2)."""

    case: Case
    ours: list[dict[str, float]]
    upstream: list[dict[str, float]]
    difference: float

    def ratios(self, clock: str = "cpu") -> list[float]:
        """Authors' seconds over ours, run by run."""
        return [theirs[clock] / own[clock] for own, theirs in zip(self.ours, self.upstream, strict=True)]

    def median(self, side: str, clock: str = "cpu") -> float:
        return statistics.median(run[clock] for run in getattr(self, side))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.case.name,
            "kind": self.case.kind,
            "task": asdict(self.case.task),
            "series": self.case.series,
            "at": self.case.at,
            "ours": self.ours,
            "upstream": self.upstream,
            "difference": self.difference,
        }


def duel(case: Case, ours: Side, upstream: Side, repeats: int, folder: Path) -> Measured:
    """Both sides on the same weights: numbers compared once, which also warms them up, then ``repeats`` runs in
    turn."""
    for side in (ours, upstream):  # ours writes the weights that upstream reads
        side.ask("prepare", kind=case.kind, task=asdict(case.task), folder=str(folder))
    numbers = [tensor(side.ask("check")["numbers"]) for side in (ours, upstream)]
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "upstream": []}
    for repeat in range(repeats):
        order = [("ours", ours), ("upstream", upstream)]
        for name, side in order if repeat % 2 == 0 else order[::-1]:
            runs[name].append(side.ask("run"))
    return Measured(case, runs["ours"], runs["upstream"], relative_difference(*numbers))


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        raise ValueError(f"The two sides answered with {ours.numel()} and {theirs.numel()} numbers.")
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30))
