"""Widgets that offer names: those that are not there are errors, and the selectors of other packs can be linked to
them. And numbers that are none.

ComfyUI 0.3.75 checks neither the names that such a widget of ours is given in a graph in API format nor, as any
version, those that come through a link.
"""

from collections.abc import Sequence
from typing import Any

import comfy.samplers
from comfy_api.latest import io

OF_OTHER_PACKS = ("scheduler", "sampler_name")  # widgets whose names other packs add to


class LinkedNames(str):
    """The type COMBO, to which outputs fit whose type is a list of names, as selectors of other packs have, or STRING.

    ComfyUI asks a link's two types with ``!=``. What comes through is checked by ``require_choice``.
    """

    def __ne__(self, other: object) -> bool:
        return not (isinstance(other, list) or (isinstance(other, str) and str(other) in ("*", "STRING", str(self))))

    __eq__, __hash__ = str.__eq__, str.__hash__


class ChoiceInput(io.Combo.Input):
    """A Combo.Input that can be linked to what the stock KSampler's combos can be linked to."""

    def get_io_type(self) -> str:
        return LinkedNames(super().get_io_type())


def samplers() -> list[str]:
    """The samplers that are installed at this moment; other packs add theirs after ours is loaded."""
    return list(comfy.samplers.KSampler.SAMPLERS)


def schedulers() -> list[str]:
    """The schedulers that are installed at this moment."""
    return list(comfy.samplers.KSampler.SCHEDULERS)


def require_choice(what: str, value: Any, options: Sequence[str]) -> None:
    """ValueError where ``value`` is none of the options. ``what``: widget and node, "scheduler of DDIM Invert"."""
    if value not in options:
        raise ValueError(_refusal(what, value, options))


def check_choices(node: str, **widgets: tuple[Any, Sequence[str]]) -> bool | str:
    """For a node's ``validate_inputs``: True, or what is wrong. Widget -> (value, options); the value of one that is
    linked is None, and known only when the node runs."""
    for widget, (value, options) in widgets.items():
        if value is not None and value not in options:
            return _refusal(f"{widget} of {node}", value, options)
    return True


def _refusal(what: str, value: Any, options: Sequence[str]) -> str:
    remedy = " Or install the node pack that provides it." if what.startswith(OF_OTHER_PACKS) else ""
    return f"{what} is {value!r}, which does not exist. Choose one of {', '.join(options)}.{remedy}"
