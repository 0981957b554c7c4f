"""Options of a method from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

Options = TypeVar("Options")  # a frozen dataclass of options with their defaults
KINDS_IN_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}
SWITCHES = {"true": True, "false": False}


def options_from(pairs: Sequence[str], options: Options) -> Options:
    """["cfg=3", "negative=null"] -> the options, a dataclass, with these changes."""
    changes = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not hasattr(options, name):
            known = ", ".join(field.name for field in fields(options))
            raise ValueError(f"{pair!r} is not an option of the edit. Write NAME=VALUE with one of: {known}.")
        kind = type(getattr(options, name))
        try:
            changes[name] = SWITCHES[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{name} must be {KINDS_IN_WORDS.get(kind, kind.__name__)}, got {text!r}.") from error
    return replace(options, **changes)
