"""All stages in order: references and an instruction in, an edited picture out. For work outside ComfyUI.

In ComfyUI the graph is this file; here the same stages run in a batch, for evaluation, benchmarks and scripts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..models.autoencoder import SDXL_SCALE, Autoencoder
from ..models.diffusion import EmbeddingDiffusion
from ..models.imagebind import ImageBind
from ..models.mm_llm import MultimodalLLM
from ..models.prior import RefinementPrior
from .denoiser import GuidedDenoiser
from .instruct import instruct
from .invert import DEFAULT_ITERATIONS, DEFAULT_TOLERANCE, ddim_invert
from .mix import BASE_WEIGHT, EDIT_WEIGHT, MIX_MODES, MIX_NORM, REFINED_WEIGHT, MixMode, mix_embeddings, mix_noise
from .refine import refine
from .retrieve import Retrieval, retrieve_base
from .sample import sample_euler, schedule, ve_scale
from .types import EditPlan, References

LATENT_STEP = 8  # pixels a latent place; sides are cropped to a multiple
NEGATIVES = ("null", "source")
INVERSIONS = ("source", "null")
MINIATURE_GUIDANCE = 3.0  # of the prior; the published 10 overshoots at the miniature's size


@dataclass(frozen=True)
class Networks:
    """What an edit needs. `prior` None leaves the refinement out."""

    imagebind: ImageBind
    llm: MultimodalLLM
    diffusion: EmbeddingDiffusion
    vae: Autoencoder
    prior: RefinementPrior | None = None


@dataclass(frozen=True)
class EditOptions:
    """The knobs, named as on the nodes.

    `alpha` 0..1: share of the source picture's noise (1 keeps the layout). `edit_weight`, `refined_weight`,
    `base_weight`, `norm`: the embedding mix. `negative`: what the guidance leads away from, "null" (the zeros of the
    unconditional model) or "source" (the source picture's embedding). `inversion`: the embedding the inversion runs
    with. `score` 1..10 and `prior_guidance`: the refinement prior. `temperature` 0: the LLM takes the likeliest token.
    """

    alpha: float = 1.0
    mode: MixMode = "paper"
    edit_weight: float = EDIT_WEIGHT
    refined_weight: float = REFINED_WEIGHT
    base_weight: float = BASE_WEIGHT
    norm: float = MIX_NORM
    steps: int = 25
    cfg: float = 3.0
    scheduler: str = "normal"
    inversion: Literal["source", "null"] = "source"
    iterations: int = DEFAULT_ITERATIONS
    tolerance: float = DEFAULT_TOLERANCE
    negative: Literal["null", "source"] = "null"
    score: float = 6.5
    prior_guidance: float = MINIATURE_GUIDANCE
    temperature: float = 0.0

    def __post_init__(self):
        for name, value, choices in (
            ("mode", self.mode, MIX_MODES),
            ("negative", self.negative, NEGATIVES),
            ("inversion", self.inversion, INVERSIONS),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of: {', '.join(choices)}.")
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha lies between 0 and 1, got {self.alpha}.")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be at least 1.")


DEFAULTS = EditOptions()


@dataclass(frozen=True)
class PlannedEdit:
    """What is known before a pixel is painted: `embedding` (D,) is the mixed H for the sampler."""

    plan: EditPlan
    retrieval: Retrieval
    embedding: Tensor


@dataclass(frozen=True)
class EditResult:
    """`image` (H, W, 3) in [0, 1]; `base_index` into the references, None where the picture was painted from noise."""

    image: Tensor
    plan: EditPlan
    base_index: int | None
    embedding: Tensor


def edit_picture(
    networks: Networks,
    references: References,
    instruction: str,
    options: EditOptions = DEFAULTS,
    generator: torch.Generator | None = None,
    size: tuple[int, int] = (128, 128),
) -> EditResult:
    """One edit from start to end. `size` (height, width) in pixels is used where there is no base picture."""
    planned = plan_edit(networks, references, instruction, options, generator)
    index = planned.retrieval.index
    base = references[index] if index is not None else None
    if base is None or base.image is None:
        pictures = paint(networks, planned.embedding[None], options, size=size, generator=generator)
        return EditResult(pictures[0], planned.plan, None, planned.embedding)
    base_embedding = base.embedding[None]
    inverted = invert_pictures(networks, base.image[None], base_embedding, options)
    pictures = paint(networks, planned.embedding[None], options, inverted, base_embedding, generator=generator)
    return EditResult(pictures[0], planned.plan, index, planned.embedding)


def plan_edit(
    networks: Networks,
    references: References,
    instruction: str,
    options: EditOptions,
    generator: torch.Generator | None = None,
) -> PlannedEdit:
    """The LLM, the base retrieval, the prior and the embedding mix."""
    plan = instruct(networks.llm, references, instruction, generator, options.temperature)
    retrieval = retrieve_base(references, plan.base, plan.mentioned)
    base = references[retrieval.index].embedding if retrieval.index is not None else None
    return PlannedEdit(plan, retrieval, mix_plan(networks.prior, plan, options, base))


def mix_plan(prior: RefinementPrior | None, plan: EditPlan, options: EditOptions, base: Tensor | None = None) -> Tensor:
    """H (D,) of a plan, refined and mixed as the options say. `base` (D,): the embedding of the retrieved reference."""
    refined = None
    if prior is not None and options.refined_weight != 0:
        refined = refine(prior, plan.edit, score=options.score, guidance=options.prior_guidance)
    edit_weight = options.edit_weight if refined is not None else max(options.edit_weight, 1.0)
    return mix_embeddings(
        plan.edit, refined, base, edit_weight, options.refined_weight, options.base_weight, options.norm
    )


def at_norm(embedding: Tensor, norm: float) -> Tensor:
    """(B, D) -> the same directions, every row of length `norm`."""
    return embedding.float() * (norm / embedding.float().norm(dim=-1, keepdim=True))


@torch.no_grad()
def encode_pictures(vae: Autoencoder, pictures: Tensor) -> Tensor:
    """(B, H, W, 3) in [0, 1] -> latents (B, 4, H/8, W/8) of unit variance; sides are cropped to multiples of 8."""
    height, width = (side - side % LATENT_STEP for side in pictures.shape[1:3])
    top, left = (pictures.shape[1] - height) // 2, (pictures.shape[2] - width) // 2
    x = pictures[:, top : top + height, left : left + width].movedim(-1, 1)
    weight = next(vae.parameters())
    return vae.encode(x.to(weight.device, weight.dtype) * 2 - 1)[0] * SDXL_SCALE


@torch.no_grad()
def decode_pictures(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Unit-variance latents (B, 4, h, w) -> (B, 8h, 8w, 3) in [0, 1]."""
    return ((vae.decode(latents / SDXL_SCALE) + 1) / 2).clamp(0, 1).movedim(1, -1)


def invert_pictures(networks: Networks, bases: Tensor, base_embeddings: Tensor, options: EditOptions) -> Tensor:
    """Pictures (B, H, W, 3) and their embeddings (B, D) -> inverted latents (B, 4, h, w), unit-variance VP scale.

    No guidance, as in the released code: the inversion has to explain the picture, not to stress it.
    """
    latents = encode_pictures(networks.vae, bases)
    own = at_norm(base_embeddings, options.norm).to(latents)
    denoiser = GuidedDenoiser(networks.diffusion, own if options.inversion == "source" else torch.zeros_like(own))
    rising = schedule(options.scheduler, options.steps).flip(0).to(latents)
    x = ddim_invert(denoiser, latents, rising, iterations=options.iterations, tolerance=options.tolerance)
    return x / ve_scale(rising[-1])


def paint(
    networks: Networks,
    edits: Tensor,
    options: EditOptions,
    inverted: Tensor | None = None,
    base_embeddings: Tensor | None = None,
    size: tuple[int, int] = (128, 128),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mixed embeddings (B, D) -> pictures (B, H, W, 3) in [0, 1], from inverted latents or, without them, from
    noise."""
    like = next(networks.vae.parameters())
    shape = (
        inverted.shape
        if inverted is not None
        else (len(edits), networks.vae.dims.latent, *(side // LATENT_STEP for side in size))
    )
    start = torch.randn(shape, generator=generator).to(like)
    if inverted is not None:
        start = mix_noise(inverted, start, options.alpha, options.mode)
    negative = None
    if options.negative == "source" and base_embeddings is not None:
        negative = at_norm(base_embeddings, options.norm).to(like)
    denoiser = GuidedDenoiser(networks.diffusion, edits.to(like), negative, options.cfg)
    sigmas = schedule(options.scheduler, options.steps).to(like)
    return decode_pictures(networks.vae, sample_euler(denoiser, start * ve_scale(sigmas[0]), sigmas))
