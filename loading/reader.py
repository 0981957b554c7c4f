"""One weight file, opened lazily: .safetensors, or torch's .pth and .bin, without ever running code from it."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from .entries import NO_WAITING, read_bounded, require_file, unreadable
from .errors import file_error
from .headers import MOST_TENSORS, check_safetensors, check_torch, require_few
from .quantised import dequantise, dequantise_tensor, misfits

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
MAPPED_AT_ONCE = 512 * 2**20  # bytes read through one mapping before it is dropped, so that read pages are given back
JSON_LIMIT = 16 * 2**20  # bytes of a config or an index; that of the largest sharded models has 9 MB
DEEPEST = 16  # dicts in dicts of a torch file; published ones have three
# times the file's size that its tensors may name together: tied weights lie in it once and are named twice
MOST_SHARED = 8


class WeightFile:
    """Names, shapes and dtypes at once, each tensor when it is asked for.

    ``layout``: name -> meta tensor. Tensors are mapped from the disk, not read, so opening costs nothing and one that
    is used as it is stored takes no memory of its own. (Files of torch before 1.6 cannot be mapped and are read whole.)
    Those stored in 8 bits by rows come as float16.
    """

    def __init__(self, path: str | Path, remedy: str = "Download it again.") -> None:
        self.path, self.remedy = Path(path), remedy
        self.metadata: dict[str, str] = {}
        size = _check_first_bytes(self.path, remedy)
        self._mapped = self._check_header(size)
        self._tensors: dict[str, Tensor] | None = self._open()
        self._bytes_read = 0
        self._check_tensors(self._tensors, size)
        stored = {
            name: torch.empty(value.shape, dtype=value.dtype, device="meta") for name, value in self._tensors.items()
        }
        self.layout = dequantise(stored)

    def tensor(self, name: str) -> Tensor:
        """One tensor as it is stored; CheckpointError where it holds NaN, or infinity outside a mask."""
        if self._mapped and self._bytes_read > MAPPED_AT_ONCE:
            self.release()
        if self._tensors is None:
            self._tensors = self._open()
        if name not in self._tensors:
            raise file_error(self.path, f"was changed while it was read: {name!r} is gone.", "Run it again.")
        value = dequantise_tensor(self._tensors, name)
        self._bytes_read += value.nbytes
        self._check_numbers(name, value)
        return value

    def read(self) -> dict[str, Tensor]:
        return {name: self.tensor(name) for name in self.layout}

    def release(self) -> None:
        """Give back what was read for tensors nobody holds any more; the next one opens the file again."""
        self._tensors, self._bytes_read = None, 0

    def _check_header(self, size: int) -> bool:
        """Whether the tensors can be mapped; CheckpointError where the file promises more than it has."""
        if self.path.suffix == ".safetensors":
            check_safetensors(self.path, size, self.remedy)
            return True
        return check_torch(self.path, size, self.remedy)

    def _open(self) -> dict[str, Tensor]:
        try:
            if self.path.suffix == ".safetensors":
                with safe_open(self.path, framework="pt") as file:
                    self.metadata = file.metadata() or {}
                    return {name: file.get_tensor(name) for name in file.keys()}
            content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=self._mapped)
        except OSError as error:
            raise unreadable(self.path, error, self.remedy) from error
        except Exception as error:  # what noise makes of the readers; their words may repeat parts of the file
            raise file_error(
                self.path, f"is damaged or was cut short ({type(error).__name__}).", self.remedy
            ) from error
        flat = _flatten(content, self.path, self.remedy)
        if not flat:
            raise file_error(self.path, "holds no tensors.", self.remedy)
        return flat

    def _check_tensors(self, tensors: Mapping[str, Tensor], size: int) -> None:
        """CheckpointError where one is not a plain table of numbers that lie in the file."""
        for name, value in tensors.items():
            if value.is_meta or value.layout != torch.strided or value.is_quantized:
                raise file_error(self.path, f"holds no plain numbers in {name!r}.", self.remedy)
            if value.nbytes > value.untyped_storage().nbytes():
                raise file_error(self.path, f"is damaged: {name!r} names more numbers than it contains.", self.remedy)
        if sum(value.nbytes for value in tensors.values()) > MOST_SHARED * size:
            raise file_error(self.path, "is damaged: its tensors are far larger than the file.", self.remedy)
        if wrong := misfits(tensors):
            raise file_error(self.path, f"is damaged: the scales of {wrong!r} do not fit its rows.", self.remedy)

    def _check_numbers(self, name: str, value: Tensor) -> None:
        if not value.is_floating_point() or value.numel() == 0:
            return
        try:
            ends = _ends(value)
        except (RuntimeError, NotImplementedError) as error:
            raise file_error(
                self.path, f"has numbers of {value.dtype} in {name!r}, which cannot be read here.", self.remedy
            ) from error
        if math.isnan(ends[0]):
            raise file_error(self.path, f"has NaN in {name!r}: it is damaged, or its training failed.", self.remedy)
        if any(map(math.isinf, ends)) and name.rpartition(".")[2] != "mask":
            raise file_error(
                self.path, f"has infinity in {name!r}: it is damaged, or was cast to too small a type.", self.remedy
            )


def as_dtype(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Floats as ``dtype``; other numbers, and everything where ``dtype`` is None, as they are."""
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def has_infinity(value: Tensor) -> bool:
    return value.numel() > 0 and value.is_floating_point() and any(map(math.isinf, _ends(value)))


def _ends(value: Tensor) -> tuple[float, float]:
    """The least and the largest number; both NaN where there is any."""
    low, high = (value.float() if value.itemsize == 1 else value).aminmax()  # 8-bit floats have no order in torch
    return low.item(), high.item()


def read_json(path: str | Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file of at most JSON_LIMIT bytes; CheckpointError where there is none."""
    text = read_bounded(path, JSON_LIMIT, remedy)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise file_error(path, f"is not JSON ({_where(error)}).", f"Download it again. {remedy}") from error
    if not isinstance(content, dict):
        raise file_error(path, f"holds a {type(content).__name__}, not the fields of an object.", remedy)
    return content


def _where(error: Exception) -> str:
    """Of the reader's words only those that repeat nothing of the file."""
    return f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__


def _flatten(content: Any, path: Path, remedy: str) -> dict[str, Tensor]:
    """Nested dicts of tensors -> {"a.b": tensor}; a "state_dict" level is a wrapper, its name is dropped."""
    flat: dict[str, Tensor] = {}
    ahead, seen = [("", content, 0)], 0
    while ahead:
        prefix, value, depth = ahead.pop()
        seen += 1
        if depth > DEEPEST or seen > 4 * MOST_TENSORS:  # the same dict within itself, or over and over
            raise file_error(path, "is damaged: its tables are nested without end.", remedy)
        if isinstance(value, Tensor):
            flat[prefix] = value
        elif isinstance(value, Mapping):
            below = [(_joined(prefix, key), inner, depth + 1) for key, inner in value.items()]
            ahead.extend(reversed(below))  # so that they come in their own order
    require_few(path, len(flat), remedy)
    return flat


def _joined(prefix: str, key: Any) -> str:
    name = key if isinstance(key, str) else str(key) if isinstance(key, (int, float)) else type(key).__name__
    return prefix if name == "state_dict" else f"{prefix}.{name}" if prefix else name


def _check_first_bytes(path: Path, remedy: str) -> int:
    """Catch what a failed download leaves behind under a weight file's name; returns the file's size in bytes."""
    size = require_file(path, remedy)
    if path.suffix != ".safetensors" and path.suffix not in TORCH_SUFFIXES:
        raise file_error(
            path,
            f"has the ending {path.suffix!r}.",
            f"Weights end in .safetensors, {', '.join(TORCH_SUFFIXES)}. {remedy}",
        )
    if size == 0:
        raise file_error(path, "is empty.", remedy)
    try:
        with open(os.open(path, os.O_RDONLY | NO_WAITING), "rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise unreadable(path, error, remedy) from error
    if start.startswith(b"version https://git-lfs"):
        raise file_error(
            path, "is a Git LFS pointer, not the weights.", f"Run `git lfs pull` where it came from. {remedy}"
        )
    if start[:1] == b"<":
        raise file_error(path, "is a web page, not weights.", remedy)
    return size
