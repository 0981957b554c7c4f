"""What the command lines of the stages share."""

import argparse
from collections.abc import Iterable
from pathlib import Path


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number of at least 1')
    return int(text)


def part_of(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8): the third of eight parts."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f'a part must be "K/N" with K from 0 to N - 1, got "{text}"')
    return int(index), int(count)


def add_shard_work(parser: argparse.ArgumentParser) -> None:
    """Where a stage that runs networks over the shards of another one writes, on what, and which shards are its own."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--part", type=part_of, default=(0, 1), metavar="K/N", help="every N-th shard from the K-th on")


def own_shards(finished: Iterable[int], part: tuple[int, int]) -> list[int]:
    """The shards of a part (K, N), by their numbers."""
    index, count = part
    return [number for number in finished if number % count == index]
