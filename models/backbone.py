"""What a diffusion model is to the code around it: its latents, its noise levels, and what it predicts.

Sampling, inversion, training and the pipelines ask a ``Backbone`` and assume nothing. Latents are in unit variance
here; samplers work in the variance-exploding space of k-diffusion, x = z + sigma * e (Karras et al., arXiv 2206.00364).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:  # the nodes use this file without diffusers
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class Latent:
    """What a VAE makes of a picture: `channels`; `scale`, times which it has unit variance; `step`, pixels of a side
    for one place."""

    channels: int
    scale: float
    step: int

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of a picture of this many pixels; what is left over at its sides is cropped."""
        return self.channels, height // self.step, width // self.step


@dataclass(frozen=True)
class Backbone:
    """A family of diffusion models. `latent`: what they paint.

    - `timesteps` training steps, whose betas run from `betas[0]` to `betas[1]` as `schedule` says.
    - `predicts`: "eps", the noise, or "v" (Salimans and Ho, arXiv 2202.00512, app. D).
    """

    name: str
    latent: Latent
    timesteps: int = 1000
    betas: tuple[float, float] = (0.00085, 0.012)
    schedule: Literal["scaled_linear", "linear"] = "scaled_linear"
    predicts: Literal["eps", "v"] = "eps"

    def alphas(self) -> Tensor:
        """Cumulative signal power of each training timestep, (timesteps,), float64, falling."""
        return _alphas(self)

    def sigmas(self) -> Tensor:
        """Noise level of each training timestep, (timesteps,), float64, rising."""
        alphas = self.alphas()
        return ((1 - alphas) / alphas).sqrt()

    @property
    def sigma_max(self) -> float:
        """The highest noise level of the training."""
        return float(self.sigmas()[-1])

    def nearest_timestep(self, sigma: Tensor) -> Tensor:
        """The training timestep nearest in log sigma, as ComfyUI picks it: (B,) -> (B,) int."""
        distance = sigma.log()[:, None].cpu() - _log_sigmas(self)[None]
        return distance.abs().argmin(dim=1).to(sigma.device)

    def denoised(self, x: Tensor, sigma: Tensor, prediction: Tensor) -> Tensor:
        """x (B, c, h, w) = z + sigma * e, sigma (B, 1, 1, 1), and what the network predicts of it -> z."""
        if self.predicts == "eps":
            return x - sigma * prediction
        return x / (1 + sigma**2) - prediction * sigma / ve_scale(sigma)

    def target(self, latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        """What the network is to predict of ``noisy(latents, noise, alpha)``."""
        if self.predicts == "eps":
            return noise
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents

    def picture_error(self, alpha: Tensor) -> Tensor:
        """Square error of the picture for a square error of 1 in the prediction."""
        return (1 - alpha) / alpha if self.predicts == "eps" else 1 - alpha


SDXL = Backbone("SDXL", Latent(channels=4, scale=0.13025, step=8))
SD1 = Backbone("Stable Diffusion 1", Latent(channels=4, scale=0.18215, step=8))
MINIATURE = replace(SDXL, name="miniature")  # its VAE is trained to SDXL's scale


def noisy(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Latents under noise, both of unit variance, in variance-preserving scale. ``alpha`` (B, 1, 1, 1): their
    cumulative signal power."""
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def ve_scale(sigma: Tensor | float) -> Tensor | float:
    """Length of a variance-exploding latent over that of its variance-preserving twin."""
    return (1 + sigma**2) ** 0.5


def cross_attentions(unet: UNet2DConditionModel) -> dict[str, int]:
    """The cross attentions of diffusers' UNet in its order: the name of each processor -> channels of its queries."""
    layers = dict(unet.named_modules())
    names = [name for name in unet.attn_processors if ".attn2." in name]
    return {name: layers[name.removesuffix(".processor")].to_q.in_features for name in names}


@cache
def _alphas(backbone: Backbone) -> Tensor:
    first, last = backbone.betas
    power = 0.5 if backbone.schedule == "scaled_linear" else 1.0
    betas = torch.linspace(first**power, last**power, backbone.timesteps, dtype=torch.float64) ** (1 / power)
    return (1 - betas).cumprod(0)


@cache
def _log_sigmas(backbone: Backbone) -> Tensor:
    return backbone.sigmas().log().float()
