"""A folder of weight files as one: the shards that Hugging Face's libraries write, with their index, or a single
file."""

import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from torch import Tensor

from .entries import unreadable
from .errors import CheckpointError, file_error
from .kinds import KINDS, recognise
from .reader import TORCH_SUFFIXES, WeightFile, read_json

INDEX_MARK = ".index."
MOST_SHARDS = 1000  # the largest models of today have 200
LOOKED_AT = 50  # entries of a folder without weights, to say what lies there instead


class WeightFolder:
    """What WeightFile is for one file: ``layout``, ``tensor``. One shard is open at a time."""

    def __init__(self, folder: Path, names: Sequence[str], remedy: str) -> None:
        """``names``: index files and weight files that may be there, the first one found counts."""
        self.path, self.metadata = folder, {}
        found = next((folder / name for name in names if os.path.lexists(folder / name)), None)
        if found is None:
            raise file_error(
                folder, f"holds no weights, none of {', '.join(names)}{_what_else(folder, remedy)}.", remedy
            )
        if INDEX_MARK in found.name:
            self._owner = _read_shards(found, remedy)
        else:
            self._owner = dict.fromkeys((file := WeightFile(found, remedy)).layout, file)
        self.layout = {name: file.layout[name] for name, file in self._owner.items()}
        self._last: WeightFile | None = None

    def tensor(self, name: str) -> Tensor:
        """As WeightFile.tensor."""
        owner = self._owner[name]
        if self._last not in (None, owner):
            self._last.release()
        self._last = owner
        return owner.tensor(name)


def _what_else(folder: Path, remedy: str) -> str:
    """What the first weight file in a folder is, as the end of a sentence; "" where there is none to be read."""
    try:
        below = sorted(folder.iterdir())[:LOOKED_AT]
    except OSError as error:
        raise unreadable(folder, error, remedy) from error
    for path in below:
        if path.suffix in (".safetensors", *TORCH_SUFFIXES):
            try:
                kind = KINDS.get(recognise(WeightFile(path).layout))
            except CheckpointError:
                continue
            if kind:
                return f", but {path.name}, {kind.title}, which belongs in models/{kind.folder}"
    return ""


def _read_shards(index: Path, remedy: str) -> dict[str, WeightFile]:
    """Name -> its shard, in the shards' order; the index and the shards must agree on every name."""
    again = f"Index and shards are of different downloads: download the folder again. {remedy}"
    weight_map = read_json(index, remedy).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise file_error(index, "has no weight_map that names a shard for each weight.", again)
    listed_in: dict[str, set[str]] = {}
    for name, shard in weight_map.items():
        listed_in.setdefault(shard, set()).add(name)
    if len(listed_in) > MOST_SHARDS:
        raise file_error(index, f"names {len(listed_in)} shards; at most {MOST_SHARDS} are read.", again)
    owner = {}
    for shard, listed in sorted(listed_in.items()):
        if PureWindowsPath(shard).name != shard or shard in ("", ".", ".."):  # handles both separators, and drives
            raise file_error(index, f"names a shard outside its folder, {shard!r}.", again)
        file = WeightFile(index.parent / shard, remedy)
        if lost := sorted(listed - set(file.layout)):
            raise file_error(index, f"places {lost[0]} in {shard}, which lacks it ({len(lost)} such).", again)
        if extra := sorted(set(file.layout) - set(weight_map)):
            raise file_error(index, f"does not list {extra[0]}, which is in {shard} ({len(extra)} such).", again)
        file.release()
        owner |= {name: file for name in file.layout if name in listed}
    return owner
