"""Mixing: how much of the source picture's noise, and which embedding, the sampler gets. Pure arithmetic."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor

from ...models.mm_llm import EMBED_NORM
from ..length import norm_of, to_length

# Defaults of the published demo, h = (0, 0.4, 1) and norm 20.
BASE_WEIGHT = 0.0
EDIT_WEIGHT = 0.4
REFINED_WEIGHT = 1.0
MIX_NORM = EMBED_NORM

MixMode = Literal["paper", "polar"]
MIX_MODES = get_args(MixMode)
MixFormula = Literal["equal", "released", "paper"]
MIX_FORMULAS = get_args(MixFormula)


def mix_noise(latent: Tensor, noise: Tensor, alpha: float, mode: MixMode = "paper") -> Tensor:
    """Blend an inverted latent with fresh noise: z' = alpha z + (1 - alpha) e, rescaled per sample.

    latent, noise: (B, ...), both in the variance-preserving, unit-variance scale. Returns the same shape.
    alpha in [0, 1]: 1 gives the latent back bit by bit (keep the layout), 0 gives noise alone.
    mode "paper" keeps ||z|| (InstructAny2Pix, arXiv 2312.06738, sec. 3); "polar" is the released code's
    alpha ||z|| + (1 - alpha) ||e||. The plain sum would be too short, and the sampler would paint it flat and grey.
    """
    if mode not in MIX_MODES:
        raise ValueError(f"The mode of the noise mix must be one of {', '.join(MIX_MODES)}, got {mode!r}.")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is the share of the source picture; it must be between 0 and 1, got {alpha}.")
    if latent.shape != noise.shape:
        raise ValueError(
            f"Latent {tuple(latent.shape)} and noise {tuple(noise.shape)} differ in shape. "
            "Make the noise for this latent's size and batch."
        )
    noise = noise.to(latent.device, latent.dtype)
    if alpha == 1.0:
        return latent.clone()
    if mode == "polar" and alpha == 0.0:
        return noise.clone()

    latent_norm = _sample_norm(
        latent, "latent of the noise mix", "An empty latent has no layout to keep: connect DDIM Invert."
    )
    mixed = alpha * latent + (1.0 - alpha) * noise
    mixed_norm = _sample_norm(mixed, "mix of latent and noise", "Use another seed.")
    target = latent_norm
    if mode == "polar":
        target = alpha * latent_norm + (1.0 - alpha) * _sample_norm(noise, "noise of the mix", "Use another seed.")
    return (mixed.float() * (target / mixed_norm)).to(latent.dtype)


def mix_embeddings(
    edit: Tensor,
    refined: Tensor | None = None,
    base: Tensor | None = None,
    edit_weight: float = EDIT_WEIGHT,
    refined_weight: float = REFINED_WEIGHT,
    base_weight: float = BASE_WEIGHT,
    norm: float = MIX_NORM,
    formula: MixFormula = "equal",
) -> Tensor:
    """H = base_weight H_base + edit_weight H_gen + refined_weight H_prior, then divided by its length, times norm.

    Each is (D,) or (B, D); what is None is left out. Returns the shape of `edit`, every row of length `norm`.
    `formula` says at which length a part is weighted:
    - "equal": every part at length 20, so that a raw ImageBind output (1 for a picture, about 20 for a sound, up to 100
      for a text) counts as much as a prediction.
    - "released": the released code's. The prior's output at length 20, the others as they are: what the LLM predicted
      keeps its length (near 20), and whoever takes a reference for the base brings it to 20 first.
    - "paper": H = prior(H_gen) + H_gen + beta H_k (arXiv 2312.06738, sec. 3) of equal lengths: beta is base_weight, the
      other weights are 1 whatever they say. The paper's norm is 1.
    """
    if not (math.isfinite(norm) and norm > 0.0):
        raise ValueError(
            f"The norm of the mixed embedding must be above 0, got {norm}. The published value is {MIX_NORM:g}."
        )
    if formula not in MIX_FORMULAS:
        raise ValueError(f"The formula of the embedding mix must be one of {', '.join(MIX_FORMULAS)}, got {formula!r}.")
    if formula == "paper":
        edit_weight = refined_weight = 1.0
    parts = [("edit", edit, edit_weight), ("refined", refined, refined_weight), ("base", base, base_weight)]
    used = [(name, part, weight) for name, part, weight in parts if part is not None and weight != 0.0]
    if not used:
        weights = ", ".join(f"{name}_weight {weight:g}" for name, part, weight in parts if part is not None)
        raise ValueError(f"Nothing to mix: {weights}. Raise at least one weight of a connected embedding above 0.")

    mixed = edit.new_zeros(edit.shape).float()
    for name, part, weight in used:
        as_it_is = formula == "released" and name != "refined"
        mixed = mixed + weight * _checked_part(name, part, edit, weight, None if as_it_is else EMBED_NORM)
    return to_length(mixed, norm, "mixed embedding", "The parts cancel out: change a weight.").to(edit.dtype)


def _checked_part(name: str, part: Tensor, edit: Tensor, weight: float, norm: float | None) -> Tensor:
    """One weighted part of the mix, checked, as float on edit's device, every row of length ``norm``; None: its own."""
    if not math.isfinite(weight):
        raise ValueError(f"{name}_weight must be a finite number, got {weight}.")
    if part.shape[-1] != edit.shape[-1]:
        raise ValueError(
            f"The {name} embedding has {part.shape[-1]} numbers and the edit embedding {edit.shape[-1]}. "
            "They come from different checkpoints: load ImageBind, LLM and prior of one family."
        )
    part, what = part.to(edit.device).float(), f"{name} embedding"
    remedy = f"Set {name}_weight to 0 or connect another one."
    if norm is not None:
        return to_length(part, norm, what, remedy)
    norm_of(part, what, remedy)
    return part


def _sample_norm(x: Tensor, what: str, remedy: str) -> Tensor:
    """(B, ...) -> (B, 1, ...): the L2 norm of every sample on its own, in float32."""
    return norm_of(x.float().flatten(1), what, remedy).view(-1, *[1] * (x.ndim - 1))
