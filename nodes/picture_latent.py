"""What a LATENT must be for a picture to be edited in it."""

from typing import Any

import torch

from ..stages.encode import check_finite
from .inverted import inversion_of

OVERFLOW_REMEDY = (
    "Look at the node it comes from; a VAE makes such latents where 16 bits are too few for it: start ComfyUI with --fp32-vae."
)


def require_picture(latent: dict[str, Any], what: str) -> None:
    """ValueError where a LATENT is no clean picture: inverted, empty, or with values that are no numbers.

    ``what``: the input, for the message: "image of InstructPix2Pix Guidance".
    """
    samples = latent["samples"]
    if inversion_of(latent) is not None:
        raise ValueError(f"The {what} is an inverted latent, which is noise. Connect the latent of VAE Encode.")
    if torch.count_nonzero(samples) == 0:
        raise ValueError(f"The {what} is an empty latent: there is no picture in it. Connect the latent of VAE Encode.")
    check_finite(samples, what, OVERFLOW_REMEDY)
