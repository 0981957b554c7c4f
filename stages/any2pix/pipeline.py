"""The whole edit in a batch: references and instructions in, edited pictures out, without ComfyUI.

In ComfyUI the graph is this file: its nodes call the same step functions. Evaluation and benchmarks run the pipeline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...models.autoencoder import Autoencoder
from ...models.backbone import Backbone
from ...models.diffusion import Conditioning, EmbeddingDiffusion
from ...models.imagebind import ImageBind
from ...models.mm_llm import EMBED_NORM, MultimodalLLM
from ...models.prior import RefinementPrior
from ...models.two_view_diffusion import TwoViewDiffusion
from ..belm import belm_invert, sample_belm
from ..denoiser import GuidedDenoiser, MaskedDenoiser
from ..edit_mask import MaskOptions, find_mask, pair_of, within
from ..invert import ddim_invert
from ..latents import (
    clean_outside,
    decode_pictures,
    draw_noise,
    encode_pictures,
    latent_masks,
    noise_in,
    noise_scale,
    with_noise,
)
from ..length import to_length
from ..preprocess import tokens_of
from ..sample import Denoiser, sample_euler, schedule
from ..sources import Source, encode_sources
from ..steps import Hook, chunks_alike, run_step
from ..types import EditPlan, Reference, References
from .instruct import InstructJob, instruct_batch
from .mix import mix_embeddings, mix_noise
from .options import BELM, DEFAULTS, EditOptions
from .refine import refine
from .retrieve import Retrieval, retrieve_base

STEPS = (
    "encode references",
    "instruct",
    "retrieve",
    "refine",
    "mix",
    "encode picture",
    "invert",
    "find mask",
    "mix noise",
    "paint",
    "decode",
)
UNMIXED_SEED = 0  # draws the noise that stands outside of a mask while the inversion runs, as DDIM Invert's does


@dataclass(frozen=True)
class Networks:
    """What an edit needs. `prior` None leaves the refinement out."""

    imagebind: ImageBind
    llm: MultimodalLLM
    diffusion: EmbeddingDiffusion | TwoViewDiffusion
    vae: Autoencoder
    prior: RefinementPrior | None = None

    def __post_init__(self) -> None:
        own, wanted = self.vae.latent, self.backbone.latent
        if own != wanted:
            raise ValueError(
                f"The VAE has {own.channels} channels, scale {own.scale} and {own.step} pixels a place; the "
                f"{self.backbone.name} has {wanted.channels}, {wanted.scale} and {wanted.step}. Load the VAE that the "
                "UNet was trained with."
            )

    @property
    def backbone(self) -> Backbone:
        """What the diffusion network is."""
        return self.diffusion.backbone


@dataclass(frozen=True)
class EditJob:
    """One edit. `sources`: what is connected, in order; `references`: the same encoded already, then it is not encoded.

    `seed` draws the LLM's tokens and the noise. `mask` (H, W) in [0, 1]: 1 where the edit may paint, None everywhere.
    `size`: (height, width) of a picture that is painted from noise.
    """

    instruction: str
    sources: tuple[Source, ...] = ()
    references: References | None = None
    seed: int = 0
    mask: Tensor | None = None
    size: tuple[int, int] = (128, 128)


@dataclass(frozen=True)
class PlannedEdit:
    """What is known before a pixel is painted. `index`: the base among the references, None to paint from noise."""

    job: EditJob
    references: References
    plan: EditPlan
    index: int | None

    @property
    def base(self) -> Reference | None:
        """The picture to edit. A sound or a text that the LLM means is none: the edit is painted from noise."""
        found = None if self.index is None else self.references[self.index]
        return found if found is not None and found.image is not None else None

    @property
    def base_embedding(self) -> Tensor | None:
        """(D,) of length EMBED_NORM, of whatever was retrieved."""
        if self.index is None:
            return None
        return to_length(self.references[self.index].embedding, EMBED_NORM, f"embedding of reference {self.index + 1}")


@dataclass(frozen=True)
class InvertedPicture:
    """`start` (4, h, w): the latent at the noise level where the sampler begins; `clean` (4, h, w): the picture's;
    `below` (4, h, w): of O-BELM alone, the latent one level below `start`."""

    start: Tensor
    clean: Tensor
    below: Tensor | None = None


@dataclass(frozen=True)
class EditResult:
    """`image` (H, W, 3) in [0, 1]; `base_index` into the references, None where the picture was painted from noise."""

    image: Tensor
    plan: EditPlan
    base_index: int | None
    embedding: Tensor = field(repr=False)


def edit_pictures(
    networks: Networks, jobs: Sequence[EditJob], options: EditOptions = DEFAULTS, hook: Hook = run_step
) -> list[EditResult | ValueError]:
    """Every step, for all jobs. A ValueError stands for a job whose instruction or answer could not be read.

    ``hook(name, step)`` runs each of STEPS, some of them several times.
    """
    planned = plan_edits(networks, jobs, options, hook)
    ready = [edit for edit in planned if isinstance(edit, PlannedEdit)]
    embeddings = mix_edits(networks, ready, options, hook)
    inverted = invert_edits(networks, ready, options, hook)
    masked = mask_edits(networks, ready, embeddings, inverted, options, hook)
    pictures = iter(paint_edits(networks, masked, embeddings, inverted, options, hook))
    mixed = iter(embeddings)
    return [
        edit
        if isinstance(edit, ValueError)
        else EditResult(next(pictures), edit.plan, edit.index if edit.base is not None else None, next(mixed))
        for edit in planned
    ]


def plan_edits(
    networks: Networks,
    jobs: Sequence[EditJob],
    options: EditOptions = DEFAULTS,
    hook: Hook = run_step,
    on_token: Callable[[], None] | None = None,
) -> list[PlannedEdit | ValueError]:
    """References, the LLM's answers, the retrieved bases. ``on_token`` runs before each token; it may raise to stop."""
    references = hook("encode references", lambda: [_references(networks.imagebind, job) for job in jobs])
    asked = [
        InstructJob(shown, job.instruction, torch.Generator().manual_seed(job.seed))
        for job, shown in zip(jobs, references, strict=True)
    ]
    callback = None if on_token is None else lambda *_: on_token()
    plans = hook("instruct", lambda: instruct_batch(networks.llm, asked, options.temperature, callback=callback))
    found = hook("retrieve", lambda: [_retrieve(*pair) for pair in zip(references, plans, strict=True)])
    return [
        plan if isinstance(plan, ValueError) else PlannedEdit(job, shown, plan, retrieval.index)
        for job, shown, plan, retrieval in zip(jobs, references, plans, found, strict=True)
    ]


def mix_edits(
    networks: Networks, edits: Sequence[PlannedEdit], options: EditOptions = DEFAULTS, hook: Hook = run_step
) -> list[Tensor]:
    """H (D,) of each edit: what was predicted, refined by the prior, and the base, mixed. As the nodes mix it: where
    there is no prior the weights of the others stay."""
    refined = hook("refine", lambda: [_refined(networks.prior, edit.plan, options) for edit in edits])
    weights = (options.edit_weight, options.refined_weight, options.base_weight, options.norm, options.formula)
    return hook(
        "mix",
        lambda: [
            mix_embeddings(edit.plan.edit, clean, edit.base_embedding, *weights)
            for edit, clean in zip(edits, refined, strict=True)
        ],
    )


def invert_edits(
    networks: Networks, edits: Sequence[PlannedEdit], options: EditOptions = DEFAULTS, hook: Hook = run_step
) -> list[InvertedPicture | None]:
    """The base pictures, inverted; None where there is none. Edits of one picture and mask share its inversion."""
    keys = [_picture_key(edit) for edit in edits]
    first = {key: place for place, key in reversed(list(enumerate(keys))) if key is not None}
    found: dict[Hashable, InvertedPicture] = {}
    for chunk in chunks_alike(
        sorted(first.values()), lambda place: (_picture_size(edits[place]), _mask_size(edits[place]))
    ):
        inverted = _invert(networks, [edits[place] for place in chunk], options, hook)
        found |= zip((keys[place] for place in chunk), inverted, strict=True)
    return [None if key is None else found[key] for key in keys]


def mask_edits(
    networks: Networks,
    edits: Sequence[PlannedEdit],
    embeddings: Sequence[Tensor],
    inverted: Sequence[InvertedPicture | None],
    options: EditOptions = DEFAULTS,
    hook: Hook = run_step,
) -> list[PlannedEdit]:
    """The edits of pictures with the masks that are found for them; as they are where `find_mask` is off. They are
    painted under these masks, but were inverted without."""

    def masked() -> list[PlannedEdit]:
        found = list(edits)
        pictures = [place for place, edit in enumerate(edits) if options.find_mask and edit.base is not None]
        for chunk in chunks_alike(pictures, lambda place: _picture_size(edits[place])):
            rows = [(edits[place], embeddings[place], inverted[place]) for place in chunk]
            for place, mask in zip(chunk, _masks(networks, rows, options), strict=True):
                job = edits[place].job
                found[place] = replace(edits[place], job=replace(job, mask=within(mask, job.mask)))
        return found

    return hook("find mask", masked)


def paint_edits(
    networks: Networks,
    edits: Sequence[PlannedEdit],
    embeddings: Sequence[Tensor],
    inverted: Sequence[InvertedPicture | None],
    options: EditOptions = DEFAULTS,
    hook: Hook = run_step,
) -> list[Tensor]:
    """Pictures (H, W, 3) in [0, 1], on the CPU, of edits with their mixed embeddings (D,) and inverted pictures."""

    def alike(place: int) -> Hashable:
        return _shape(networks, edits[place]), inverted[place] is None, _mask_size(edits[place])

    pictures: dict[int, Tensor] = {}
    for chunk in chunks_alike(range(len(edits)), alike):
        rows = [(edits[place], embeddings[place], inverted[place]) for place in chunk]
        pictures |= zip(chunk, _paint(networks, rows, options, hook), strict=True)
    return [pictures[place] for place in range(len(edits))]


def _references(imagebind: ImageBind, job: EditJob) -> References:
    return encode_sources(imagebind, job.sources) if job.references is None else job.references


def _retrieve(references: References, plan: EditPlan | ValueError) -> Retrieval:
    if isinstance(plan, ValueError):
        return Retrieval(None, torch.zeros(len(references)))
    return retrieve_base(references, plan.base, plan.mentioned)


def _refined(prior: RefinementPrior | None, plan: EditPlan, options: EditOptions) -> Tensor | None:
    if prior is None or (options.refined_weight == 0 and options.formula != "paper"):
        return None
    refined = refine(prior, plan.edit, options.prior_source, score=options.score, guidance=options.prior_guidance)
    return to_length(refined, EMBED_NORM, "embedding that the prior found")


def _invert(
    networks: Networks, edits: Sequence[PlannedEdit], options: EditOptions, hook: Hook
) -> list[InvertedPicture]:
    """Pictures of one size, all with a mask or none."""
    bases = torch.stack([edit.base.image for edit in edits])
    clean = hook("encode picture", lambda: encode_pictures(networks.vae, bases))
    rising = _levels(options, networks.backbone).flip(0).to(clean)
    model = GuidedDenoiser(
        networks.diffusion, _inverted_with(networks, edits, options, clean), guidance=options.inversion_cfg
    )
    mask, noise = _latent_masks(edits, clean), draw_noise(clean.shape[1:], UNMIXED_SEED).to(clean)
    if mask is not None:  # where anything may be painted the inversion has to find the noise
        mask = (mask > 0).to(clean)
        model = MaskedDenoiser(model, mask, clean, noise.expand_as(clean))
    states = hook("invert", lambda: _raise(model, clean, rising, options))
    if mask is not None:
        scales = [noise_scale(sigma, networks.backbone.sigma_max) for sigma in rising.flip(0)[: len(states)]]
        states = [clean_outside(x, mask, clean, noise, scale) for x, scale in zip(states, scales, strict=True)]
    below = states[1] if len(states) > 1 else [None] * len(clean)
    return [InvertedPicture(*rows) for rows in zip(states[0], clean, below, strict=True)]


def _raise(model: Denoiser, clean: Tensor, rising: Tensor, options: EditOptions) -> list[Tensor]:
    """The latents at the highest level and, of O-BELM, at the one below."""
    if options.inversion_method == BELM:
        return [x.to(clean) for x in belm_invert(model, clean, rising)]
    return [ddim_invert(model, clean, rising, None, None, options.iterations, options.tolerance)]


def _masks(
    networks: Networks, rows: Sequence[tuple[PlannedEdit, Tensor, InvertedPicture]], options: EditOptions
) -> Tensor:
    """(B, H, W) on the CPU, of pictures of one size."""
    edits = [edit for edit, *_ in rows]
    clean = torch.stack([picture.clean for *_, picture in rows])
    sources = torch.stack([to_length(edit.base.embedding, options.norm) for edit in edits]).to(clean)
    wanted = torch.stack([embedding for _, embedding, _ in rows]).to(clean)
    pair = pair_of(
        *(GuidedDenoiser(networks.diffusion, _positive(networks, edits, side, options)) for side in (sources, wanted))
    )
    mask_options = MaskOptions(options.mask_strength, options.mask_softness)
    return find_mask(pair, clean, networks.backbone, mask_options).float().cpu()


def _paint(
    networks: Networks,
    rows: Sequence[tuple[PlannedEdit, Tensor, InvertedPicture | None]],
    options: EditOptions,
    hook: Hook,
) -> list[Tensor]:
    """Edits that are alike in size, in having a picture and in having a mask."""
    edits = [edit for edit, _, _ in rows]
    like = next(networks.vae.parameters())
    shape = (1, *_shape(networks, edits[0]))
    fresh = torch.cat([draw_noise(shape, edit.job.seed) for edit in edits]).to(like)
    whole = options if rows[0][2] is not None else replace(options, start_at_step=0)
    sigmas = _levels(whole, networks.backbone).to(like)
    scale = noise_scale(sigmas[0], networks.backbone.sigma_max)
    start, clean, below = fresh * scale, None, None
    if rows[0][2] is not None:
        inverted = torch.stack([picture.start for *_, picture in rows]).to(like)
        clean = torch.stack([picture.clean for *_, picture in rows]).to(like)
        if rows[0][2].below is not None:
            below = torch.stack([picture.below for *_, picture in rows]).to(like)
        start, below = hook(
            "mix noise",
            lambda: (
                _mixed(inverted, clean, fresh, sigmas[0], options),
                None if below is None else _mixed(below, clean, fresh, sigmas[1], options),
            ),
        )
    embeddings = torch.stack([embedding for _, embedding, _ in rows]).to(like)
    sides = _sides(networks, edits, embeddings, options)
    model = GuidedDenoiser(networks.diffusion, *sides, options.cfg)
    mask = _latent_masks(edits, start)
    if mask is not None and clean is not None:
        noise = (start - clean) / noise_scale(sigmas[0], networks.backbone.sigma_max)
        model = MaskedDenoiser(model, mask, clean, noise)
        if below is not None:  # outside, the network is shown the clean picture under the noise
            below = clean_outside(below, mask, clean, noise, sigmas[1])
    if below is None:
        latents = hook("paint", lambda: sample_euler(model, start, sigmas))
    else:
        latents = hook("paint", lambda: sample_belm(model, start, sigmas, below=below))
    return list(hook("decode", lambda: decode_pictures(networks.vae, latents)).float().cpu())


def _mixed(start: Tensor, clean: Tensor, fresh: Tensor, sigma: Tensor, options: EditOptions) -> Tensor:
    noise = mix_noise(noise_in(start, clean, sigma, options.whole), fresh, options.alpha, options.mode)
    return with_noise(noise, clean, sigma, options.whole)


def _inverted_with(
    networks: Networks, edits: Sequence[PlannedEdit], options: EditOptions, like: Tensor
) -> Tensor | Conditioning:
    """What explains the pictures to edit: their embeddings or zeros; for a two-view adapter the empty prompt alone."""
    if isinstance(networks.diffusion, TwoViewDiffusion):
        return _read(networks.diffusion, [""] * len(edits), scale=0.0)
    own = torch.stack([to_length(edit.base.embedding, options.norm) for edit in edits]).to(like)
    return own if options.inversion == "source" else torch.zeros_like(own)


def _sides(
    networks: Networks, edits: Sequence[PlannedEdit], embeddings: Tensor, options: EditOptions
) -> tuple[Tensor | Conditioning, Tensor | Conditioning | None]:
    """What the guidance leads to, and away from."""
    positive, negatives = _positive(networks, edits, embeddings, options), _negatives(edits, options, embeddings)
    if not isinstance(networks.diffusion, TwoViewDiffusion):
        return positive, negatives
    prompts = [options.negative_prompt] * len(edits)
    return positive, _read(networks.diffusion, prompts, whole=negatives, **_views(options))


def _positive(
    networks: Networks, edits: Sequence[PlannedEdit], embeddings: Tensor, options: EditOptions
) -> Tensor | Conditioning:
    """What paints the embeddings (B, D): themselves; with a two-view adapter, beside the captions."""
    if not isinstance(networks.diffusion, TwoViewDiffusion):
        return embeddings
    prompts = [options.prompt + edit.plan.caption for edit in edits]
    return _read(networks.diffusion, prompts, whole=embeddings, **_views(options))


def _views(options: EditOptions) -> dict[str, Any]:
    return {"scale": options.adapter_scale, "view": options.view, "local_strength": options.local_strength}


@torch.no_grad()
def _read(diffusion: TwoViewDiffusion, texts: Sequence[str], **views: Any) -> Conditioning:
    return diffusion.condition(tokens_of(diffusion, texts), **views)


def _negatives(edits: Sequence[PlannedEdit], options: EditOptions, like: Tensor) -> Tensor | None:
    if options.negative == "null" or any(edit.base is None for edit in edits):
        return None
    return torch.stack([to_length(edit.base.embedding, options.norm) for edit in edits]).to(like)


def _levels(options: EditOptions, backbone: Backbone) -> Tensor:
    """The sampler's noise levels for an inverted picture, falling to 0."""
    levels = schedule(options.scheduler, options.steps, backbone)
    if not 0 <= options.start_at_step < len(levels) - 1:
        raise ValueError(
            f"start_at_step is {options.start_at_step}; it must be 0 to {len(levels) - 2} at steps {options.steps}."
        )
    return levels[options.start_at_step :]


def _shape(networks: Networks, edit: PlannedEdit) -> tuple[int, int, int]:
    """(c, h, w) of its latent."""
    return networks.vae.latent.shape(*(edit.job.size if edit.base is None else edit.base.image.shape[:2]))


def _picture_size(edit: PlannedEdit) -> tuple[int, ...]:
    return tuple(edit.base.image.shape)


def _mask_size(edit: PlannedEdit) -> tuple[int, ...] | None:
    return None if edit.job.mask is None else tuple(edit.job.mask.shape)


def _latent_masks(edits: Sequence[PlannedEdit], latents: Tensor) -> Tensor | None:
    """(B, 1, h, w); None where the edits have none."""
    if edits[0].job.mask is None:
        return None
    return latent_masks(torch.stack([edit.job.mask for edit in edits]), latents)


def _picture_key(edit: PlannedEdit) -> Hashable | None:
    """Alike for edits whose inversion is the same; None where there is no picture to invert."""
    if edit.base is None:
        return None
    parts = [edit.base.image, edit.base.embedding, *([] if edit.job.mask is None else [edit.job.mask])]
    digest = hashlib.blake2b()
    for part in parts:
        digest.update(part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.digest(), tuple(edit.base.image.shape), len(parts)
