"""Similarities in the space of an embedder of pictures and texts (InstructPix2Pix, arXiv 2211.09800, sec. 4.1; table 2
of InstructAny2Pix, arXiv 2312.06738). They are those of the embedder that was given: say which one beside the figures.
"""

from __future__ import annotations

from functools import lru_cache

from ...stages.similarity import Similarity, measure, patch_similarity
from ..case import Case, Output
from ..sheet import to_picture
from . import Tools, metric


@metric("direction")
def direction(case: Case, output: Output, tools: Tools) -> float | None:
    """CLIP_dir: cosine of the change in pictures with that in captions."""
    found = _similarity(case, output, tools)
    return found and found.direction


@metric("image_similarity")
def image_similarity(case: Case, output: Output, tools: Tools) -> float | None:
    """CLIP_im: cosine of source and result."""
    found = _similarity(case, output, tools)
    return found and found.image_image


@metric("caption_similarity")
def caption_similarity(case: Case, output: Output, tools: Tools) -> float | None:
    """CLIP_out: cosine of the result with the target's caption."""
    found = _similarity(case, output, tools)
    return found and found.edited_caption


@metric("patch_similarity")
def patches(case: Case, output: Output, tools: Tools) -> float | None:
    """Cosine of source and result patch by patch, the mean over all: where things are, not only what they are."""
    if case.source is None or tools.embedder is None:
        return None
    return patch_similarity(tools.embedder, to_picture(case.source), to_picture(output.picture))


@lru_cache(maxsize=1)  # one result is measured by several metrics in a row
def _similarity(case: Case, output: Output, tools: Tools) -> Similarity | None:
    if case.source is None or tools.embedder is None or not (case.source_caption and case.target_caption):
        return None
    pair = to_picture(case.source), to_picture(output.picture)
    (found,) = measure(tools.embedder, [pair], case.source_caption, case.target_caption)
    return found
