"""The embedding-conditioned SDXL UNet of the paper (sec. 3.3): diffusers' network, our projector, the paper's loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapter import UnclipProjector
from .backbone import SDXL, Backbone, noisy

if TYPE_CHECKING:  # the nodes use this file without diffusers
    from diffusers import UNet2DConditionModel

TIME_IDS = 6  # SDXL's size conditioning: original height and width, crop top and left, target height and width
TIME_ID_WIDTH = 256
MIN_SNR_GAMMA = 5.0  # Hang et al., arXiv 2303.09556, sec. 3.4


@dataclass(frozen=True)
class DiffusionDims:
    """An SDXL-shaped UNet. `head_width` channels a head; transformer blocks a level, 0 for a level without
    attention."""

    widths: tuple[int, ...] = (320, 640, 1280)
    transformers: tuple[int, ...] = (0, 2, 10)
    resnets: int = 2
    head_width: int = 64
    context: int = 2048
    pooled: int = 1280
    latent: int = 4
    sample_size: int = 128

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "transformers", tuple(self.transformers))
        if len(self.widths) != len(self.transformers):
            raise ValueError(f"one transformer count a level: {self.widths} has other levels than {self.transformers}.")

    def unet_config(self) -> dict:
        """The keyword arguments (and config.json) of diffusers' UNet2DConditionModel."""
        attention = [count > 0 for count in self.transformers]
        return {
            "sample_size": self.sample_size,
            "in_channels": self.latent,
            "out_channels": self.latent,
            "block_out_channels": self.widths,
            "down_block_types": tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "up_block_types": tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]),
            "layers_per_block": self.resnets,
            "transformer_layers_per_block": tuple(max(1, count) for count in self.transformers),
            "attention_head_dim": tuple(width // self.head_width for width in self.widths),
            "cross_attention_dim": self.context,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": TIME_ID_WIDTH,
            "projection_class_embeddings_input_dim": self.pooled + TIME_IDS * TIME_ID_WIDTH,
        }


def default_time_ids(batch: int, height: int, width: int) -> Tensor:
    """SDXL's size conditioning for an uncropped picture of `height` x `width` pixels: (B, 6)."""
    return torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32).repeat(batch, 1)


@dataclass(frozen=True)
class Conditioning:
    """What a UNet reads besides the latent: context (B, L, C) and, for SDXL, pooled (B, P); with a two-view adapter
    image tokens (B, T, C) too, felt as strongly as ``image_scale`` says."""

    context: Tensor
    pooled: Tensor | None = None
    image: Tensor | None = None
    image_scale: float = 0.0

    def rows(self, indices: list[int]) -> Conditioning:
        """These rows, in this order."""
        parts = (None if part is None else part[indices] for part in (self.context, self.pooled, self.image))
        return Conditioning(*parts, self.image_scale)

    def joined(self, other: Conditioning) -> Conditioning:
        """The rows of both, which are of one kind and scale."""
        pairs = ((self.context, other.context), (self.pooled, other.pooled), (self.image, other.image))
        return Conditioning(*(None if a is None else torch.cat([a, b]) for a, b in pairs), self.image_scale)


def run_unet(
    unet: UNet2DConditionModel,
    latents: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    step: int = SDXL.latent.step,
) -> Tensor:
    """Latents (B, c, h, w), timesteps (B,) or one for all, a row of conditioning for each latent -> its prediction.

    SDXL reads the size of the picture too, ``step`` pixels for each place of the latent, as without a crop; Stable
    Diffusion 1 and 2 read the context alone.
    """
    added = None
    if unet.config.addition_embed_type == "text_time":
        height, width = (step * side for side in latents.shape[-2:])
        time_ids = default_time_ids(len(latents), height, width).to(latents.device)
        added = {"text_embeds": conditioning.pooled, "time_ids": time_ids}
    return unet(latents, timesteps, conditioning.context, added_cond_kwargs=added).sample


def diffusion_loss(
    predict: Callable[[Tensor], Tensor],
    backbone: Backbone,
    alpha: Tensor,
    latents: Tensor,
    noise: Tensor,
    weight: Tensor | None = None,
    min_snr: float | None = MIN_SNR_GAMMA,
    snr_floor: float = 0.0,
) -> dict[str, Tensor]:
    """Square error of what `predict` makes of the noisy latents; alpha (B,) is their cumulative signal power.

    `weight` (B, 1, h, w), where given, counts some places of the latent more than others (mean 1). Each sample is
    weighted so that its picture's error counts min(SNR, min_snr) times; all alike where `min_snr` is None. `snr_floor`
    below the cap: no sample's SNR counts as less, so that under the heaviest noise the error of the picture that
    follows from the prediction counts, and not that of the noise.
    """
    alpha = alpha.view(-1, 1, 1, 1)
    target = backbone.target(latents, noise, alpha)
    error = F.mse_loss(predict(noisy(latents, noise, alpha)).float(), target, reduction="none")
    plain = error.mean(dim=(1, 2, 3))
    if weight is not None:
        error = error * weight
    loss = error.mean(dim=(1, 2, 3))
    if min_snr is not None:
        snr = (alpha / (1 - alpha)).flatten()
        loss = loss * snr.clamp(snr_floor, min_snr) * backbone.picture_error(alpha).flatten()
    return {"loss": loss.mean(), "mse": plain.mean()}


class EmbeddingDiffusion(nn.Module):
    """UNet and unCLIP projector together, as they are trained."""

    def __init__(self, unet: UNet2DConditionModel, projector: UnclipProjector, backbone: Backbone = SDXL):
        super().__init__()
        self.unet = unet
        self.projector = projector
        self.backbone = backbone
        self.register_buffer("alphas", backbone.alphas().float(), persistent=False)

    def condition(self, embedding: Tensor) -> Conditioning:
        """H (B, D) -> what `predict` reads; the same at all noise levels."""
        return Conditioning(*self.projector(embedding))

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Latents (B, c, h, w) in variance-preserving scale, timesteps (B,), B rows of conditioning -> what the
        backbone predicts, (B, c, h, w)."""
        return run_unet(self.unet, latents, timesteps, conditioning, self.backbone.latent.step)

    def training_loss(
        self, latents: Tensor, embedding: Tensor, noise: Tensor, timesteps: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """||e - UNet(z_t, H)||^2 (paper eq. 3; e the backbone's target), each sample weighted by min(SNR, 5) / SNR.

        `weight` (B, 1, h, w), where given, counts some places of the latent more than others (mean 1). Rows of zeros in
        `embedding` train the unconditional model.
        """
        conditioning = self.condition(embedding)

        def predict(noisy: Tensor) -> Tensor:
            return self.predict(noisy, timesteps, conditioning)

        return diffusion_loss(predict, self.backbone, self.alphas[timesteps], latents, noise, weight)
