"""Diffusers UNets seen as k-diffusion's denoiser, with the guidance of each; for work outside ComfyUI."""

import torch
from torch import Tensor

from ..models.backbone import ve_scale
from ..models.diffusion import Conditioning, EmbeddingDiffusion
from ..models.text_diffusion import TextDiffusion
from ..models.two_view_diffusion import TwoViewDiffusion
from .pix2pix.guide import IMAGE_GUIDANCE, TEXT_GUIDANCE, guide_edit
from .sample import Denoiser


class GuidedDenoiser:
    """`denoiser(x, sigma)`: x (B, c, h, w) = z + sigma * e -> the denoised z, guided from `negative` to `positive`.

    `positive` (B, D): what to paint, embeddings H or, of a text-conditioned UNet, tokens. `negative` (B, D) or (1, D):
    what to lead away from; by default zeros, the embedding of the unconditional model (a text's is the empty prompt).
    Both may be a Conditioning of the network instead. `guidance` 1 runs the positive pass alone (Ho and Salimans, arXiv
    2207.12598). Both are read once, not at every step. `source` (B, c, h, w): the picture beside the noise, of an
    InstructPix2Pix alone, as the VAE encodes it, without its scale.
    """

    def __init__(
        self,
        diffusion: EmbeddingDiffusion | TextDiffusion | TwoViewDiffusion,
        positive: Tensor | Conditioning,
        negative: Tensor | Conditioning | None = None,
        guidance: float = 1.0,
        source: Tensor | None = None,
    ):
        self.diffusion = diffusion
        self.beside = () if source is None else (source if guidance == 1.0 else torch.cat([source, source]),)
        self.guidance = guidance
        self.calls = 0
        if isinstance(positive, Conditioning):
            self.conditioning = positive if guidance == 1.0 else positive.joined(negative)
            return
        if guidance != 1.0:
            negative = torch.zeros_like(positive) if negative is None else negative.expand_as(positive)
            positive = torch.cat([positive, negative])
        with torch.no_grad():
            self.conditioning = diffusion.condition(positive)

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls += 1
        level = sigma.view(-1, 1, 1, 1)
        z = x / ve_scale(level)
        backbone = self.diffusion.backbone
        timesteps = backbone.nearest_timestep(sigma)
        if self.guidance == 1.0:
            return backbone.denoised(x, level, self.diffusion.predict(z, timesteps, self.conditioning, *self.beside))
        found = self.diffusion.predict(torch.cat([z, z]), timesteps.repeat(2), self.conditioning, *self.beside)
        conditional, unconditional = found.chunk(2)
        return backbone.denoised(x, level, unconditional + self.guidance * (conditional - unconditional))


class EditDenoiser:
    """The same for InstructPix2Pix: three predictions, with picture and instruction, the picture alone, and neither.

    `tokens` (B, ...) of the instructions, `empty` (1, ...) of the empty prompt; `source` (B, c, h, w), the pictures to
    edit as the VAE encodes them, without its scale. The two guidances are those of `stages.pix2pix.guide`.
    """

    def __init__(
        self,
        diffusion: TextDiffusion,
        tokens: Tensor,
        empty: Tensor,
        source: Tensor,
        text_guidance: float = TEXT_GUIDANCE,
        image_guidance: float = IMAGE_GUIDANCE,
    ):
        self.diffusion = diffusion
        without = empty.expand_as(tokens)
        with torch.no_grad():
            self.conditioning = diffusion.condition(torch.cat([tokens, without, without]))
        self.source = torch.cat([source, source, torch.zeros_like(source)])
        self.text_guidance, self.image_guidance = text_guidance, image_guidance

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.view(-1, 1, 1, 1)
        z = x / ve_scale(level)
        backbone = self.diffusion.backbone
        timesteps = backbone.nearest_timestep(sigma)
        found = self.diffusion.predict(z.repeat(3, 1, 1, 1), timesteps.repeat(3), self.conditioning, self.source)
        text, image, plain = found.chunk(3)
        guided = guide_edit(plain, image, text, self.text_guidance, self.image_guidance)
        return backbone.denoised(x, level, guided)


class MaskedDenoiser:
    """`denoiser(x, sigma)` that paints under a mask only, as ComfyUI's inpainting does.

    `mask` (B, 1, h, w) in [0, 1]: 1 where `inner` paints. Outside, `inner` is shown the `clean` latents (B, c, h, w)
    under `noise` of the level, and the clean latents are the answer.
    """

    def __init__(self, inner: Denoiser, mask: Tensor, clean: Tensor, noise: Tensor):
        self.inner, self.mask, self.clean, self.noise = inner, mask, clean, noise

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        known = self.clean + sigma.view(-1, 1, 1, 1) * self.noise
        denoised = self.inner(x * self.mask + known * (1 - self.mask), sigma)
        return denoised * self.mask + self.clean * (1 - self.mask)
