"""Marks in the instruction, ``[image1]``, ``[audio2]``, ``[text1]``, resolved to the connected references."""

import re
from dataclasses import dataclass

from .types import MODALITIES, References

MARK = "\ufffc"  # OBJECT REPLACEMENT CHARACTER: stands in the resolved text where a reference is
MARK_PATTERN = re.compile(rf"\[\s*({'|'.join(MODALITIES)})\s*(\d+)\s*\]", re.IGNORECASE)


@dataclass(frozen=True)
class ResolvedInstruction:
    """``text`` has one MARK per occurrence of a reference, ``order`` that reference's index, left to right."""

    text: str
    order: tuple[int, ...]

    @property
    def pieces(self) -> tuple[str, ...]:
        """The plain text around the marks; one more than there are marks."""
        return tuple(self.text.split(MARK))


def resolve_marks(instruction: str, references: References) -> ResolvedInstruction:
    """Find which references the instruction shows to the LLM, and where.

    ``[image2]`` is the second connected image; a reference may be named any number of times, in any order. Text in
    other brackets stays as it is. References that are not named:
    - no mark at all ("make it snow"): every reference goes in front of the text, in the order of connection;
    - marks, but none of an image ("add [audio1]"): the images go in front, for they are what is to be edited;
    - an image is named: what is not named stays out.
    """
    instruction = instruction.replace(MARK, " ")
    if not instruction.strip():
        raise ValueError("The instruction is empty. Write what to change, for example: add [audio1] to [image1].")
    by_name = _names(references)
    order = tuple(_lookup(match, by_name, references) for match in MARK_PATTERN.finditer(instruction))
    text = MARK_PATTERN.sub(MARK, instruction)
    front = _unnamed_in_front(order, references)
    return ResolvedInstruction("".join(f"{MARK} " for _ in front) + text, front + order)


def _names(references: References) -> dict[tuple[str, int], int]:
    """(modality, number counted from 1) -> index in the list."""
    names: dict[tuple[str, int], int] = {}
    for index, reference in enumerate(references):
        number = sum(other.modality == reference.modality for other in references[: index + 1])
        names[reference.modality, number] = index
    return names


def _lookup(match: re.Match[str], by_name: dict[tuple[str, int], int], references: References) -> int:
    modality, number = match[1].lower(), int(match[2])
    if (modality, number) in by_name:
        return by_name[modality, number]
    count = sum(reference.modality == modality for reference in references)
    connected = (
        f"only {count} {modality} reference{' is' if count == 1 else 's are'}"
        if count
        else f"no {modality} reference is"
    )
    counted = " Marks count from 1." if number == 0 else ""
    raise ValueError(
        f"The instruction names {match[0]}, but {connected} connected.{counted} Connect it, or drop the mark."
    )


def _unnamed_in_front(order: tuple[int, ...], references: References) -> tuple[int, ...]:
    """The rule for references that the instruction does not name; see ``resolve_marks``."""
    if not order:
        return tuple(range(len(references)))
    if any(references[index].modality == "image" for index in order):
        return ()
    return tuple(index for index, reference in enumerate(references) if reference.modality == "image")
