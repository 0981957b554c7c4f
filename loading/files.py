"""The one place that opens and writes weight files. Whatever is wrong with a file ends as one CheckpointError."""

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .kinds import KINDS, recognise

META_KIND = "any2pix.kind"
META_DIMS = "any2pix.dims"
META_TOKENIZER = "any2pix.tokenizer"
CODE_SIGNS = ("GLOBAL", "call reduce", "instantiate")  # in torch's message when a file asks for more than tensors
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")

Dims = TypeVar("Dims")


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message names the file, its folder and the remedy."""


@dataclass(frozen=True)
class NetworkFile:
    """One weight file, read. ``dims`` is empty for files that are not ours: their loader derives it from the shapes."""

    state_dict: dict[str, Tensor]
    dims: dict[str, Any]
    tokenizer_json: str | None
    metadata: dict[str, str]


def file_error(path: str | Path, what: str, remedy: str) -> CheckpointError:
    """``path`` and ``what`` is wrong with it, and what to do about it."""
    path = Path(path)
    return CheckpointError(f"{path.name} (in {path.parent}) {what} {remedy}")


def read_network_file(path: str | Path, kind: str) -> NetworkFile:
    """Read the weights of a ``kind`` (a key of KINDS), and check that they are of that kind and have no NaN."""
    path = Path(path)
    state_dict, metadata = read_tensors(path, KINDS[kind].source)
    _check_kind(path, kind, state_dict, metadata)
    _check_numbers(path, state_dict, KINDS[kind].source)
    dims = json.loads(metadata[META_DIMS]) if META_DIMS in metadata else {}
    return NetworkFile(state_dict, dims, metadata.get(META_TOKENIZER), metadata)


def read_tensors(path: str | Path, remedy: str = "Download it again.") -> tuple[dict[str, Tensor], dict[str, str]]:
    """(state dict, metadata) of a .safetensors or a torch file; nested dicts come out flat, with dots."""
    path = Path(path)
    if not path.is_file():
        raise file_error(path, "is not there.", remedy)
    _check_first_bytes(path, remedy)
    if path.suffix == ".safetensors":
        return _read_safetensors(path, remedy)
    if path.suffix in TORCH_SUFFIXES:
        return _read_torch(path, remedy), {}
    raise file_error(
        path, f"has the ending {path.suffix!r}.", f"Weights end in .safetensors, {', '.join(TORCH_SUFFIXES)}. {remedy}"
    )


def write_network_file(
    path: str | Path,
    kind: str,
    state_dict: Mapping[str, Tensor],
    dims: Mapping[str, Any],
    tokenizer_json: str | None = None,
    extra_metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a safetensors file that ``read_network_file`` reads back. Floats are cast to ``dtype`` where it is given.

    The file appears whole or not at all: it is written beside its place and moved there.
    """
    path = Path(path)
    tensors = {key: _storable(value, dtype) for key, value in state_dict.items()}
    metadata = {META_KIND: kind, META_DIMS: json.dumps(dict(dims)), **(extra_metadata or {})}
    if tokenizer_json is not None:
        metadata[META_TOKENIZER] = tokenizer_json
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, unfinished, metadata=metadata)
        unfinished.chmod(0o644)  # safetensors writes for the owner alone
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def build_dims(cls: type[Dims], values: Mapping[str, Any], path: str | Path) -> Dims:
    """The dims dataclass ``cls`` from a file's metadata; JSON lists become tuples."""
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise file_error(
            path,
            f"has sizes this version does not know: {', '.join(unknown)}.",
            "Update the pack, or train the file again.",
        )
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _read_safetensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise file_error(path, f"is damaged or was cut short ({error}).", remedy) from error


def _read_torch(path: Path, remedy: str) -> dict[str, Tensor]:
    is_zip = zipfile.is_zipfile(path)
    with open(path, "rb") as file:
        starts_as_zip = file.read(2) == b"PK"
    if starts_as_zip and not is_zip:
        raise file_error(path, "is damaged or was cut short.", remedy)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if not any(sign in str(error) for sign in CODE_SIGNS):
            raise file_error(path, "is damaged or is not a weight file.", remedy) from error
        raise file_error(
            path, "holds pickled Python code, which is never run here.", f"Use a file that holds tensors only. {remedy}"
        ) from error
    except Exception as error:  # an unpickler fed with noise fails in any way there is
        raise file_error(path, f"is damaged or was cut short ({type(error).__name__}).", remedy) from error
    flat = _flatten(content)
    if not flat:
        raise file_error(path, "holds no tensors.", remedy)
    return flat


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
    with open(path, "rb") as file:
        start = file.read(64).lstrip()
    if not start:
        raise file_error(path, "is empty.", remedy)
    if start.startswith(b"version https://git-lfs"):
        raise file_error(
            path, "is a Git LFS pointer, not the weights.", f"Run `git lfs pull` where it came from. {remedy}"
        )
    if start[:1] == b"<":
        raise file_error(path, "is a web page, not weights.", remedy)


def _check_kind(path: Path, kind: str, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    found = metadata.get(META_KIND) or recognise(state_dict)
    wanted = KINDS[kind]
    if found == kind:
        return
    if found in KINDS:
        other = KINDS[found]
        raise file_error(
            path,
            f"is {other.title}; it belongs in models/{other.folder}.",
            f"Here {wanted.title} is needed. {wanted.source}",
        )
    example = next(iter(state_dict), "nothing")
    raise file_error(path, f"is not {wanted.title} (it holds {example!r}).", wanted.source)


def _check_numbers(path: Path, state_dict: Mapping[str, Tensor], remedy: str) -> None:
    for key, value in state_dict.items():
        if value.is_floating_point() and bool(torch.isnan(value.float() if value.itemsize == 1 else value).any()):
            raise file_error(path, f"has NaN in {key!r}: it is damaged, or its training failed.", remedy)


def _storable(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = value.detach().to("cpu", dtype if value.is_floating_point() else None)
    return value.contiguous().clone()  # safetensors refuses tensors that share memory
