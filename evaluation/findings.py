"""What was measured of the miniature, read from the files that training and evaluation write beside it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from ..loading.files import META_DIMS, META_KIND, META_TOKENIZER
from ..loading.quantised import SCALE_SUFFIX
from ..miniature import manifest
from .rates import Rate
from .report import with_columns
from .results import read_rows

if TYPE_CHECKING:
    from pandas import DataFrame

RESULTS, TRAINING, NOTES = "results", manifest.TRAINING, "notes.md"
PICTURE_SUFFIXES = (".png", ".jpg")


@dataclass(frozen=True)
class WeightFile:
    """What the header of a safetensors file holds; no tensor is read."""

    name: str
    kind: str
    parameters: int
    precisions: tuple[str, ...]
    size: int  # bytes
    dims: dict[str, Any]
    has_tokenizer: bool


def read_weight_file(path: Path) -> WeightFile:
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        names = [name for name in file.keys() if not name.endswith(SCALE_SUFFIX)]  # noqa: SIM118, the handle is not a dict
        slices = [file.get_slice(name) for name in names]
        parameters = sum(math.prod(part.get_shape()) for part in slices)
        precisions = tuple(sorted({part.get_dtype() for part in slices}))
    return WeightFile(
        name=path.name,
        kind=metadata.get(META_KIND, ""),
        parameters=parameters,
        precisions=precisions,
        size=path.stat().st_size,
        dims=json.loads(metadata.get(META_DIMS, "{}")),
        has_tokenizer=META_TOKENIZER in metadata,
    )


@dataclass(frozen=True)
class Findings:
    """Everything the card is written from. Records and rows of `results/` by file name, without the ending for rows."""

    weights: tuple[WeightFile, ...]
    training: dict[str, dict]
    rows: dict[str, DataFrame]
    latency: dict[str, dict]
    inversions: dict[str, dict]
    ablations: dict[str, dict]  # ready tables: columns, rows, command
    pictures: frozenset[str]  # names in results/
    notes: str


def gather(miniature: Path) -> Findings:
    """Read the folder; FileNotFoundError where there is no weight file in it."""
    files = sorted(miniature.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"No weights in {miniature}. Make them with: python -m any2pix.training.miniature")
    results = miniature / RESULTS
    records = {path.name: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    training, notes = miniature / TRAINING, results / NOTES
    return Findings(
        weights=tuple(map(read_weight_file, files)),
        training=json.loads(training.read_text()) if training.is_file() else {},
        rows={path.stem: with_columns(read_rows([path])) for path in sorted(results.glob("*.parquet"))},
        latency={name: record for name, record in records.items() if "bare UNet" in record},
        inversions={name: record for name, record in records.items() if "inversions" in record},
        ablations={name: record for name, record in records.items() if {"columns", "rows", "command"} <= record.keys()},
        pictures=frozenset(path.name for path in results.glob("*") if path.suffix in PICTURE_SUFFIXES),
        notes=notes.read_text().strip() if notes.is_file() else "",
    )


def rates_of(group: Mapping[str, Mapping]) -> dict[str, Rate]:
    """Undoes Rate.to_dict; a figure that was not measured has count 0."""
    rates: dict[str, Rate] = defaultdict(lambda: Rate.of([]))
    for name, value in group.items():
        error = math.nan if value["error"] is None else value["error"]
        rates[name] = Rate(value["mean"], error, value["count"])
    return rates
