"""Base retrieval: which of the references is the picture to edit."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import References


@dataclass(frozen=True)
class Retrieval:
    """``index`` into the references, or None: paint from noise. ``similarities`` (N,), cosines in [-1, 1]."""

    index: int | None
    similarities: Tensor


def retrieve_base(references: References, base: Tensor | None, candidates: tuple[int, ...] | None = None) -> Retrieval:
    """The reference of the highest cosine with H_base (D,) (the paper's section 3.3).

    An image wins over every sound and text, whatever their cosines: only an image can be edited. ``candidates``: the
    references the instruction showed to the LLM (``EditPlan.mentioned``); None or empty means all. One candidate is the
    base. ``base`` None (``<base_null>``) gives index None and similarities of 0. ValueError where embeddings differ in
    length or hold NaN, or a candidate is none of the references.
    """
    if base is None or not references:
        return Retrieval(None, torch.zeros(len(references)))
    similarities = similarities_to(references, base)
    if beyond := [index for index in candidates or () if not 0 <= index < len(references)]:
        raise ValueError(
            f"The instruction showed reference {beyond[0] + 1} to the LLM, but {len(references)} are connected here. "
            "Connect the same chain as on the LLM."
        )
    allowed = list(dict.fromkeys(candidates)) if candidates else list(range(len(references)))
    images = [index for index in allowed if references[index].modality == "image"]
    images = images or [index for index, reference in enumerate(references) if reference.modality == "image"]
    allowed = images or allowed
    return Retrieval(max(allowed, key=lambda index: float(similarities[index])), similarities)


def similarities_to(references: References, embedding: Tensor) -> Tensor:
    """Cosine of ``embedding`` (D,) with each of the N references: (N,), float32, on the CPU."""
    for number, reference in enumerate(references, start=1):
        if reference.embedding.shape != embedding.shape:
            raise ValueError(
                f"Reference {number} of {len(references)} has {reference.embedding.shape[-1]} numbers, the embedding "
                f"to find {embedding.shape[-1]}. Load an ImageBind and an LLM that belong together (both miniature, or "
                "both published)."
            )
        if not reference.embedding.isfinite().all():
            raise ValueError(
                f"Reference {number} of {len(references)} holds NaN or infinite numbers. Check the node it comes from."
            )
    if not embedding.isfinite().all():
        raise ValueError("The embedding to find holds NaN or infinite numbers. Check the node it comes from.")
    stacked = torch.stack([reference.embedding.detach().float().cpu() for reference in references])
    return F.cosine_similarity(stacked, embedding.detach().float().cpu()[None], dim=-1)
