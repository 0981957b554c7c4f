"""From an edit and the marks of its references to the sentence that asks for it."""

from collections.abc import Mapping, Sequence

import numpy as np

from . import wording
from .toyland import BACKGROUNDS, STYLES, WEATHERS, WHERE, Scene

# What an instruction to paint leaves open; a fixed answer, because the mean of many pictures is no picture.
PLAIN = {"background": BACKGROUNDS[0], "weather": WEATHERS[0], "style": STYLES[0]}

OLD_UNNAMED = 0.15  # of the replacements: what goes is just "the subject"
KEEP_THE_REST, PLEASE, CAPITAL, FULL_STOP = 0.05, 0.05, 0.1, 0.1  # how often a sentence has these


def choose(rng: np.random.Generator, options: Sequence):
    """One of the options, as it is (numpy's own `choice` turns tuples and strings into arrays)."""
    return options[rng.integers(len(options))]


def write_instruction(
    rng: np.random.Generator,
    source: Scene | None,
    target: Scene,
    kinds: tuple[str, ...],
    given_as: Mapping[str, str],
    marks: Mapping[str, str],
) -> str:
    """The instruction that leads from source to target: a sentence for the first edit and a tail for every other.

    `given_as`: edit kind -> modality. `marks`: role -> mark, where the roles are "base", the edit kinds, "old" (what a
    replacement takes away) and, to paint from nothing, "weather" and "style". What has no mark is said in words.
    """
    if source is None:
        text = _painting(rng, target, given_as, marks)
    else:
        clauses = [
            _clause(rng, source, target, kind, given_as[kind], marks, "_TAILS" * (kind != kinds[0])) for kind in kinds
        ]
        text = "".join(clauses)
        if rng.random() < KEEP_THE_REST:
            text += f", and keep the rest of {marks['base']}"
    if rng.random() < PLEASE:
        text = f"please {text}"
    if rng.random() < CAPITAL:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < FULL_STOP else text


def _clause(rng, source, target, kind, modality, marks, tails):
    """One edit in words; `tails` is "_TAILS" for the continuation of a sentence, else empty."""
    mark, base = marks.get(kind), marks["base"]
    if kind == "style":
        forms = getattr(wording, ("STYLE_BY_MARK" if mark else "STYLE_BY_WORD") + tails)
        return choose(rng, forms).format(base=base, what=mark or choose(rng, wording.STYLE_NAMES[target.style]))
    if kind == "atmosphere":
        form = "BY_WORD" if not mark else "BY_SOUND" if modality == "audio" else "BY_MARK"
        slots = {
            "adjective": choose(rng, wording.WEATHER_ADJECTIVES[target.weather]),
            "noun": wording.WEATHER_NOUNS[target.weather],
            "verb": wording.WEATHER_VERBS[target.weather],
            "place": choose(rng, wording.WEATHER_PLACES[target.weather]),
        }
        return choose(rng, getattr(wording, f"ATMOSPHERE_{form}{tails}")).format(base=base, what=mark, **slots)
    words = f"the {source.subject}" if kind == "remove" else f"a {target.subject}"
    what = _subject(rng, wording.SUBJECT_MARKS, mark, words)
    old = "the subject" if rng.random() < OLD_UNNAMED else f"the {source.subject}"
    old = _subject(rng, wording.SUBJECT_MARKS, marks.get("old"), old)
    return choose(rng, getattr(wording, kind.upper() + tails)).format(base=base, what=what, old=old)


def _subject(rng, forms, mark, words):
    """A subject by its mark, or in words where it has none. `forms`: modality -> phrases around a mark."""
    return choose(rng, forms[mark.strip("[]0123456789")]).format(mark=mark) if mark else words


def _painting(rng, target, given_as, marks):
    """An instruction to paint from nothing; what is PLAIN is left unsaid, unless a reference gives it."""
    forms = wording.GENERATE_FROM_IMAGE if given_as["generate"] == "image" else wording.GENERATE
    if target.subject == "none":
        text = choose(rng, forms).format(what=f"the empty {target.background}")
    else:
        what = _subject(rng, wording.GENERATE_MARKS, marks.get("generate"), f"a {target.subject}")
        text = choose(rng, forms).format(what=what)
        if target.background != PLAIN["background"]:
            text += f" {WHERE[target.background]}"
    if "weather" in marks:
        text += choose(rng, wording.GENERATE_ATMOSPHERE).format(what=marks["weather"])
    elif target.weather != PLAIN["weather"]:
        text += " " + choose(rng, wording.WEATHER_PLACES[target.weather])
    if "style" in marks:
        text += choose(rng, wording.GENERATE_STYLE_BY_MARK).format(what=marks["style"])
    elif target.style != PLAIN["style"]:
        text += choose(rng, wording.GENERATE_STYLE_BY_WORD).format(what=choose(rng, wording.STYLE_NAMES[target.style]))
    return text
