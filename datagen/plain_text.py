"""Instructions in words alone, for editors that see one picture and read one text: "turn the cat into a frog"."""

import re

import numpy as np

from .instructions import edits_between
from .phrasing import choose, write_instruction
from .toyland import PLACE_WORDINGS, Scene

BASE_MARK = "[image1]"
UNNAMED_BASE = ("it", "the picture", "this picture", "the image", "my picture")
TO_BASE = re.compile(r"(?<! out) (?:in|into|to|from|of|on|onto|for) \[image\d+\]")
BASE_LEFT_OUT = 0.5  # of the instructions that could do without: "add a cat" for "add a cat to the picture"


def text_instruction(rng: np.random.Generator, source: Scene, target: Scene) -> str:
    """An instruction without marks that leads from one scene to another of the same background and seed."""
    kinds = tuple(str(kind) for kind in rng.permutation(edits_between(source, target)))
    if not kinds:
        raise ValueError(f"Nothing leads from {source} to itself. Give two scenes that differ.")
    text = write_instruction(rng, source, target, kinds, dict.fromkeys(kinds, "text"), {"base": BASE_MARK})
    return without_base_mark(text, BASE_MARK, rng)


def without_base_mark(text: str, mark: str, rng: np.random.Generator) -> str:
    """The instruction with the mark of the picture to edit in words, or left out with its preposition."""
    if rng.random() < BASE_LEFT_OUT:
        text = TO_BASE.sub(lambda match: "" if mark in match[0] else match[0], text)
    return text.replace(mark, choose(rng, UNNAMED_BASE))


def mirrored_text(text: str) -> str:
    """A description of the picture, true of its mirror image: left and right change places."""
    left, right = PLACE_WORDINGS["left"], PLACE_WORDINGS["right"]
    swapped = {left: right, right: left}
    return re.sub(f"{re.escape(left)}|{re.escape(right)}", lambda match: swapped[match[0]], text)
