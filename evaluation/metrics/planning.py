"""What a method understood of its instruction, before it painted."""

from __future__ import annotations

from ..case import Case, Output
from . import Tools, metric


@metric("base_right", unit="share")
def base_right(case: Case, output: Output, tools: Tools) -> float | None:
    """1 where the method edited the right one of several references."""
    return float(output.base == case.base) if len(case.references) > 1 else None


@metric("caption_right", unit="share")
def caption_right(case: Case, output: Output, tools: Tools) -> float | None:
    """1 where the caption the method wrote is the target's; None for methods that write none."""
    if not output.planned:
        return 0.0
    if not (output.caption and case.target_caption):
        return None
    return float(output.caption.strip() == case.target_caption)
