"""The sizes that a file or its config asks for, held against its tensors before a network of such sizes is begun."""

import math
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from .errors import CheckpointError, file_error

LARGEST = 2**24  # of any width, length or vocabulary; the longest positions of today's language models are 10 million
FREE = ("rope_theta",)  # a wavelength, which reserves nothing
LONGEST_LIST = 1000  # widths of a UNet's levels or of an adapter's layers; the published ones are 3 and 70
COUNTED = re.compile(r"layers|blocks|resnets|transformers|depth")  # numbers of parts, each of which has a tensor
LEAST_PARTS, PARTS_PER_TENSOR = 5000, 4  # modules of a network; the pack's have 0.7 to 1.5 for each tensor
WRONG = "Use the config or the metadata it was published with."


def check_sizes(sizes: Mapping[str, Any], tensors: int, path: str | Path, remedy: str) -> None:
    """CheckpointError where a number in ``sizes`` is one that no network of so many ``tensors`` has."""
    for name, value in _numbers(sizes, "", path, remedy):
        field = name.rpartition(".")[2]
        if isinstance(value, float) and not math.isfinite(value):
            raise file_error(path, f"comes with {name} {value}, which is not a size.", f"{WRONG} {remedy}")
        if abs(value) > LARGEST and field not in FREE:
            raise file_error(path, f"comes with {name} {_short(value)}: no network is that large.", f"{WRONG} {remedy}")
        if COUNTED.search(field) and value > max(tensors, 1):
            raise file_error(
                path, f"comes with {name} {_short(value)}, and has {tensors} tensors.", f"{WRONG} {remedy}"
            )


@contextmanager
def bounded_parts(tensors: int) -> Iterator[None]:
    """While a network for so many ``tensors`` is built in this thread: ValueError where it has far more parts than they
    fill."""
    most, thread, made = LEAST_PARTS + PARTS_PER_TENSOR * tensors, threading.get_ident(), 0

    def count(module: nn.Module, name: str, part: nn.Module | None) -> None:
        nonlocal made
        made += threading.get_ident() == thread
        if made > most:
            raise ValueError(f"more than {most} parts for {tensors} tensors")

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def shapes_of(path: str | Path, remedy: str) -> Iterator[None]:
    """While sizes are read off the shapes of tensors: what is missing or of another shape is a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except KeyError as error:
        raise file_error(path, f"lacks {error.args[0]}.", remedy) from error
    except (ValueError, IndexError, ZeroDivisionError, TypeError) as error:
        raise file_error(path, "has tensors of another shape than any release.", remedy) from error


def _numbers(value: Any, name: str, path: str | Path, remedy: str) -> Iterator[tuple[str, int | float]]:
    """(dotted name, number) of every number in nested dicts and lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else str(key), path, remedy)
    elif isinstance(value, (list, tuple)):
        if len(value) > LONGEST_LIST:
            raise file_error(path, f"comes with {name} of {len(value)} entries.", f"{WRONG} {remedy}")
        for inner in value:
            yield from _numbers(inner, name, path, remedy)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


def _short(value: float) -> str:
    return str(value) if abs(value) < 10**20 else "of more than 20 digits"
