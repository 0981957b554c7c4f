"""Results as long rows, one for each case, method, setting and metric, and what they were measured with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..loading.atomic import atomic_path

if TYPE_CHECKING:
    import pandas

PACKAGE = Path(__file__).resolve().parents[1]
PAINTING = ("models", "loading", "stages")  # rooms whose code a painted picture depends on
MEASURING = (*PAINTING, "datagen", "evaluation")
DIGEST_LENGTH = 12  # hexadecimal digits
FORMATS = (".parquet", ".jsonl")


@dataclass(frozen=True)
class Row:
    """One number. `setting`: the swept options as text, empty for the defaults. `embedder`: what similarities were
    measured with. `weights`, `code`, `options`: digests of the weight files, of the Python files and of all options
    with the seed."""

    data: str
    split: str
    case: str
    scene: str
    kind: str
    given_as: str
    method: str
    setting: str
    metric: str
    value: float
    unit: str
    embedder: str
    seed: int
    weights: str
    code: str
    options: str


COLUMNS = tuple(field.name for field in fields(Row))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """As parquet or JSON lines, by the ending of `path`."""
    import pandas

    if path.suffix not in FORMATS:
        raise ValueError(f"{path} ends in {path.suffix!r}. Results are written as {' or '.join(FORMATS)}.")
    frame = pandas.DataFrame([asdict(row) for row in rows], columns=COLUMNS)
    with atomic_path(path) as unfinished:
        if path.suffix == ".parquet":
            frame.to_parquet(unfinished, index=False)
        else:
            frame.to_json(unfinished, orient="records", lines=True)


def read_rows(paths: Sequence[Path]) -> pandas.DataFrame:
    """All rows of some files, in COLUMNS. ValueError for a file without results, and for two rows with the same
    number."""
    import pandas

    frames = [read_file(path) for path in paths]
    frame = pandas.concat(frames, ignore_index=True)
    same = ["data", "split", "case", "method", "setting", "metric", "seed"]
    if (twice := frame.duplicated(same)).any():
        row = frame[twice].iloc[0]
        raise ValueError(
            f"{row.metric} of {row.method} {row.setting} for the case {row.case} appears twice. Give files of "
            "different runs."
        )
    return frame


def read_file(path: Path) -> pandas.DataFrame:
    import pandas

    if not path.is_file() or path.suffix not in FORMATS:
        raise ValueError(f"{path} is not a results file. Give one that `run --out` wrote, {' or '.join(FORMATS)}.")
    frame = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_json(path, lines=True, dtype=False)
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise ValueError(f"{path} lacks the column {missing[0]!r}. Give a file that `run --out` wrote.")
    return frame[list(COLUMNS)]


def digest_of(values: Mapping[str, Any]) -> str:
    """The digest of anything that JSON can hold."""
    return _short(json.dumps(values, sort_keys=True, default=str).encode())


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """The digest of the contents of files and their names below `root`."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:DIGEST_LENGTH]


def weights_digest(folder: Path) -> str:
    return digest_of_files(folder.glob("*.safetensors"), folder)


def code_digest(rooms: Sequence[str] = MEASURING) -> str:
    return digest_of_files((path for room in rooms for path in (PACKAGE / room).rglob("*.py")), PACKAGE)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
