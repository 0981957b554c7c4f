"""What a LATENT must be for a picture to be edited in it."""

from typing import Any

import torch
from torch import Tensor

from ...stages.encode import name_rows
from .inverted import inversion_of
from .latents import ENCODE, require_finite


def require_picture(latent: dict[str, Any], samples: Tensor, what: str) -> None:
    """ValueError where a LATENT with these samples is no clean picture: inverted, empty, or with values that are no
    numbers."""
    require_finite(samples, what)
    if inversion_of(latent, what) is not None:
        raise ValueError(f"The {what} is an inverted latent, which is noise. {ENCODE}")
    empty = [number for number, row in enumerate(samples, start=1) if not torch.count_nonzero(row)]
    if len(empty) == len(samples):
        raise ValueError(f"The {what} is an empty latent: there is no picture in it. {ENCODE}")
    if empty:
        raise ValueError(
            f"The {what} is a batch of {len(samples)}, and {name_rows(empty)} of it is an empty latent: there is no "
            "picture in it. Remove it from the batch."
        )
