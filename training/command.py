"""The command line that all training scripts share."""

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from accelerate import PartialState

CONFIGS = Path(__file__).parent / "configs"
MINIATURE = Path(__file__).parent.parent / "miniature"
WORK = Path(".train")
READ_AT_ONCE = 2**24  # bytes
Section = TypeVar("Section")


def load_config(name: str, path: Path | None = None) -> dict:
    """The YAML file of a network, the bundled one by default; another one has the same keys."""
    bundled = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    if path is None:
        return bundled
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    given = set(config) if isinstance(config, dict) else set()
    _refuse_unknown(given, bundled, path)
    if missing := [key for key in bundled if key not in given]:
        raise ValueError(f"{path} lacks {', '.join(missing)}. Start from a copy of training/configs/{name}.yaml.")
    return config


def read_section(cls: type[Section], values: Any, name: str) -> Section:
    """The section `name` of a configuration as the dataclass `cls`, sections within it too.

    ValueError names a key that is unknown, missing or of another type than the dataclass says.
    """
    known = {entry.name: entry for entry in fields(cls)}
    if not isinstance(values, dict):
        raise ValueError(f"{name} is {values!r}; it must hold the keys {', '.join(known)}.")
    _refuse_unknown(values, known, name)
    needed = [key for key, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    if missing := [key for key in needed if key not in values]:
        raise ValueError(f"{name} lacks {', '.join(missing)}.")
    hints = get_type_hints(cls)
    return cls(**{key: _read_value(hints[key], value, key, name) for key, value in values.items()})


def _refuse_unknown(given: Iterable[Any], known: dict[str, Any], name: str | Path) -> None:
    if unknown := sorted(str(key) for key in given if key not in known):
        raise ValueError(
            f"{name} has {', '.join(unknown)}, which this training does not know. It knows {', '.join(known)}."
        )


def _read_value(hint: Any, value: Any, key: str, name: str) -> Any:
    if is_dataclass(hint):
        return read_section(hint, value, key)
    types = get_args(hint) or (hint,)
    if type(value) in types or (type(value) is int and float in types):
        return value
    wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
    exponent = (
        " YAML wants a point before an exponent, as in 1.0e-4." if float in types and isinstance(value, str) else ""
    )
    raise ValueError(f"{name}: {key} is {value!r}; it must be of type {wanted}.{exponent}")


def file_digest(path: Path) -> str:
    """Twelve hexadecimal digits that stand for the content of a file, or of all files in a folder."""
    path = Path(path)
    if path.is_dir():
        parts = [f"{file.relative_to(path)} {file_digest(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(READ_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()[:12]


def fingerprint(config: dict, weights: Iterable[Path] = ()) -> str:
    """Twelve hexadecimal digits that stand for a configuration and the networks it builds on."""
    parts = [json.dumps(config, sort_keys=True), *map(file_digest, weights)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def run_command(train: Callable[[dict, Path, Path], dict], name: str, argv: list[str] | None = None):
    """Parse --config, --work and --out, train, print the results as JSON."""
    parser = argparse.ArgumentParser(description=f"Train the network of configs/{name}.yaml; resumes where it stopped.")
    parser.add_argument("--config", type=Path, help=f"YAML file (default: the bundled {name}.yaml)")
    parser.add_argument(
        "--work", type=Path, default=WORK, help="folder for checkpoints and caches (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=MINIATURE, help="folder for the weights (default: %(default)s)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    results = train(load_config(name, arguments.config), arguments.work, arguments.out)
    if PartialState().is_main_process:
        print(json.dumps(results, indent=2))
