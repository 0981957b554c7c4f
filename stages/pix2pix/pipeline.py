"""Edits by words alone in a batch, without ComfyUI: InstructPix2Pix (arXiv 2211.09800), and SDEdit (arXiv 2108.01073),
which has no instruction: it adds noise to the picture and paints the caption of the result from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.autoencoder import Autoencoder
from ...models.backbone import Backbone
from ...models.text_diffusion import TextDiffusion
from ..denoiser import EditDenoiser, GuidedDenoiser, MaskedDenoiser
from ..edit_mask import DEFAULT_SOFTNESS, DEFAULT_STRENGTH, MaskOptions, find_mask, pair_of, within
from ..latents import decode_pictures, encode_pictures, latent_masks, noise_scale
from ..preprocess import tokens_of
from ..sample import check_schedule, sample_euler, schedule
from ..steps import Hook, run_step

STEPS = ("encode picture", "find mask", "paint", "decode")


@dataclass(frozen=True)
class TextEditOptions:
    """The knobs of InstructPix2Pix, named as on its node; the defaults are the miniature's, the best on validation
    edits. `scheduler`: one of stages.sample.SCHEDULES. `find_mask`: paint only where the instruction changes the
    prediction (stages.edit_mask), with `mask_strength` 0..1 and `mask_softness` in pixels. Given masks limit it
    further."""

    text_guidance: float = 3.0
    image_guidance: float = 2.0
    steps: int = 25
    scheduler: str = "normal"
    find_mask: bool = False
    mask_strength: float = DEFAULT_STRENGTH
    mask_softness: float = DEFAULT_SOFTNESS

    def __post_init__(self):
        check_schedule(self.scheduler, self.steps)
        MaskOptions(self.mask_strength, self.mask_softness)


@dataclass(frozen=True)
class SDEditOptions:
    """`strength` in (0, 1]: the share of the steps that is painted again; 1 leaves nothing of the picture. `cfg`:
    guidance from the empty prompt to the caption."""

    strength: float = 0.6
    cfg: float = 4.0  # of the miniature; on validation edits 2 and 7 do no better
    steps: int = 25
    scheduler: str = "normal"

    def __post_init__(self):
        if not 0.0 < self.strength <= 1.0:
            raise ValueError(f"strength is {self.strength}; it must be above 0 and at most 1.")
        check_schedule(self.scheduler, self.steps)

    def sigmas(self, backbone: Backbone) -> Tensor:
        """The noise levels that are left to paint, falling to 0."""
        painted = max(1, round(self.strength * self.steps))
        return schedule(self.scheduler, self.steps, backbone)[-painted - 1 :]


def edit_by_text(
    pix2pix: TextDiffusion,
    vae: Autoencoder,
    pictures: Tensor,
    instructions: Sequence[str],
    noise: Tensor,
    options: TextEditOptions | None = None,
    masks: Tensor | None = None,
    hook: Hook = run_step,
) -> Tensor:
    """Pictures (B, H, W, 3) in [0, 1] and an instruction for each -> edited pictures, sides cropped to multiples of the
    VAE's step.

    `noise` (B, c, h, w) of unit variance. `masks` (B, H, W) in [0, 1]: 1 where the edit may paint. ``hook`` runs
    each of STEPS.
    """
    _check_count(pictures, instructions)
    options, backbone = options or TextEditOptions(), pix2pix.backbone
    latents = hook("encode picture", lambda: encode_pictures(vae, pictures))
    tokens, empty = tokens_of(pix2pix, instructions), tokens_of(pix2pix, [""])
    source = latents / vae.latent.scale
    model = EditDenoiser(pix2pix, tokens, empty, source, options.text_guidance, options.image_guidance)

    def masked() -> Tensor | None:
        if not options.find_mask:
            return masks
        texts = (empty.expand_as(tokens), tokens)
        pair = pair_of(*(GuidedDenoiser(pix2pix, text, source=source) for text in texts))
        found = find_mask(pair, latents, backbone, MaskOptions(options.mask_strength, options.mask_softness))
        return found if masks is None else torch.stack([within(*rows) for rows in zip(found, masks, strict=True)])

    masks = hook("find mask", masked)
    sigmas, noise = schedule(options.scheduler, options.steps, backbone).to(latents), noise.to(latents)
    start = noise_scale(sigmas[0], backbone.sigma_max) * noise
    if masks is not None:
        mask = latent_masks(masks, latents)
        shown = latents * (mask < 1)  # as InstructPix2Pix Guidance hands the picture to the sampler
        model, start = MaskedDenoiser(model, mask, shown, noise), start + shown
    painted = hook("paint", lambda: sample_euler(model, start, sigmas))
    return hook("decode", lambda: decode_pictures(vae, painted))


def sdedit(
    diffusion: TextDiffusion,
    vae: Autoencoder,
    pictures: Tensor,
    captions: Sequence[str],
    noise: Tensor,
    options: SDEditOptions | None = None,
    hook: Hook = run_step,
) -> Tensor:
    """Pictures (B, H, W, 3) in [0, 1] and the caption of each result -> pictures of the same size (Meng et al., alg.
    1). ``hook`` runs each of STEPS."""
    _check_count(pictures, captions)
    options, backbone = options or SDEditOptions(), diffusion.backbone
    latents = hook("encode picture", lambda: encode_pictures(vae, pictures))
    empty = tokens_of(diffusion, [""])
    model = GuidedDenoiser(diffusion, tokens_of(diffusion, captions), empty, options.cfg)
    sigmas = options.sigmas(backbone).to(latents)
    start = latents + sigmas[0] * noise.to(latents)
    painted = hook("paint", lambda: sample_euler(model, start, sigmas))
    return hook("decode", lambda: decode_pictures(vae, painted))


def _check_count(pictures: Tensor, texts: Sequence[str]) -> None:
    if len(pictures) != len(texts):
        raise ValueError(
            f"{len(pictures)} pictures were given with {len(texts)} texts. Give one text for each picture."
        )
