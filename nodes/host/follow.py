"""The SAMPLER that follows an inversion: euler for a fixed point, its own two-step rule for O-BELM."""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import comfy.utils
from torch import Tensor

from ...stages.belm import sample_belm
from ...stages.latents import clean_outside
from .inverted import Inversion, same_levels

EULER = "euler"
START_TOLERANCE = 5e-3  # relative to the noise level: half-precision latents differ by less, another noise by more
BOTH = "Connect sampler, noise and sigmas of the same node: Latent Noise Mix where there is one, else DDIM Invert."


def following_sampler(inversion: Inversion) -> comfy.samplers.KSAMPLER:
    """ComfyUI's SAMPLER that leads the latent of this inversion back to its picture."""
    if inversion.below is None:
        return comfy.samplers.ksampler(EULER)
    return comfy.samplers.KSAMPLER(_continuing(inversion))


def _continuing(inversion: Inversion) -> Callable[..., Tensor]:
    """O-BELM's sampler in k-diffusion's form, from the pair of latents that the inversion found."""

    def sample_o_belm(
        model: Any, x: Tensor, sigmas: Tensor, extra_args: dict | None = None, callback=None, disable=None
    ) -> Tensor:
        extra_args = extra_args or {}
        _require_own(inversion, x, sigmas)
        below = comfy.utils.repeat_to_batch_size(inversion.latent_format.process_in(inversion.below), len(x)).to(x)
        mask = extra_args.get("denoise_mask")
        if mask is not None:  # outside, the sampler shows the network the clean picture under the noise
            below = clean_outside(below, mask, model.latent_image, model.noise, float(sigmas[1]))
        return sample_belm(model, x, sigmas, extra_args, callback, below)

    return sample_o_belm


def _require_own(inversion: Inversion, x: Tensor, sigmas: Tensor) -> None:
    """ValueError where the sampler was connected without what belongs to it."""
    if not same_levels(sigmas.cpu(), inversion.sigmas):
        raise ValueError(
            f"The O-BELM sampler belongs to an inversion with {inversion.steps} steps, scheduler "
            f"{inversion.scheduler!r}, from step {inversion.start_step}; it got other noise levels. {BOTH}"
        )
    start = inversion.latent_format.process_in(inversion.samples)
    if x.shape[1:] != start.shape[1:] or len(x) % len(start):
        raise ValueError(
            f"The O-BELM sampler belongs to a latent of shape {tuple(start.shape)}, and got {tuple(x.shape)}. Connect "
            "the latent that went into DDIM Invert."
        )
    expected = comfy.utils.repeat_to_batch_size(start, len(x)).to(x)
    if float((x - expected).abs().max()) > START_TOLERANCE * inversion.start_sigma:
        raise ValueError(f"The O-BELM sampler belongs to another inversion than the noise that it got. {BOTH}")
