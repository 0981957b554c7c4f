"""Writing a safetensors file tensor by tensor: little memory at any size, resumable, compared with the source at the
end."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .atomic import named_write_errors
from .errors import CheckpointError, file_error
from .reader import as_dtype, has_infinity

logger = logging.getLogger(__name__)

PART = ".part"  # what is written so far; it gets its name when it is whole and checked
BLOCK = 2**24  # numbers cast and written at once
ALIGNMENT = 8  # bytes; the data begins at a multiple of it
SPARE = 2**24  # bytes of a disk that are left alone
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip

Progress = Callable[[int], Any]  # gets the bytes done since the last call


@dataclass(frozen=True)
class Stream:
    """What is to be written. ``layout``: name -> meta tensor as the source stores it; ``tensor`` reads one of them.

    ``dtype``: floats are cast to it, None: kept as they are. ``metadata``: of the file, strings.
    """

    layout: Mapping[str, Tensor]
    tensor: Callable[[str], Tensor]
    metadata: Mapping[str, str]
    dtype: torch.dtype | None = None

    @property
    def order(self) -> list[str]:
        """The source's order, wide types first, so that every tensor lies at a multiple of its type's size."""
        return sorted(self.layout, key=lambda name: -self.dtype_of(name).itemsize)

    @property
    def bytes(self) -> int:
        return sum(self.dtype_of(name).itemsize * value.numel() for name, value in self.layout.items())

    def dtype_of(self, name: str) -> torch.dtype:
        return as_dtype(self.layout[name], self.dtype).dtype

    def header(self) -> bytes:
        """The head of a safetensors file: the length of its JSON, 8 bytes, and the JSON, padded with spaces."""
        fields: dict[str, Any] = {"__metadata__": dict(self.metadata)}
        begin = 0
        for name in self.order:
            dtype, value = self.dtype_of(name), self.layout[name]
            if dtype not in NAMES:
                raise CheckpointError(f"{name} is of {dtype}, which no weight file of ours holds. Use another source.")
            end = begin + dtype.itemsize * value.numel()
            fields[name] = {"dtype": NAMES[dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
            begin = end
        text = json.dumps(fields, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def blocks(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, bytes) of everything after the header, in order."""
        for name in self.order:
            flat = self.tensor(name).reshape(-1)
            for begin in range(0, flat.numel(), BLOCK):
                yield name, self._cast(name, flat[begin : begin + BLOCK])

    def _cast(self, name: str, block: Tensor) -> np.ndarray:
        cast = as_dtype(block, self.dtype).contiguous()
        # the quick look first: it reads a block forty times faster
        if cast.dtype != block.dtype and has_infinity(cast) and bool((cast.isinf() & ~block.isinf()).any()):
            raise CheckpointError(f"{name} has numbers too large for {cast.dtype}. Convert it to bf16 or fp32.")
        return cast.view(torch.uint8).numpy()


def write_stream(target: Path, stream: Stream, written: Progress, checked: Progress) -> None:
    """Write ``target``. It appears when it is whole, beside it lies ``target``.part until then.

    A part that an earlier run left is compared with the source from its beginning, and continued where the two part
    ways. CheckpointError: no room, a folder that may not be written to, or a result that differs from the source.
    """
    part, header = target.with_name(target.name + PART), stream.header()
    with named_write_errors(part):
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_room(part, len(header) + stream.bytes)
        with open(part, "r+b" if part.exists() else "w+b") as file:
            _write(file, header, stream, written)
            file.flush()
            os.fsync(file.fileno())
            _check(file, header, stream, checked)
        os.replace(part, target)


def _write(file: BinaryIO, header: bytes, stream: Stream, written: Progress) -> None:
    resumed = file.read(len(header)) == header
    if not resumed:
        if file.seek(0, os.SEEK_END):
            logger.warning("%s has another source, precision or version: started again.", file.name)
        file.seek(0)
        file.truncate()
        file.write(header)
    for name, block in stream.blocks():
        if resumed:
            place = file.tell()
            found = np.frombuffer(file.read(len(block)), np.uint8)
            if np.array_equal(found, block):
                written(len(block))
                continue
            how = "ends" if len(found) < len(block) else "differs from the source"
            logger.warning("%s %s at %s, after %d bytes: continued there.", file.name, how, name, place)
            file.seek(place)
            file.truncate()
            resumed = False
        file.write(block)
        written(len(block))
    file.truncate()


def _check(file: BinaryIO, header: bytes, stream: Stream, checked: Progress) -> None:
    """Read it back, tensor by tensor against the source."""
    remedy = "The disk or the memory is faulty, or the source has changed. Delete the file and convert again."
    file.seek(0)
    if file.read(len(header)) != header:
        raise file_error(file.name, "does not begin as it was written.", remedy)
    for name, block in stream.blocks():
        if not np.array_equal(np.frombuffer(file.read(len(block)), np.uint8), block):
            raise file_error(file.name, f"does not hold the source's {name}.", remedy)
        checked(len(block))


def _require_room(part: Path, needed: int) -> None:
    missing = needed - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if missing + SPARE > free:
        raise file_error(
            part,
            f"needs {(missing + SPARE) / 1e9:.2f} GB more, the disk has {free / 1e9:.2f} GB.",
            "Free disk space, or write elsewhere.",
        )
