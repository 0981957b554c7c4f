"""Whether a method planned the right edit, before it painted."""

from __future__ import annotations

from ..case import Case, Output
from . import Tools, metric


@metric("base_right", unit="share")
def base_right(case: Case, output: Output, tools: Tools) -> float | None:
    """1 where the method edited the right one of several references."""
    if output.planned is None or len(case.references) < 2:
        return None
    return float(output.planned and output.base == case.base)


@metric("caption_right", unit="share")
def caption_right(case: Case, output: Output, tools: Tools) -> float | None:
    """1 where the caption the method wrote is the target's."""
    if output.planned is None or not case.target_caption:
        return None
    return float(output.caption.strip() == case.target_caption)
