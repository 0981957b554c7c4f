"""What a socket of ComfyUI's type IMAGE may bring -> pictures that the nodes can work with."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..stages.encode import check_finite
from ..stages.preprocess import as_rgb
from .reading import described

CHANNELS = (1, 2, 3, 4)  # grey, grey with alpha, RGB, RGBA
# A picture brighter than that on average is one in 0 to 255. A few bright places, cut at GLARE, are light that a camera
# measured.
BRIGHTEST_MEAN, GLARE = 2.0, 8.0
RANGES = {torch.uint8: 255, torch.bool: 1}  # what stands for white in numbers that are whole


def read_pictures(value: Any, what: str, on_white: bool = True) -> list[Tensor]:
    """Pictures (H, W, 3) in float32 on the CPU, as they are seen: grey in three channels, what is cut out on white, or,
    without
    ``on_white``, as if nothing were cut out.

    ``value``: an IMAGE (B, H, W, C) with C of 1 to 4, one picture (H, W, C), or a list of both, of any sizes; of any
    dtype. ``what``: the input, for the message: "image of Load Image Embedding". ValueError where there is none, where
    it is no picture, and where a picture holds NaN or infinite numbers; of several, its number is named.
    """
    pictures = [picture for batch in _batches(value, what) for picture in batch]
    if not pictures:
        raise ValueError(f"The {what} is empty: there is no picture in {described(value)}. Connect at least one.")
    several = len(pictures) > 1
    names = (f"picture {number} of {len(pictures)} in the {what}" for number in range(1, len(pictures) + 1))
    return [_seen(picture, next(names) if several else f"picture in the {what}", on_white) for picture in pictures]


def _batches(value: Any, what: str) -> list[Tensor]:
    """Tensors (B, H, W, C) of whatever came."""
    if isinstance(value, (list, tuple)):
        return [batch for item in value for batch in _batches(item, what)]
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if value is None:
        raise ValueError(f"The {what} is None: the node it comes from returned no picture. Connect another one.")
    if not isinstance(value, Tensor):
        raise ValueError(
            f"The {what} is {described(value)}, not a picture. Connect an IMAGE, for example from Load Image."
        )
    batch = value[None] if value.ndim == 3 and value.shape[-1] in CHANNELS else value
    if batch.ndim != 4 or batch.shape[-1] not in CHANNELS:
        shape = tuple(value.shape)
        mask = " A MASK becomes a picture with Convert Mask to Image." if value.ndim in (2, 3) else ""
        raise ValueError(
            f"The {what} has the shape {shape}; a picture has (batch, height, width, channels), with 1 to 4 "
            f"channels.{mask}"
        )
    if 0 in batch.shape[1:3]:
        raise ValueError(
            f"The {what} is {batch.shape[2]} x {batch.shape[1]} pixels large. Connect a picture that is not empty."
        )
    return [batch]


def _seen(picture: Tensor, what: str, on_white: bool) -> Tensor:
    """(H, W, C) of any dtype -> (H, W, 3) float32 on the CPU, checked."""
    picture = picture.detach().cpu()
    if not picture.is_floating_point():
        if picture.dtype not in RANGES:
            raise ValueError(
                f"The {what} is made of {picture.dtype} numbers. Connect one of float numbers between 0 and 1."
            )
        picture = picture.float() / RANGES[picture.dtype]
    picture = picture.float()
    check_finite(picture, what)
    if float(picture.clamp(max=GLARE).mean()) > BRIGHTEST_MEAN:
        raise ValueError(
            f"The {what} has values up to {float(picture.max()):g}, {float(picture.mean()):.3g} on average. A picture "
            "has values between 0 and 1: divide them by 255."
        )
    return as_rgb(picture if on_white or picture.shape[-1] in (1, 3) else picture[..., :-1])
