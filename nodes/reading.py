"""What comes in through a socket or a linked widget, where ComfyUI looks at the type's name and at nothing else.

Each function returns what the node can work with, or raises a ValueError that names input and node, what came, and what
belongs there. ``what`` is the input in words: "image of Load Image Embedding".
"""

from typing import Any, TypeVar

from torch import Tensor

from ..stages.characters import well_formed
from ..stages.types import Reference, References

Kind = TypeVar("Kind")


def require(value: Any, kind: type[Kind], what: str, source: str) -> Kind:
    """``value`` where it is of the class ``kind``. ``source``: the nodes to connect."""
    if not isinstance(value, kind):
        raise ValueError(f"The {what} is {described(value)}. Connect {source}.")
    return value


def read_references(value: Any, node: str) -> References:
    """A chain of references; none at all where nothing is connected or a node in front gave None."""
    if value is None:
        return ()
    chain = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    for reference in chain:
        require(reference, Reference, f"references input of {node}", "Load Image, Audio or Text Embedding")
    return chain


def read_text(value: Any, what: str) -> str:
    """A string, with halves of characters made whole."""
    if value is None:
        raise ValueError(
            f"The {what} is {described(value)}: the node it comes from returned no text. Type one, or connect another."
        )
    if not isinstance(value, str):
        raise ValueError(f"The {what} is {described(value)}, not a text. Type one, or connect a STRING.")
    return well_formed(value)


def read_whole(value: Any, what: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``; 3.0 is one."""
    number = read_number(value, what, low, high)
    if number != int(number):
        raise ValueError(f"The {what} is {value}. It must be an integer, from {low} to {high}.")
    return int(value)


def read_number(value: Any, what: str, low: float, high: float) -> float:
    """A number from ``low`` to ``high``. ComfyUI holds these only for what is typed, not for what is linked."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, (int, float)):
        raise ValueError(
            f"The {what} is {described(value)}, not a number. It must be from {_plain(low)} to {_plain(high)}."
        )
    if not low <= value <= high:  # NaN is not
        raise ValueError(f"The {what} is {described(value)}. It must be from {_plain(low)} to {_plain(high)}.")
    return value


def described(value: Any) -> str:
    """What something is, for a message."""
    if value is None:
        return "None"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:60]}…"
    if isinstance(value, (list, tuple, dict)) and not value:
        return f"an empty {type(value).__name__}"
    if isinstance(value, dict):
        return f"a dict of {', '.join(sorted(map(str, value))[:5])}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"an object of the class {type(value).__name__}"


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
