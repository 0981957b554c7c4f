"""The text-conditioned UNet, and InstructPix2Pix on top of it (Brooks et al., arXiv 2211.09800)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .backbone import SDXL, Backbone
from .diffusion import TIME_IDS, Conditioning, diffusion_loss, run_unet
from .text_encoder import JoinedTextEncoders, TextEncoder

if TYPE_CHECKING:  # the nodes use this file without diffusers
    from diffusers import UNet2DConditionModel


def widen_input(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same UNet with input channels for the latent of the picture to edit, whose weights are zero (sec. 3.2): at
    first it sees nothing in them.

    The parameters of all other layers are shared with ``unet``, not copied.
    """
    channels, extra = unet.config.in_channels, unet.config.out_channels
    with torch.device("meta"):
        wide = type(unet).from_config({**unet.config, "in_channels": channels + extra})
    state = unet.state_dict(keep_vars=True)
    weight = state["conv_in.weight"].detach()
    zeros = weight.new_zeros(weight.shape[0], extra, *weight.shape[2:])
    state["conv_in.weight"] = nn.Parameter(torch.cat([weight, zeros], dim=1))
    wide.load_state_dict(state, strict=True, assign=True)
    return wide.train(unet.training)


def fold_source_scale(state_dict: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights of a UNet that was trained with a source of unit variance, for the source as the VAE encodes it.

    ``scale``: the VAE's scaling factor. An optimiser steps equally far for every weight; a source seven times as large
    as the noisy latent would shake the first layer with every step.
    """
    weight = state_dict["conv_in.weight"].clone()
    weight[:, weight.shape[1] // 2 :] *= scale  # the noisy latent comes first, and is as wide
    return {**state_dict, "conv_in.weight": weight}


class TextDiffusion(nn.Module):
    """A UNet with its text encoder; with twice as many input channels as output channels, InstructPix2Pix.

    ``min_snr`` and ``snr_floor`` weigh a sample's loss by its signal-to-noise ratio, see ``diffusion_loss``;
    ``min_snr`` None: the papers' plain square error.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: TextEncoder | JoinedTextEncoders,
        min_snr: float | None = None,
        snr_floor: float = 0.0,
        backbone: Backbone = SDXL,
    ) -> None:
        super().__init__()
        if min_snr is not None and not 0 <= snr_floor <= min_snr > 0:
            raise ValueError(
                f"min_snr is {min_snr} and snr_floor {snr_floor}; the cap must be above 0 and the floor from 0 to the "
                f"cap."
            )
        self.unet = unet
        self.text_encoder = text_encoder
        self.min_snr, self.snr_floor = min_snr, snr_floor
        self.backbone = backbone
        self.register_buffer("alphas", backbone.alphas().float(), persistent=False)
        _require_fit(unet, text_encoder)

    @property
    def takes_source(self) -> bool:
        return self.unet.config.in_channels > self.unet.config.out_channels

    def condition(self, tokens: Tensor) -> Conditioning:
        """Tokens (B, L), of joined encoders (B, 2, L) -> what `predict` reads; the same at all noise levels."""
        return Conditioning(*self.text_encoder(tokens))

    def predict(
        self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, source: Tensor | None = None
    ) -> Tensor:
        """Latents (B, c, h, w) in variance-preserving scale, timesteps (B,), B rows of conditioning -> what the
        backbone predicts, (B, c, h, w).

        ``source`` (B, c, h, w): the latent of the picture to edit as the VAE encodes it, without the VAE's scale and
        without noise, as the published networks take it; None: no picture, zeros.
        """
        if source is not None and not self.takes_source:
            raise ValueError(
                f"This UNet has {self.unet.config.in_channels} input channels and cannot take a source picture. Widen "
                "it first (widen_input), or load an InstructPix2Pix UNet."
            )
        if self.takes_source:
            latents = torch.cat([latents, torch.zeros_like(latents) if source is None else source], dim=1)
        return run_unet(self.unet, latents, timesteps, conditioning, self.backbone.latent.step)

    def training_loss(
        self,
        latents: Tensor,
        tokens: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        source: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """||e - UNet(z_t, E(c_I), c_T)||^2 (eq. 1; e the backbone's target). Which samples go without picture or text
        is the caller's to say."""
        conditioning = self.condition(tokens)

        def predict(noisy: Tensor) -> Tensor:
            return self.predict(noisy, timesteps, conditioning, source)

        alpha = self.alphas[timesteps]
        return diffusion_loss(predict, self.backbone, alpha, latents, noise, weight, self.min_snr, self.snr_floor)


def _require_fit(unet: UNet2DConditionModel, text_encoder: TextEncoder | JoinedTextEncoders) -> None:
    config = unet.config
    pairs = [("texts", text_encoder.context, config.cross_attention_dim)]
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - TIME_IDS * config.addition_time_embed_dim
        pairs.append(("pooled texts", text_encoder.pooled, pooled))
    for what, width, wanted in pairs:
        if width != wanted:
            raise ValueError(
                f"The UNet reads {what} of {wanted} channels, the text encoder gives {width}. Take the one it was "
                "trained with; an SDXL UNet reads two at once, text_encoder and text_encoder_2 of its pipeline."
            )
    extra = unet.config.in_channels - unet.config.out_channels
    if extra not in (0, config.out_channels):
        raise ValueError(
            f"The UNet has {unet.config.in_channels} input and {unet.config.out_channels} output channels; "
            "InstructPix2Pix has twice as many input as output channels, a UNet for text as many."
        )
