"""One reference by its mark, chosen by hand."""

import re

from ..types import MODALITIES, References
from .marks import marks_of

BRACKETS = "[]()【】［］（） \t\n"
NAME = re.compile(rf"({'|'.join(MODALITIES)})\s*(\d{{0,6}})", re.IGNORECASE)


def pick_reference(references: References, mark: str) -> int:
    """The index of the reference that ``mark`` names: "image1", "[audio2]", or "text" for the first text."""
    marks = marks_of(references)
    connected = f"Connected: {', '.join(marks)}." if marks else "No reference is connected."
    match = NAME.fullmatch(mark.strip(BRACKETS))
    if match is None:
        raise ValueError(f"{mark!r} names no reference. Write image1, audio1 or text1. {connected}")
    wanted = f"[{match[1].lower()}{int(match[2] or 1)}]"
    if wanted not in marks:
        counted = " Marks count from 1." if match[2] and int(match[2]) == 0 else ""
        raise ValueError(f"There is no reference {wanted}.{counted} {connected} Connect it, or write another mark.")
    return marks.index(wanted)
