"""Types of the command lines of the stages."""

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number of at least 1')
    return int(text)


def part_of(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8): the third of eight parts."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f'a part is "K/N" with K from 0 to N - 1, not "{text}"')
    return int(index), int(count)
