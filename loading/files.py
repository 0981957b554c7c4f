"""The one place that opens and writes weight files. Whatever is wrong with a file ends as one CheckpointError."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from .atomic import atomic_path
from .entries import read_text
from .errors import CheckpointError, file_error
from .kinds import KINDS, recognise
from .plan import Plan
from .quantised import quantise_rows
from .reader import WeightFile, as_dtype

__all__ = (
    "CheckpointError", "NetworkFile", "build_dims", "file_error", "find_kind", "open_network", "open_tokenizer",
    "read_metadata", "read_network_file", "read_tensors", "read_tokenizer", "require_kind", "require_tokens",
    "write_network_file",
)  # fmt: skip

META_KIND = "any2pix.kind"
META_DIMS = "any2pix.dims"
META_TOKENIZER = "any2pix.tokenizer"
TOKENIZER_LIMIT = 32 * 2**20  # bytes of a tokenizer.json; LLaMA's has 2 MB, the largest vocabularies 34

Dims = TypeVar("Dims")


@dataclass(frozen=True)
class NetworkFile:
    """One weight file, read. ``dims`` is empty for files that are not ours: their loader derives it from the shapes."""

    state_dict: dict[str, Tensor]
    dims: dict[str, Any]
    tokenizer_json: str | None
    metadata: dict[str, str]


def read_network_file(path: str | Path, kind: str, dtype: torch.dtype | None = None) -> NetworkFile:
    """Read the weights of a ``kind`` (key of KINDS), and check that they are of it and finite.

    Floats come as ``dtype``, None: as stored, and then mapped from the disk.
    """
    plan = open_network(path, kind)
    return NetworkFile(plan.read(dtype), dict(plan.dims), plan.tokenizer_json, dict(plan.metadata))


def open_network(path: str | Path, kind: str | tuple[str, ...]) -> Plan:
    """A weight file of one of these kinds, opened and recognised but not read: every tensor under its own name."""
    kinds = (kind,) if isinstance(kind, str) else kind
    source = KINDS[kinds[0]].source
    file = WeightFile(path, source)
    found = require_kind(file.path, kinds, file.layout, file.metadata)
    dims = read_metadata(file.path, file.metadata, META_DIMS, source)
    names = {name: name for name in file.layout}
    return Plan(found, file, names, dims, file.metadata.get(META_TOKENIZER), file.metadata)


def read_tensors(path: str | Path, remedy: str = "Download it again.") -> tuple[dict[str, Tensor], dict[str, str]]:
    """(state dict, metadata) of a .safetensors or a torch file; nested dicts are flattened, with dots."""
    file = WeightFile(path, remedy)
    return file.read(), file.metadata


def read_metadata(path: Path, metadata: Mapping[str, str], name: str, remedy: str) -> dict[str, Any]:
    """The JSON object under ``name`` of a file's metadata; empty where there is none."""
    try:
        values = json.loads(metadata.get(name, "{}"))
    except (ValueError, RecursionError) as error:
        raise file_error(path, f"has damaged metadata: {name} is not JSON.", remedy) from error
    if not isinstance(values, dict):
        raise file_error(path, f"has damaged metadata: {name} is a {type(values).__name__}.", remedy)
    return values


def open_tokenizer(text: str, path: str | Path, remedy: str) -> Tokenizer:
    """The tokenizer whose JSON is ``text``, found in ``path``."""
    if len(text) > TOKENIZER_LIMIT:
        raise file_error(path, f"holds a tokenizer of {len(text)} letters; at most {TOKENIZER_LIMIT} are read.", remedy)
    try:
        return Tokenizer.from_str(text)
    except BaseException as error:  # the library raises bare Exception, and on some noise its Rust side's panic
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise file_error(path, "holds a damaged tokenizer.", remedy) from error


def read_tokenizer(path: str | Path, remedy: str) -> Tokenizer:
    """The tokenizer of a tokenizer.json."""
    return open_tokenizer(read_text(path, TOKENIZER_LIMIT, remedy), path, remedy)


def require_tokens(path: str | Path, tokenizer: Tokenizer | None, rows: int, exact: bool = False) -> None:
    """CheckpointError where the network of ``path`` has not a row for each token. ``exact``: nor a row without a
    token."""
    tokens = tokenizer.get_vocab_size() if tokenizer else rows
    if tokens > rows or (exact and tokens != rows):
        raise file_error(path, f"has {rows} tokens, its tokenizer {tokens}.", "Use the tokenizer it was trained with.")


def find_kind(keys: Mapping[str, Any], metadata: Mapping[str, str]) -> str | None:
    """What a file says it is, else what its keys say. Both adapters say "adapter": there the keys decide."""
    said = metadata.get(META_KIND)
    return said if said and said != "adapter" else recognise(keys) or said


def require_kind(path: Path, kinds: tuple[str, ...], keys: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """The kind of the file, one of ``kinds``; CheckpointError says what else it is and where that belongs."""
    found = find_kind(keys, metadata)
    if found in kinds:
        return found
    wanted = KINDS[kinds[0]]
    if found in KINDS:
        other = KINDS[found]
        raise file_error(
            path,
            f"is {other.title}; it belongs in models/{other.folder}.",
            f"Here {wanted.title} is needed. {wanted.source}",
        )
    example = next(iter(keys), "nothing")
    raise file_error(path, f"is not {wanted.title} (it holds {example!r}).", wanted.source)


def write_network_file(
    path: str | Path,
    kind: str,
    state_dict: Mapping[str, Tensor],
    dims: Mapping[str, Any],
    tokenizer_json: str | None = None,
    extra_metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    in_8_bits: bool = False,
) -> None:
    """Write a safetensors file that ``read_network_file`` reads back. Floats are cast to ``dtype`` where it is given,
    or stored ``in_8_bits`` by rows (`quantised.py`): the reader gives float16 back.

    The file appears whole or not at all: it is written beside its place and moved there.
    """
    path = Path(path)
    stored = quantise_rows(state_dict) if in_8_bits else state_dict
    tensors = {key: _storable(value, None if in_8_bits else dtype) for key, value in stored.items()}
    metadata = {META_KIND: kind, META_DIMS: json.dumps(dict(dims)), **(extra_metadata or {})}
    if tokenizer_json is not None:
        metadata[META_TOKENIZER] = tokenizer_json
    with atomic_path(path) as unfinished:
        save_file(tensors, unfinished, metadata=metadata)
        unfinished.chmod(0o644)  # safetensors writes for the owner alone


def build_dims(cls: type[Dims], values: Mapping[str, Any], path: str | Path) -> Dims:
    """The dims dataclass ``cls`` from a file's metadata; JSON lists become tuples."""
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise file_error(
            path,
            f"has sizes that this version does not support: {', '.join(unknown)}.",
            "Update the pack, or train the file again.",
        )
    if wrong := _of_another_type(cls, values):
        raise file_error(path, f"has damaged sizes in its metadata: {wrong}.", "Download or convert it again.")
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except (TypeError, ValueError) as error:  # too few of them, or values no network is built from
        raise file_error(
            path, f"has damaged sizes in its metadata: {error}.", "Download or convert it again."
        ) from error


def _of_another_type(cls: type, values: Mapping[str, Any]) -> str | None:
    """The first value that is not of the type its dataclass says, as "name is a type"; None: all are."""
    hints = get_type_hints(cls)
    for name, value in values.items():
        wanted = get_origin(hints[name]) or hints[name]
        taken = {int: int, float: (int, float), str: str, bool: bool, tuple: (list, tuple), dict: dict}.get(wanted)
        if taken and (not isinstance(value, taken) or (isinstance(value, bool) and wanted is not bool)):
            return f"{name} is a {type(value).__name__}"
        if wanted is tuple and not all(type(item) is int for item in value):
            return f"{name} holds no whole numbers"
    return None


def _storable(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    value = as_dtype(value.detach().cpu(), dtype)
    return value.contiguous().clone()  # safetensors refuses tensors that share memory
