"""Grades of edits: the labels the judge gives a result, held against the scene that the edit should give."""

from __future__ import annotations

from dataclasses import dataclass

from .judge import ATTRIBUTES


@dataclass(frozen=True)
class Grade:
    """One picture's grade. `done`: every attribute that should change reads as wanted; `kept`: share of the others left
    as they were."""

    done: bool
    kept: float
    seen: dict[str, str]


def changed_attributes(source, target) -> tuple[str, ...]:
    """The attributes that tell two scenes apart."""
    return tuple(name for name in ATTRIBUTES if getattr(source, name) != getattr(target, name))


def grade(source, target, seen: dict[str, str]) -> Grade:
    """Scenes before and after the wanted edit, and what the judge sees in the result."""
    wanted = changed_attributes(source, target)
    if not wanted:
        raise ValueError(f"Source and target are the same scene ({source}): there is no edit to grade.")
    others = [name for name in ATTRIBUTES if name not in wanted]
    done = all(seen[name] == getattr(target, name) for name in wanted)
    kept = [seen[name] == getattr(source, name) for name in others]
    return Grade(done=done, kept=sum(kept) / len(kept) if kept else 1.0, seen=seen)


def caption_right(parsed: dict | None, target) -> bool:
    """Whether a parsed caption names every attribute of the target; None is a caption that could not be read."""
    return parsed is not None and all(parsed.get(name) == getattr(target, name) for name in ATTRIBUTES)
