"""What a LATENT must be for a node of ours to work on it, and what it must be when the node is done."""

from typing import Any

import comfy.sample
from torch import Tensor

from ...stages.encode import check_finite

ENCODE = "Connect the latent of VAE Encode."
OVERFLOW_REMEDY = (
    "Check the node it comes from. A VAE that overflows in 16 bits makes such latents: start ComfyUI with --fp32-vae."
)
# The inputs were looked at before, so it is the network.
NETWORK_REMEDY = (
    "The diffusion model overflowed: start ComfyUI with --bf16-unet or --fp32-unet, and check the LoRAs, ControlNets "
    "and guidance nodes before it."
)
DIMENSIONS = {1: ("length",), 2: ("height", "width"), 3: ("frames", "height", "width")}
OTHER_KINDS = {3: "a sound's", 5: "a video's"}  # number of the tensor's dimensions -> whose latent it mostly is


def samples_of(latent: Any, what: str) -> Tensor:
    """The tensor in a LATENT; ValueError where there is none. ``what``: the input, "latent of DDIM Invert"."""
    samples = latent.get("samples") if hasattr(latent, "get") else None  # not latent[...]: see inverted.PairedLatent
    if getattr(samples, "is_nested", False):
        raise ValueError(
            f"The {what} holds several latents, as for video with sound; the latent of a picture is needed. {ENCODE}"
        )
    if isinstance(samples, Tensor):
        return samples
    found = type(latent if not hasattr(latent, "get") else samples).__name__
    raise ValueError(f"The {what} is not a LATENT: it has {found} instead of samples. {ENCODE}")


def samples_for(model: Any, latent: Any, what: str) -> Tensor:
    """The LATENT's samples (B, C, h, w) as the model takes them, in float32: noise levels above 100 do not fit into
    fp16.

    An empty latent gets the model's number of channels, as in ComfyUI's samplers. ValueError where it is another
    kind's.
    """
    samples, wanted = samples_of(latent, what), model.get_model_object("latent_format")
    if samples.ndim >= 4:
        samples = comfy.sample.fix_empty_latent_channels(model, samples)
    sides = DIMENSIONS[wanted.latent_dimensions]
    if samples.ndim != 2 + len(sides) or samples.shape[1] != wanted.latent_channels:
        kind = OTHER_KINDS.get(samples.ndim, "another model's") if samples.ndim != 2 + len(sides) else "another model's"
        raise ValueError(
            f"The {what} is a latent of shape {tuple(samples.shape)}; this model needs (batch, "
            f"{wanted.latent_channels}, {', '.join(sides)}). It is {kind}: encode the picture with the VAE that "
            "belongs to the model."
        )
    if 0 in samples.shape:
        raise ValueError(f"The {what} has shape {tuple(samples.shape)}: it is empty. {ENCODE}")
    return samples.float()


def require_finite(samples: Tensor, what: str, remedy: str = OVERFLOW_REMEDY) -> None:
    """ValueError where samples (B, ...) hold NaN or infinite values; in a batch it says in which rows, counted from
    1."""
    check_finite(samples, what, remedy, in_rows=True)


def mask_of(latent: dict[str, Any], what: str) -> Tensor | None:
    """The LATENT's noise mask, None where there is none; ValueError where it is no mask."""
    mask = latent.get("noise_mask")
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.ndim < 2:
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"The noise mask of the {what} is {found}, not a mask. Connect Set Latent Noise Mask.")
    require_finite(mask if mask.ndim > 2 else mask[None], f"noise mask of the {what}", "Check the node it comes from.")
    return mask
