"""One weight file, opened lazily: .safetensors, or torch's .pth and .bin, without ever running code from it."""

import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import file_error
from .quantised import dequantise, dequantise_tensor

CODE_SIGNS = ("GLOBAL", "call reduce", "instantiate")  # in torch's message when a file asks for more than tensors
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
MAPPED_AT_ONCE = 512 * 2**20  # bytes read through one mapping before it is dropped, so that read pages are given back


class WeightFile:
    """Names, shapes and dtypes at once, each tensor when it is asked for.

    ``layout``: name -> meta tensor. Tensors are mapped from the disk, not read, so opening costs nothing and one that is
    used as it is stored takes no memory of its own. (Files of torch before 1.6 cannot be mapped and are read whole.) Those
    stored in 8 bits by rows come as float16.
    """

    def __init__(self, path: str | Path, remedy: str = "Download it again.") -> None:
        self.path, self.remedy = Path(path), remedy
        self.metadata: dict[str, str] = {}
        _check_first_bytes(self.path, remedy)
        self._mapped = self.path.suffix == ".safetensors" or zipfile.is_zipfile(self.path)
        self._tensors: dict[str, Tensor] | None = self._open()
        self._bytes_read = 0
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
        value = dequantise_tensor(self._tensors, name)
        self._bytes_read += value.nbytes
        self._check_numbers(name, value)
        return value

    def read(self) -> dict[str, Tensor]:
        return {name: self.tensor(name) for name in self.layout}

    def release(self) -> None:
        """Give back what was read for tensors nobody holds any more; the next one opens the file again."""
        self._tensors, self._bytes_read = None, 0

    def _open(self) -> dict[str, Tensor]:
        if self.path.suffix == ".safetensors":
            return self._open_safetensors()
        return self._open_torch()

    def _open_safetensors(self) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as file:
                self.metadata = file.metadata() or {}
                return {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise file_error(self.path, f"is damaged or was cut short ({error}).", self.remedy) from error

    def _open_torch(self) -> dict[str, Tensor]:
        path, remedy = self.path, self.remedy
        with open(path, "rb") as file:
            starts_as_zip = file.read(2) == b"PK"
        if starts_as_zip and not self._mapped:
            raise file_error(path, "is damaged or was cut short.", remedy)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=self._mapped)
        except pickle.UnpicklingError as error:
            if not any(sign in str(error) for sign in CODE_SIGNS):
                raise file_error(path, "is damaged or is not a weight file.", remedy) from error
            raise file_error(
                path,
                "holds pickled Python code, which is never run here.",
                f"Use a file that holds tensors only. {remedy}",
            ) from error
        except Exception as error:  # an unpickler fed with noise fails in any way there is
            raise file_error(path, f"is damaged or was cut short ({type(error).__name__}).", remedy) from error
        if not (flat := _flatten(content)):
            raise file_error(path, "holds no tensors.", remedy)
        return flat

    def _check_numbers(self, name: str, value: Tensor) -> None:
        if not value.is_floating_point() or value.numel() == 0:
            return
        ends = _ends(value)
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
    """The object in a JSON file; CheckpointError where there is none."""
    path = Path(path)
    if not path.is_file():
        raise file_error(path, "is not there.", remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise file_error(path, f"is not JSON ({error}).", f"Download it again. {remedy}") from error
    if not isinstance(content, dict):
        raise file_error(path, f"holds a {type(content).__name__}, not the fields of an object.", remedy)
    return content


def _flatten(content: Any, prefix: str = "") -> dict[str, Tensor]:
    """Nested dicts of tensors -> {"a.b": tensor}; a "state_dict" level is a wrapper, its name is dropped."""
    if isinstance(content, Tensor):
        return {prefix: content}
    if not isinstance(content, Mapping):
        return {}
    flat = {}
    for key, value in content.items():
        name = prefix if key == "state_dict" else f"{prefix}.{key}" if prefix else str(key)
        flat.update(_flatten(value, name))
    return flat


def _check_first_bytes(path: Path, remedy: str) -> None:
    """Catch what a failed download leaves behind under a weight file's name."""
    if not path.is_file():
        raise file_error(path, "is not there." if not path.exists() else "is a folder, not a weight file.", remedy)
    try:
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise file_error(path, f"cannot be read ({error.strerror}).", f"Check who may read it. {remedy}") from error
    if not start:
        raise file_error(path, "is empty.", remedy)
    if start.startswith(b"version https://git-lfs"):
        raise file_error(
            path, "is a Git LFS pointer, not the weights.", f"Run `git lfs pull` where it came from. {remedy}"
        )
    if start[:1] == b"<":
        raise file_error(path, "is a web page, not weights.", remedy)
    if path.suffix != ".safetensors" and path.suffix not in TORCH_SUFFIXES:
        raise file_error(
            path,
            f"has the ending {path.suffix!r}.",
            f"Weights end in .safetensors, {', '.join(TORCH_SUFFIXES)}. {remedy}",
        )
