"""What the command lines of the evaluation share."""

from __future__ import annotations

import argparse
from pathlib import Path

from .cases import SPLITS
from .editor import MINIATURE


def evaluation_parser(description: str | None, samples: int, of_what: str) -> argparse.ArgumentParser:
    """A parser that knows which weights are measured, and on how many samples of which split and seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=samples, help=of_what)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--miniature", type=Path, default=MINIATURE, help="folder of the weight files")
    parser.add_argument("--device", default="cpu", help="for instance cuda (default: %(default)s)")
    return parser
