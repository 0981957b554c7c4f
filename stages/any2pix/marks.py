"""Marks in the instruction, ``[image1]``, ``[audio2]``, ``[text1]``, resolved to the connected references.

The grammar, from what is sure to what is not:

1. ``[image1]``: kind and number in square brackets, blanks and capitals as you like.
2. What can only mean a mark is read as one, with a note:
   - another word for the kind, another way to count, other brackets: ``[picture 1]``, ``[image #01]``, ``[first
     image]``,
     ``(image1)``, ``{image1}``, ``【图片1】``, ``［ｉｍａｇｅ１］``;
   - one of the two brackets missing or of another kind: ``[image1``, ``image1]``, ``[image1)``;
   - none at all, where such a reference is connected: ``image1``, ``@image1``;
   - no number in square brackets, where one such reference is connected: ``[image]``.
3. What was meant as a mark but names nothing, or might mean several things, is an error that says what to write: a
number that
   is not connected, ``[image]`` with two images, a slip of the keyboard (``[iamge1]``), ``[image 1 and 2]``.
4. What may be a mark or words stays words, with a note: ``picture 1`` without brackets, ``[video1]``.
5. Everything else is text: ``[sic]``, ``[a red balloon]``, ``(image quality 2)``, ``a picture 1 metre wide``.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from ..characters import well_formed
from ..types import MODALITIES, References
from . import mark_words as words
from .mark_words import BLANK, CLOSING, FOLDED, OPENING, SQUARE, Named

MARK = "\ufffc"  # OBJECT REPLACEMENT CHARACTER: stands in the resolved text where a reference is
MARK_PATTERN = re.compile(rf"\[\s*({'|'.join(MODALITIES)})\s*(\d+)\s*\]", re.IGNORECASE)
MOST_NOTES = 5  # shown on the node
LONGEST_QUOTE = 60  # characters of the instruction that a message repeats

_OPEN, _CLOSE = re.escape(OPENING), re.escape(CLOSING)
_PAIR = re.compile(rf"[$@]?\\?(?P<open>[{_OPEN}])(?P<inner>[^{_OPEN}{_CLOSE}{MARK}]{{1,60}})\\?(?P<close>[{_CLOSE}])")
_DRESS = re.compile(rf"^(?:{BLANK}|[\"'`|/@$“”‘’])+|(?:{BLANK}|[\"'`|/\\“”‘’])+$")  # around the inner text: <|image1|>
_HALF = re.compile(
    rf"[{re.escape(SQUARE[: len(SQUARE) // 2])}]{BLANK}*{words.WORD}{words.GAP}(?P<number>\d{{1,9}})"
    rf"(?![\w.])(?!{words.UNITS})"
    rf"|(?<!\w)(?:{words.either(words.BARE_WORDS)})\d{{1,9}}{BLANK}*[{re.escape(SQUARE[len(SQUARE) // 2 :])}]",
    re.IGNORECASE,
)
_BARE = re.compile(
    rf"(?<![\w./\\-])@?(?P<word>{words.either(words.BARE_WORDS)})s?(?P<number>\d{{1,9}})(?![\w/\\]|\.\w|-\w)",
    re.IGNORECASE,
)
_SPOKEN = re.compile(
    rf"(?<![A-Za-z0-9./\\_-])(?P<word>{words.either(words.SPOKEN_WORDS)}){BLANK}{{0,2}}#?(?P<number>\d{{1,3}})"
    rf"(?![A-Za-z0-9_/\\]|[.-]\w)(?!{words.UNITS})",
    re.IGNORECASE,
)
_WORD_NUMBER = re.compile(r"(?P<word>[^\W\d_]{2,})[\s_-]?(?P<number>\d{1,9})")


@dataclass(frozen=True)
class ResolvedInstruction:
    """``text`` has one MARK per occurrence of a reference, ``order`` that reference's index, left to right.

    ``notes``: what was read in another way than it is written, for people, a sentence each.
    """

    text: str
    order: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def pieces(self) -> tuple[str, ...]:
        """The plain text around the marks; one more than there are marks."""
        return tuple(self.text.split(MARK))


def resolve_marks(instruction: str, references: References) -> ResolvedInstruction:
    """Find which references the instruction shows to the LLM, and where; the grammar of a mark stands above.

    ``[image2]`` is the second connected image; a reference may be named any number of times, in any order. References
    that are not named:
    - no mark at all ("make it snow"): every reference goes in front of the text, in the order of connection;
    - marks, but none of an image ("add [audio1]"): the images go in front, for they are what is to be edited;
    - an image is named: what is not named stays out.
    """
    instruction = well_formed(instruction).replace(MARK, " ")
    if not instruction.strip():
        raise ValueError("The instruction is empty. Write what to change, for example: add [audio1] to [image1].")
    reader = _Reader(references)
    spans = reader.read(instruction)
    text, end = [], 0
    for start, stop, _ in spans:
        text += [instruction[end:start], MARK]
        end = stop
    order = tuple(index for _, _, index in spans)
    front = _unnamed_in_front(order, references)
    return ResolvedInstruction(
        "".join([f"{MARK} " for _ in front] + text + [instruction[end:]]), front + order, reader.notes
    )


def marks_of(references: References) -> tuple[str, ...]:
    """("[image1]", "[audio1]", "[image2]", ...), in the order of the chain: what an instruction calls each."""
    return tuple(_mark(named) for named in _named(references))


class _Reader:
    """One reading of one instruction: passes from what is sure to what is not, each over what the ones before left."""

    def __init__(self, references: References) -> None:
        self.places = {named: index for index, named in enumerate(_named(references))}
        self.counts = Counter(reference.modality for reference in references)
        self.spans: list[tuple[int, int, int]] = []  # start and end in the text, index of the reference
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        notes = tuple(self._notes)
        more = len(notes) - MOST_NOTES
        return notes[:MOST_NOTES] + ((f"And {more} more.",) if more > 0 else ())

    def read(self, text: str) -> list[tuple[int, int, int]]:
        folded = text.translate(FOLDED)
        for pattern, found in (
            (MARK_PATTERN, self._exact),
            (_PAIR, self._pair),
            (_HALF, self._half),
            (_BARE, self._bare),
        ):
            folded = self._pass(pattern, found, text, folded)
        for match in _SPOKEN.finditer(folded):
            named = Named(words.kind_of(match["word"]), int(match["number"]))
            if named in self.places:
                self._note_words(text[match.start() : match.end()], named)
        return sorted(self.spans)

    def _pass(
        self, pattern: re.Pattern[str], found: Callable[[re.Match[str], str], Named | None], text: str, folded: str
    ) -> str:
        """One pass: where ``found`` takes a match for a mark, its span is kept and hidden from the passes behind."""

        def replace(match: re.Match[str]) -> str:
            named = found(match, _quote(text[match.start() : match.end()]))
            if named is None:
                return match[0]
            self.spans.append((match.start(), match.end(), self.places[named]))
            return MARK * len(match[0])

        return pattern.sub(replace, folded)

    def _exact(self, match: re.Match[str], written: str) -> Named:
        named = Named(match[1].lower(), _counted(match[2]))
        self._require(named, written)
        if written != _quote(match[0]):  # full-width letters
            self._note_mark(written, named)
        return named

    def _pair(self, match: re.Match[str], written: str) -> Named | None:
        """Something in brackets, each of any kind."""
        square = match["open"] in SQUARE or match["close"] in SQUARE
        inner = _DRESS.sub("", match["inner"])
        named = words.read_named(inner)
        if named is not None and named.number is None:
            return self._without_number(named.kind, written) if square else None
        if named is not None:
            compact = not re.search(BLANK, inner)
            if named in self.places or square or compact:
                return self._mark(named, written)
            return self._note_words(written, named)
        slip = words.read_slip(inner, spaced=square)
        if slip is not None and self.counts[slip.kind]:
            raise ValueError(
                f"The instruction contains {written}, which is not a mark. Write {_mark(slip)} if you mean that "
                "reference, or other words without brackets."
            )
        if square and (more := words.NAMED_AND_MORE.match(inner)):
            named = Named(words.kind_of(more["word"]), int(more["number"]))
            raise ValueError(
                f"The instruction contains {written}: these brackets hold more than one mark. Write separate "
                f"brackets, {_mark(named)}, or remove the brackets."
            )
        if square and _WORD_NUMBER.fullmatch(inner):
            self._note(f"{written} is read as words: marks are [image1], [audio1] and [text1].")
        return None

    def _half(self, match: re.Match[str], written: str) -> Named | None:
        """A mark with one of its brackets."""
        named = words.read_named(match[0].strip(SQUARE + " \t\n"))
        return None if named is None else self._mark(named, written)

    def _bare(self, match: re.Match[str], written: str) -> Named | None:
        """A mark without brackets."""
        named = Named(words.kind_of(match["word"]), int(match["number"]))
        if named in self.places:
            return self._mark(named, written)
        return self._note_words(written, named)

    def _without_number(self, kind: str, written: str) -> Named | None:
        count = self.counts[kind]
        if count > 1:
            raise ValueError(
                f"The instruction contains {written}, but {count} {kind} references are connected. Write which one: "
                f"[{kind}1] to [{kind}{count}]."
            )
        if count == 1:
            return self._mark(Named(kind, 1), written)
        self._note(f"{written} is read as words: no {kind} reference is connected.")
        return None

    def _mark(self, named: Named, written: str) -> Named:
        self._require(named, written)
        self._note_mark(written, named)
        return named

    def _require(self, named: Named, written: str) -> None:
        """ValueError where no such reference is connected."""
        if named in self.places:
            return
        kind, count = named.kind, self.counts[named.kind]
        connected = (
            f"only {count} {kind} reference{' is' if count == 1 else 's are'}" if count else f"no {kind} reference is"
        )
        meant = "" if MARK_PATTERN.fullmatch(written) else f", that is {_mark(named)}"
        counted = " Marks count from 1." if named.number == 0 else ""
        raise ValueError(
            f"The instruction names {written}{meant}, but {connected} connected.{counted} Connect it, or remove the "
            "mark."
        )

    def _note_mark(self, written: str, named: Named) -> None:
        self._note(f"{written} is read as {_mark(named)}.")

    def _note_words(self, written: str, named: Named) -> None:
        if named in self.places:
            self._note(f"{written} is read as words. To name the reference, write {_mark(named)}.")
        else:
            self._note(f"{written} is read as words: there is no {_mark(named)}.")

    def _note(self, note: str) -> None:
        self._notes[note] = None


def _counted(digits: str) -> int:
    """Digits of any length; beyond nine they are more than any chain has."""
    return int(digits[-9:]) if not digits[:-9].strip("0") else 10**9


def _quote(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def _named(references: References) -> list[Named]:
    """Each reference's kind and its number among those of its kind, from 1."""
    counts: Counter[str] = Counter()
    named = []
    for reference in references:
        counts[reference.modality] += 1
        named.append(Named(reference.modality, counts[reference.modality]))
    return named


def _mark(named: Named) -> str:
    return f"[{named.kind}{named.number}]"


def _unnamed_in_front(order: tuple[int, ...], references: References) -> tuple[int, ...]:
    """The rule for references that the instruction does not name; see ``resolve_marks``."""
    if not order:
        return tuple(range(len(references)))
    if any(references[index].modality == "image" for index in order):
        return ()
    return tuple(index for index, reference in enumerate(references) if reference.modality == "image")
