"""Refinement: what the LLM predicted (or a sound, a picture, a text) -> the embedding of a clean picture of it."""

import math

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...models.prior import INPUT_NORM, MODALITIES, RefinementPrior
from ..length import to_length
from ..preprocess import tokenize_clip

# The released pipeline's call of the prior.
SOURCE = "video"  # H_gen goes in as this modality
GUIDANCE = 10.0
AESTHETIC_SCORE = 6.5
SCORE_RANGE = (1.0, 10.0)  # the aesthetic predictor's scale


def refine(
    prior: RefinementPrior,
    embedding: Tensor | None,
    source: str = SOURCE,
    text: str = "",
    score: float = AESTHETIC_SCORE,
    guidance: float = GUIDANCE,
) -> Tensor:
    """u + guidance (c - u), with c the pass on the input and u the unconditional pass. Returns (D,), not normalised.

    embedding: (D,), of any length, brought to INPUT_NORM here; None only where a text alone is the source.
    source: "video" for what the LLM predicted, or the modality that ImageBind encoded: "image", "audio", "text".
    text: read by the prior's own text encoder where source is "text", ignored otherwise, as in the released code.
    score: aesthetic score asked for, 1..10. guidance: 1 is the plain prediction, 0 ignores the input.
    """
    _check_options(source, score, guidance)
    text = text if source == "text" else ""
    device = prior.start_of_sequence_tokens.weight.device if embedding is None else embedding.device
    given = _input(prior, embedding, text, source, device)  # (1, D)
    c, u = both_passes(prior, given, source, text, score)
    return c[0] if guidance == 1.0 else (u + guidance * (c - u))[0]


def both_passes(prior: RefinementPrior, given: Tensor, source: str, text: str, score: float) -> tuple[Tensor, Tensor]:
    """Inputs (B, D), rows of length INPUT_NORM or zero -> the conditional and the unconditional answer, (B, D) each."""
    count, device = len(given), given.device
    # Both prompts are padded to one length, as in the released code: the position of the score depends on it.
    ids, mask = (x.to(device) for x in clip_prompts(prior.tokenizer, [text] * count + [""] * count, prior.dims.clip))
    scores = torch.full((2 * count,), score, device=device)
    modality = torch.full((2 * count,), MODALITIES[source], device=device)
    unconditional = torch.arange(2 * count, device=device) >= count
    c, u = prior(given.repeat(2, 1), scores, ids, mask, modality, unconditional).chunk(2)
    return c, u


def clip_prompts(tokenizer: Tokenizer | None, texts: list[str], clip: dict) -> tuple[Tensor, Tensor]:
    """Texts -> ids, mask (B, L): start token, text, end token, padded to the longest; mask 0 at the padding.

    clip: the arguments of CLIPTextConfig, which name the start and end token and the longest prompt. Empty texts need
    no tokenizer.
    """
    start, end = clip["bos_token_id"], clip["eos_token_id"]
    if tokenizer is not None:
        ids = tokenize_clip(tokenizer, texts, clip["max_position_embeddings"])
    elif not any(texts):
        ids = torch.tensor([[start, end]] * len(texts))
    else:
        raise ValueError(
            "This refinement prior has no tokenizer, so it cannot read a text. Put CLIP's tokenizer.json next to its "
            "file, or choose another source than text."
        )
    lengths = (ids == end).int().argmax(dim=1, keepdim=True) + 1  # (B, 1)
    longest = int(lengths.max())
    return ids[:, :longest], (torch.arange(longest) < lengths).long()


def _input(prior: RefinementPrior, embedding: Tensor | None, text: str, source: str, device: torch.device) -> Tensor:
    """The imagebind input (1, D): unit * INPUT_NORM, or zeros where a text alone is the source."""
    size = prior.dims.embed
    if embedding is None:
        if not text:
            raise ValueError(
                f'There is nothing to refine: connect an embedding, or give a text with source "text" (source is '
                f'"{source}").'
            )
        return torch.zeros(1, size, device=device)
    if embedding.shape != (size,):
        raise ValueError(
            f"The refinement prior takes one embedding of {size} numbers, got shape {tuple(embedding.shape)}. "
            "Load the prior and ImageBind (or the LLM) of one checkpoint family."
        )
    return to_length(embedding, INPUT_NORM, "embedding to refine")[None]


def _check_options(source: str, score: float, guidance: float) -> None:
    if source not in MODALITIES:
        raise ValueError(f"The source of the refinement must be one of {', '.join(MODALITIES)}, got {source!r}.")
    low, high = SCORE_RANGE
    if not low <= score <= high:
        raise ValueError(
            f"The aesthetic score must be between {low:g} and {high:g}, got {score}. The published value is "
            f"{AESTHETIC_SCORE}."
        )
    if not (math.isfinite(guidance) and guidance >= 0.0):
        raise ValueError(
            f"The guidance of the prior must be 0 or more, got {guidance}. The published value is {GUIDANCE:g}."
        )
