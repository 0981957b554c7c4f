"""Recipes: YAML files and changes from the command line, checked strictly against the dataclasses of a training."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

RECIPES = Path(__file__).parent / "recipes"
MINIATURE_RECIPE = "miniature"
Section = TypeVar("Section")


def recipe_names(network: str) -> list[str]:
    """The bundled recipes of a network."""
    return sorted(file.stem for file in (RECIPES / network).glob("*.yaml"))


def load_recipe(network: str, recipe: str | Path = MINIATURE_RECIPE, changes: Sequence[str] = ()) -> dict:
    """A bundled recipe of `network` by its name, or a YAML file of one's own, with `changes` ("loop.steps=100").

    ValueError: there is no such recipe, or a change is not KEY=VALUE. `read_section` checks the values.
    """
    path = RECIPES / network / f"{recipe}.yaml" if str(recipe) in recipe_names(network) else Path(recipe)
    if not path.is_file():
        raise ValueError(
            f"There is no recipe {str(recipe)!r} for {network}. Give one of {', '.join(recipe_names(network))}, or "
            "the path of a YAML file."
        )
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds {config!r}; a recipe is a mapping. Start from a copy of a bundled one.")
    for change in changes:
        _apply(config, change)
    return config


def _apply(config: dict, change: str) -> None:
    """Set one value by its dotted key; the value is read as YAML."""
    key, equals, text = change.partition("=")
    *sections, last = key.split(".")
    if not equals or not all((*sections, last)):
        raise ValueError(f"{change!r} is not a change. Write KEY=VALUE, such as loop.steps=100 or data.seed=3.")
    for section in sections:
        config = config.setdefault(section, {})
        if not isinstance(config, dict):
            raise ValueError(f"{change!r}: {section} is {config!r}, not a section. Write {section}=VALUE.")
    config[last] = yaml.safe_load(text)


def read_section(cls: type[Section], values: Any, name: str = "The recipe") -> Section:
    """The section `name` of a recipe as the dataclass `cls`, sections within it too; a key may have - for _.

    ValueError names a key that is unknown, missing or of another type than the dataclass says.
    """
    known = {entry.name: entry for entry in fields(cls)}
    if not isinstance(values, dict):
        raise ValueError(f"{name} is {values!r}; it must hold the keys {', '.join(known)}.")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    _refuse_unknown(values, known, name)
    needed = [key for key, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    if missing := [key for key in needed if key not in values]:
        raise ValueError(f"{name} lacks {', '.join(missing)}.")
    hints = get_type_hints(cls)
    return cls(**{key: _read_value(hints[key], value, key, name) for key, value in values.items()})


def _refuse_unknown(given: Iterable[Any], known: dict[str, Any], name: str) -> None:
    if unknown := sorted(key for key in given if key not in known):
        raise ValueError(f"{name} has {', '.join(unknown)}, which is no key of it. Its keys are {', '.join(known)}.")


def _read_value(hint: Any, value: Any, key: str, name: str) -> Any:
    if is_dataclass(hint):
        return value if isinstance(value, hint) else read_section(hint, value, key)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_read_value(inner[0], part, key, name) for part in value)
    if origin is dict and isinstance(value, dict):
        return {part: _read_value(inner[1], given, f"{key}.{part}", name) for part, given in value.items()}
    types = inner if origin in (Union, UnionType) else (hint,)
    if Any in types or type(value) in types or (type(value) is int and float in types):
        return value
    wanted = " or ".join("null" if kind is type(None) else getattr(kind, "__name__", str(kind)) for kind in types)
    raise ValueError(f"{name}: {key} is {value!r}; it must be of type {wanted}.{_how_yaml_reads(value, types)}")


def _how_yaml_reads(value: Any, types: Sequence[Any]) -> str:
    """A hint where YAML itself changed the type of a value."""
    if float in types and isinstance(value, str):
        return " YAML needs a decimal point before an exponent, as in 1.0e-4."
    if str in types and isinstance(value, bool):
        return ' YAML reads no, off, yes and on as false and true; put the value in quotes, as in "no".'
    return ""
