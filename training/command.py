"""The command line that all training scripts share."""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from ..miniature import manifest
from .recipe_files import MINIATURE_RECIPE, load_recipe, recipe_names

WORK = Path(".train")
OUT = WORK / "out"

logger = logging.getLogger(__name__)


def network_file(out: Path, name: str) -> Path:
    """A network that a training builds on: the one in `out`, else the bundled miniature's."""
    own = Path(out) / name
    if own.is_file():
        return own
    logger.info("%s is not in %s: using the bundled miniature's", name, out)
    return manifest.FOLDER / name


def run_command(train: Callable[[dict, Path, Path], dict], name: str, argv: list[str] | None = None) -> None:
    """Parse the arguments, train, write the results as JSON to the standard output."""
    bundled = ", ".join(recipe_names(name))
    parser = argparse.ArgumentParser(description=f"Train {name} from a recipe; a stopped training resumes.")
    parser.add_argument(
        "--recipe",
        "--config",
        default=MINIATURE_RECIPE,
        help=f"a bundled recipe ({bundled}) or a YAML file (default: %(default)s)",
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the recipe, such as loop.steps=100"
    )
    parser.add_argument(
        "--work", type=Path, default=WORK, help="folder for checkpoints and caches (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=OUT,
        help="folder for the weights; networks that it lacks are the miniature's (default: %(default)s)",
    )
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it names every file of a checkpoint
    for folder in (given.work, given.out):
        folder.mkdir(parents=True, exist_ok=True)
    results = train(load_recipe(name, given.recipe, given.set), given.work, given.out)
    if PartialState().is_main_process:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")
