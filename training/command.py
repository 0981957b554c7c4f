"""The command line that all training scripts share."""

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import yaml

CONFIGS = Path(__file__).parent / "configs"
MINIATURE = Path(__file__).parent.parent / "miniature"
WORK = Path(".train")


def load_config(name: str, path: Path | None = None) -> dict:
    """The YAML file of a network, the bundled one by default; another one has the same keys."""
    bundled = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    if path is None:
        return bundled
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    given = set(config) if isinstance(config, dict) else set()
    if unknown := sorted(given - set(bundled)):
        raise ValueError(f"{path} has {', '.join(unknown)}, which this training does not know. It knows {', '.join(bundled)}.")
    if missing := [key for key in bundled if key not in given]:
        raise ValueError(f"{path} lacks {', '.join(missing)}. Start from a copy of training/configs/{name}.yaml.")
    return config


def file_digest(path: Path) -> str:
    """Twelve hexadecimal digits that stand for the content of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def fingerprint(config: dict, weights: Iterable[Path] = ()) -> str:
    """Twelve hexadecimal digits that stand for a configuration and the networks it builds on."""
    parts = [json.dumps(config, sort_keys=True), *map(file_digest, weights)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def run_command(train: Callable[[dict, Path, Path], dict], name: str, argv: list[str] | None = None):
    """Parse --config, --work and --out, train, print the results as JSON."""
    parser = argparse.ArgumentParser(description=f"Train the network of configs/{name}.yaml; resumes where it stopped.")
    parser.add_argument("--config", type=Path, help=f"YAML file (default: the bundled {name}.yaml)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for checkpoints and caches (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=MINIATURE, help="folder for the weights (default: %(default)s)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    results = train(load_config(name, arguments.config), arguments.work, arguments.out)
    print(json.dumps(results, indent=2))
