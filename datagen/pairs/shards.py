"""Shards of a stage: written whole or not at all, with the counts of what was kept and dropped beside each.

A stage's folder holds stage.json (its settings), and for every finished shard NAME-00000.jsonl or .tar with
NAME-00000.counts.json. A shard counts as finished when its counts lie there; a stopped run goes on with the first one
that does not. Files that a killed run left half written end in .part; they are removed when their shard is finished.
Picture shards are WebDataset tars: `datasets` and webdataset both stream them.
"""

import io
import json
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image
from tqdm import tqdm

from ...loading.atomic import make_durable

log = logging.getLogger(__name__)
KEPT = "kept"
Sample = dict[str, Any]  # {"__key__": "0000012_003", "json": {...}, "source.png": picture, "edited.png": picture}
Make = Callable[[int, Counter], Iterable[dict]]


class ShardFolder:
    """The shards NAME-00000 .. of one stage in `folder`."""

    def __init__(self, folder: str | Path, name: str, suffix: str):
        self.folder, self.name, self.suffix = Path(folder), name, suffix

    def path(self, index: int) -> Path:
        """Where a shard lies or will lie."""
        return self.folder / f"{self.name}-{index:05d}{self.suffix}"

    def counts_path(self, index: int) -> Path:
        """Where the counts of a finished shard lie."""
        return self.folder / f"{self.name}-{index:05d}.counts.json"

    def counts(self, index: int) -> Counter | None:
        """What a finished shard kept and dropped, by reason; None while it is not finished."""
        place = self.counts_path(index)
        return Counter(json.loads(place.read_text(encoding="utf-8"))) if place.exists() else None

    def finished(self) -> list[int]:
        """Indices of the finished shards, ascending."""
        found = self.folder.glob(f"{self.name}-*.counts.json")
        return sorted(int(place.name.removeprefix(f"{self.name}-").split(".")[0]) for place in found)

    def settings(self) -> dict:
        """What the stage was run with. Raises FileNotFoundError where it never ran."""
        place = self.folder / "stage.json"
        if not place.exists():
            raise FileNotFoundError(
                f"{self.folder} holds no shards: {place.name} is missing. Run the stage before this one."
            )
        return json.loads(place.read_text(encoding="utf-8"))

    def begin(self, settings: dict) -> None:
        """Note the settings, or check that a run that goes on has the same ones."""
        settings = json.loads(json.dumps(settings))
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / "stage.json"
        if not place.exists():
            _write_whole(place, json.dumps(settings, indent=2).encode())
        before = self.settings()  # another machine may have been as quick
        if changed := sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key)):
            told = ", ".join(f"{key} {before.get(key)!r} -> {settings.get(key)!r}" for key in changed)
            raise ValueError(
                f"{self.folder} was begun with other settings ({told}). Use those, or another --out folder."
            )

    def run(self, indices: Iterable[int], make: Make) -> Counter:
        """Write the shards that are not finished; `make(index, counts)` yields their samples and counts what it drops.

        Returns the totals of all finished shards of these indices.
        """
        indices = list(indices)
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in tqdm(indices, desc=self.name, unit="shard"):
            if self.counts(index) is not None:
                continue
            counts = Counter()
            self._write(index, make(index, counts), counts)
            log.info("%s: %s", self.path(index).name, told(counts))
        return sum((self.counts(index) for index in indices), Counter())

    def read(self, index: int) -> Iterator[dict]:
        """The samples of a finished shard, pictures decoded."""
        if self.suffix == ".jsonl":
            with open(self.path(index), encoding="utf-8") as lines:
                yield from map(json.loads, lines)
        else:
            yield from read_tar(self.path(index))

    def _write(self, index: int, samples: Iterable[dict], counts: Counter) -> None:
        place = self.path(index)
        part = _part_of(place)
        write = _write_lines if self.suffix == ".jsonl" else _write_tar
        counts[KEPT] += write(part, samples)
        _settle(part, place)
        _write_whole(self.counts_path(index), json.dumps(counts, indent=2, sort_keys=True).encode())
        for left in self.folder.glob(f"{place.stem}.*.part"):
            left.unlink(missing_ok=True)


def told(counts: Counter) -> str:
    """E.g. "12 kept; dropped: 3 no-op, 1 duplicate"."""
    dropped = [f"{number} {reason}" for reason, number in sorted(counts.items()) if reason != KEPT and number]
    return f"{counts[KEPT]} kept; dropped: {', '.join(dropped) or 'none'}"


def read_tar(path: str | Path) -> Iterator[Sample]:
    """Samples of a WebDataset tar in order: files that share the name up to the first dot."""
    sample: Sample = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, column = member.name.partition(".")
            if sample and sample["__key__"] != key:
                yield sample
                sample = {}
            content = tar.extractfile(member).read()
            sample |= {"__key__": key, column: _decoded(column, content)}
    if sample:
        yield sample


def stream(folder: str | Path, name: str = "filter"):
    """The finished shards of a picture stage as a `datasets` IterableDataset: columns json, source.png, edited.png.

    Shuffle, split among workers and decode as `datasets` does: `.shuffle(buffer_size=...)`, a torch DataLoader around
    it.
    """
    from datasets import load_dataset  # of the [train] extra; only the trainer streams

    shards = ShardFolder(folder, name, ".tar")
    files = [str(shards.path(index)) for index in shards.finished() if shards.counts(index)[KEPT]]
    if not files:
        raise FileNotFoundError(f"{folder} holds no finished {name} shards with a pair in them. Run that stage first.")
    return load_dataset("webdataset", data_files={"train": files}, split="train", streaming=True)


def _decoded(column: str, content: bytes):
    if column.endswith("json"):
        return json.loads(content)
    return Image.open(io.BytesIO(content)).convert("RGB")


def _encoded(value) -> bytes:
    if isinstance(value, Image.Image):
        buffer = io.BytesIO()
        value.save(buffer, format="PNG")
        return buffer.getvalue()
    return json.dumps(value, ensure_ascii=False).encode()


def _write_lines(place: Path, samples: Iterable[dict]) -> int:
    number = 0
    with open(place, "w", encoding="utf-8") as out:
        for number, sample in enumerate(samples, 1):
            out.write(json.dumps(sample, ensure_ascii=False) + "\n")
    return number


def _write_tar(place: Path, samples: Iterable[Sample]) -> int:
    number = 0
    with tarfile.open(place, "w") as tar:
        for number, sample in enumerate(samples, 1):
            for column, value in sample.items():
                if column == "__key__":
                    continue
                content = _encoded(value)
                member = tarfile.TarInfo(f"{sample['__key__']}.{column}")  # no time stamp: the same run, the same file
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return number


def _part_of(place: Path) -> Path:
    """Where a file is written until it is whole; the name is unique, in case two writers are running by mistake."""
    return place.with_name(f"{place.name}.{uuid4().hex}.part")


def _settle(part: Path, place: Path) -> None:
    """Sync to disk, then rename: a file under its final name is whole, whatever stops the machine."""
    make_durable(part)
    os.replace(part, place)


def _write_whole(place: Path, content: bytes) -> None:
    part = _part_of(place)
    part.write_bytes(content)
    _settle(part, place)
