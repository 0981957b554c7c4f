"""What an artist saves to load it again: references, embeddings, inversions. One safetensors file each, and nothing
else.

The same content gives the same bytes: there is no date inside (the file has its own), and all metadata is one sorted
JSON text, for safetensors puts several entries into any order.
"""

import errno
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from .atomic import CLOSED, FULL, make_durable, unfinished_path
from .errors import CheckpointError, file_error
from .files import read_metadata, require_kind
from .kinds import KINDS
from .reader import WeightFile

META_SAVED = "any2pix.saved"
FORMAT = 1  # of the record; a file with a higher one comes from a newer version of the pack
SUFFIX = ".safetensors"
MOST_BYTES = 4 * 2**30  # of a file that is read: far more than any reference library, far less than a model
LONGEST_PART = 200  # bytes of a file's or folder's name; systems allow 255, and a counter is put behind it
MOST_COPIES = 99_999
FORBIDDEN = set('<>:"|?*')  # in names on Windows; a file has to travel
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EACCES}


@dataclass(frozen=True)
class Saved:
    """``path``: where it is now. ``is_new`` False: a file with just this content was there already and stays."""

    path: Path
    is_new: bool


def clean_name(name: str) -> tuple[str, ...]:
    """A name as an artist writes it -> folders and name below the model folder, without the ending; ValueError says
    what is wrong with it. Letters of any script are fine."""
    text = unicodedata.normalize("NFC", name).strip().replace("\\", "/").removesuffix(SUFFIX)
    if not text.strip():
        raise ValueError("The name is empty. Write one, for example: my cats.")
    parts = tuple(part.strip() for part in text.split("/"))
    for part in parts:
        if fault := _fault(part):
            raise ValueError(
                f"The name {name[:80]!r} cannot be used for a file: {fault}. Write another one, for example: my cats."
            )
    return parts


def _fault(part: str) -> str | None:
    """Why a part of a name cannot be the name of a file or folder everywhere; None where it can."""
    if part in ("", ".", ".."):
        return "it points outside the folder, or nowhere"
    if bad := next((letter for letter in part if letter in FORBIDDEN or not letter.isprintable()), None):
        return f"{bad!r} is not allowed in it"
    if part.startswith(".") or part.endswith("."):
        return "a part of it begins or ends with a dot"
    if part.split(".")[0].upper() in RESERVED:
        return f"Windows keeps {part.split('.')[0]!r} for itself"
    if len(part.encode("utf-8", "replace")) > LONGEST_PART:
        return f"a part of it is longer than {LONGEST_PART} bytes"
    return None


def write_saved(
    folder: str | Path,
    name: str,
    kind: str,
    tensors: Mapping[str, Tensor],
    record: Mapping[str, Any],
    overwrite: bool = False,
) -> Saved:
    """Write ``tensors`` and ``record`` (JSON) as ``name`` below ``folder``. The file appears whole or not at all.

    Another file of this name stays: a counter is put behind the name. With ``overwrite`` it is replaced, where it is of
    this ``kind`` too. ValueError for a name that cannot be one, CheckpointError where the disk does not take it. For a
    moment the content is in memory twice.
    """
    *below, stem = clean_name(name)
    target = Path(folder, *below, stem + SUFFIX)
    text = json.dumps({**record, "kind": kind, "format": FORMAT}, sort_keys=True, allow_nan=False)
    whole = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}  # none may share memory
    content = save(whole, {META_SAVED: text})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(Path(folder).resolve()):
            raise ValueError(f"The name {name!r} points outside {folder} through a link. Write another one.")
        if overwrite:
            _require_own(target, kind)
        return _put(content, target, replace_it=overwrite)
    except OSError as error:
        raise _write_error(target, len(content), error) from error


def _candidates(target: Path) -> Iterator[Path]:
    """name, name_00002, name_00003, ..."""
    yield target
    for number in range(2, MOST_COPIES + 1):
        yield target.with_name(f"{target.stem}_{number:05}{SUFFIX}")


def _put(content: bytes, target: Path, replace_it: bool) -> Saved:
    """Move the content to the first free place, or to ``target`` itself; nothing is written where a place has it
    already."""
    with unfinished_path(target) as unfinished:
        for place in [target] if replace_it else _candidates(target):
            if os.path.lexists(place) and _holds(place, content):
                return Saved(place, is_new=False)
            if not unfinished.exists():
                unfinished.write_bytes(content)
                make_durable(unfinished)
            if replace_it:
                os.replace(unfinished, place)
                return Saved(place, is_new=True)
            if _put_if_free(unfinished, place):
                return Saved(place, is_new=True)
    raise file_error(target, f"has {MOST_COPIES} copies.", "Write another name, or switch on overwrite.")


def _put_if_free(unfinished: Path, place: Path) -> bool:
    """Give a whole file its name; False where the name is taken, by whomever.

    A hard link does both in one step. Where the disk has none (exFAT, some shares) the name is taken by an empty file
    first, which a kill in just that moment leaves behind.
    """
    try:
        os.link(unfinished, place)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    try:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    os.replace(unfinished, place)
    return True


def _holds(place: Path, content: bytes) -> bool:
    return place.is_file() and place.stat().st_size == len(content) and place.read_bytes() == content


def _require_own(target: Path, kind: str) -> None:
    """Only a file of the same kind is overwritten."""
    if not os.path.lexists(target):
        return
    remedy = "It was not changed: write another name."
    try:
        file = WeightFile(target, remedy)
        is_own = _record_of(file).get("kind") == kind
    except CheckpointError:
        is_own = False
    if not is_own:
        raise file_error(target, f"is not {KINDS[kind].title}.", remedy)


def _write_error(target: Path, size: int, error: OSError) -> CheckpointError:
    if error.errno in FULL:
        return file_error(
            target,
            f"was not saved: the disk is full, {_megabytes(size)} are needed.",
            "Free disk space, then run again.",
        )
    if error.errno in CLOSED:
        return file_error(
            target, f"was not saved: this folder is not writable ({error.strerror}).",
            "Check its permissions, or set another folder in extra_model_paths.yaml."
        )  # fmt: skip
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return file_error(target, "was not saved: a part of its path is a file, not a folder.", "Write another name.")
    return file_error(target, f"was not saved ({error.strerror}).", "Write another name, or check the disk.")


def _megabytes(size: int) -> str:
    return f"{max(size / 1e6, 0.1):.1f} MB"


def read_saved(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a file of ``write_saved``; CheckpointError for any other, or a damaged one.

    All sizes are known from the header before a tensor is read.
    """
    file = WeightFile(path, KINDS[kind].source)
    require_kind(file.path, (kind,), file.layout, file.metadata)
    record = _record_of(file)
    if record.get("kind") != kind:
        raise file_error(file.path, "has no record of how it was made.", file.remedy)
    written = record.get("format")
    if not isinstance(written, int) or not 1 <= written <= FORMAT:
        raise file_error(
            file.path, f"was saved in format {written!r}; this version reads {FORMAT}.", "Update the pack."
        )
    size = sum(value.nbytes for value in file.layout.values())
    if size > MOST_BYTES:
        raise file_error(
            file.path,
            f"holds {_megabytes(size)}, more than {KINDS[kind].title} may have ({_megabytes(MOST_BYTES)}).",
            file.remedy,
        )
    return {name: file.tensor(name).clone() for name in file.layout}, record


def _record_of(file: WeightFile) -> dict[str, Any]:
    return read_metadata(file.path, file.metadata, META_SAVED, file.remedy)
