"""Pictures and their latents, and the noise in a latent that was inverted; in unit variance, without ComfyUI."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.autoencoder import Autoencoder
from ..models.backbone import ve_scale

MAX_SIGMA_TOLERANCE = 1e-5  # relative; comfy.samplers.Sampler.max_denoise


@torch.no_grad()
def encode_pictures(vae: Autoencoder, pictures: Tensor) -> Tensor:
    """(B, H, W, 3) in [0, 1] -> latents (B, c, h, w) of unit variance; sides are cropped to multiples of the
    VAE's step."""
    height, width = (side - side % vae.latent.step for side in pictures.shape[1:3])
    top, left = (pictures.shape[1] - height) // 2, (pictures.shape[2] - width) // 2
    x = pictures[:, top : top + height, left : left + width].movedim(-1, 1)
    weight = next(vae.parameters())
    return vae.encode(x.to(weight.device, weight.dtype) * 2 - 1)[0] * vae.latent.scale


@torch.no_grad()
def decode_pictures(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Unit-variance latents (B, c, h, w) -> pictures (B, H, W, 3) in [0, 1]."""
    return ((vae.decode(latents / vae.latent.scale) + 1) / 2).clamp(0, 1).movedim(1, -1)


def latent_masks(masks: Tensor, latents: Tensor) -> Tensor:
    """Masks (B, H, W) -> (B, 1, h, w), scaled to the latents as ComfyUI scales a noise mask."""
    return F.interpolate(masks[:, None].float(), latents.shape[2:], mode="bilinear").to(latents)


def draw_noise(shape: tuple[int, ...] | torch.Size, seed: int) -> Tensor:
    """Unit-variance noise on the CPU, float32: the numbers that ComfyUI draws for the seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise_in(start: Tensor, clean: Tensor, sigma: Tensor | float, whole: bool) -> Tensor:
    """The unit-variance noise of a latent at noise level ``sigma``, in the variance-exploding space of the samplers.

    ``whole``: it was inverted all the way up, and all of it counts as noise, in the variance-preserving scale
    (InstructAny2Pix, arXiv 2312.06738, sec. 3). In between, the picture still shows, and it is what lies on top of
    ``clean``.
    """
    return start / ve_scale(sigma) if whole else (start - clean) / sigma


def with_noise(noise: Tensor, clean: Tensor, sigma: Tensor | float, whole: bool) -> Tensor:
    """The reverse of ``noise_in``: the latent at ``sigma`` that a sampler starts from."""
    return noise * ve_scale(sigma) if whole else clean + noise * sigma


def clean_outside(x: Tensor, mask: Tensor, clean: Tensor, noise: Tensor, scale: Tensor | float) -> Tensor:
    """x (B, c, h, w), and where ``mask`` (B, 1 or c, h, w) is 0 the clean latents under ``noise`` times ``scale``, as a
    sampler with this mask shows them."""
    return torch.where(mask > 0, x, clean + scale * noise)


def noise_scale(sigma: Tensor | float, sigma_max: Tensor | float) -> Tensor | float:
    """What ComfyUI multiplies noise with at a sampler's first step: sqrt(1 + sigma^2) from the model's highest noise
    level ``sigma_max`` on, else sigma."""
    return ve_scale(sigma) if float(sigma) > float(sigma_max) * (1 - MAX_SIGMA_TOLERANCE) else sigma
