"""Metrics of edited pictures: a new one is one function in one file of this package.

A metric is a function of a case, the output of a method and the `Tools` to measure with. It gives a number, or None
where it means nothing for that case. Read them with `METRICS[name]`; `METRICS.names()` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...models.judge import Judge
from ...stages.similarity import Embedder
from ..case import Case, Output
from ..registry import Registry


@dataclass(frozen=True)
class Tools:
    """The networks that some metrics measure with; None leaves those metrics out."""

    judge: Judge | None = None
    embedder: Embedder | None = None


Measure = Callable[[Case, Output, Tools], float | None]


@dataclass(frozen=True)
class Metric:
    """`unit`: "dB", "share" (0 to 1, shown in percent) or "" for plain numbers. `better`: "higher" or "lower"."""

    name: str
    unit: str
    better: str
    measure: Measure


METRICS: Registry[Metric] = Registry("metric", __name__)


def metric(name: str, unit: str = "", better: str = "higher") -> Callable[[Measure], Measure]:
    """Register the function below as a metric."""

    def register(measure: Measure) -> Measure:
        METRICS.add(name, Metric(name, unit, better, measure))
        return measure

    return register
