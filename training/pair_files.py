"""Random access to the pairs in the tar shards of a stage."""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..datagen.pairs.shards import KEPT, ShardFolder
from ..loading.atomic import atomic_path
from .caches import missing
from .digests import text_digest

COLUMNS = ("source.png", "edited.png", "json")


@dataclass(frozen=True)
class Pair:
    """A source picture, the edited one, and the instruction between them. `key`: its name in the shard."""

    key: str
    pictures: tuple[Image.Image, Image.Image]
    instruction: str


class PairFiles:
    """The pairs of the finished shards of a stage. Their positions are read once and cached in `work`.

    FileNotFoundError: no finished shard with a pair in it.
    """

    def __init__(self, folder: str | Path, stage: str, work: Path):
        shards = ShardFolder(folder, stage, ".tar")
        finished = [index for index in shards.finished() if shards.counts(index)[KEPT]]
        if not finished:
            raise FileNotFoundError(
                f"{folder} holds no finished {stage} shards with a pair in them. Run that stage first."
            )
        self.tars = [shards.path(index) for index in finished]
        self.records = [shards.folder / "stage.json", *(shards.counts_path(index) for index in shards.finished())]
        path = Path(work) / f"pairs-{_stamp(self.tars)}.npz"
        with missing(path) as is_missing:
            if is_missing:
                _write_index(path, self.tars)
        with np.load(path) as found:
            self.keys, self.places = found["keys"], found["places"]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Pair:
        shard, *places = self.places[number].tolist()
        with open(self.tars[shard], "rb") as tar:
            source, edited, record = (_read(tar, *place) for place in zip(places[::2], places[1::2], strict=True))
        pictures = tuple(Image.open(io.BytesIO(content)).convert("RGB") for content in (source, edited))
        return Pair(str(self.keys[number]), pictures, json.loads(record)["instruction"])


def _read(tar, offset: int, size: int) -> bytes:
    tar.seek(offset)
    return tar.read(size)


def _stamp(tars: Sequence[Path]) -> str:
    """What the index depends on: the shards, their sizes and when they were written."""
    stats = [(tar, tar.stat()) for tar in tars]
    return text_digest(*(f"{tar.resolve()} {stat.st_size} {stat.st_mtime_ns}" for tar, stat in stats))


def _write_index(path: Path, tars: Sequence[Path]) -> None:
    keys, places = [], []
    for shard, tar in enumerate(tars):
        for key, found in _members(tar).items():
            if lacking := [name for name in COLUMNS if name not in found]:
                raise ValueError(f"Pair {key} in {tar} lacks {', '.join(lacking)}. Run the stage that wrote it again.")
            keys.append(key)
            places.append([shard, *(number for name in COLUMNS for number in found[name])])
    with atomic_path(path) as unfinished, open(unfinished, "wb") as file:
        np.savez(file, keys=np.array(keys), places=np.array(places, dtype=np.int64))


def _members(tar: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """By key and column: offset and size in bytes."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    with tarfile.open(tar) as members:
        for member in members:
            key, _, column = member.name.partition(".")
            found.setdefault(key, {})[column] = (member.offset_data, member.size)
    return found
