"""The one way a file is written: beside its place, and moved there when it is whole."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from .errors import file_error

UNFINISHED = ".tmp"  # ending of a file that is being written; no list of ours offers it
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A path to write to; at the end of the block the file there is made safe on the disk and becomes ``target``.

    Whatever ends the block early, a kill included, leaves the ``target`` of before. Missing parents are made.
    CheckpointError: a full disk or a folder that may not be written to, with the remedy.
    """
    target = Path(target)
    with named_write_errors(target), unfinished_path(target) as unfinished:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        make_durable(unfinished)
        os.replace(unfinished, target)


@contextmanager
def unfinished_path(target: Path) -> Iterator[Path]:
    """A path beside ``target`` that nobody else writes to; what lies there at the end of the block is removed."""
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def write_atomic(target: str | Path, content: str | bytes) -> None:
    """``content`` as the whole of ``target``; text in UTF-8."""
    with atomic_path(target) as path:
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def named_write_errors(target: Path) -> Iterator[None]:
    """A full disk and a folder that may not be written to, as CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _number_of(error)
        if number in FULL:
            raise file_error(
                target, "could not be finished: the disk is full.", "Free disk space and run the same command again."
            ) from error
        if number in CLOSED:
            raise file_error(
                target,
                f"could not be written ({os.strerror(number)}).",
                "Write elsewhere, or allow writing to its folder.",
            ) from error
        if number in (errno.EEXIST, errno.ENOTDIR):
            raise file_error(
                target, "cannot be written: a part of its folder's path is a file.", "Write elsewhere."
            ) from error
        raise


def _number_of(error: OSError | SafetensorError) -> int | None:
    """The system's number of an error; safetensors has it in its text alone."""
    if isinstance(error, OSError):
        return error.errno
    said = re.search(r"os error (\d+)", str(error))
    return int(said[1]) if said else None


def make_durable(path: Path) -> None:
    """Wait until the content is on the disk: a file moved to its name before that may come up empty after a power
    cut."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
