"""Guidance of InstructPix2Pix: one scale for the instruction, one for the source picture. Pure arithmetic."""

from __future__ import annotations

import math

from torch import Tensor

# Brooks et al., arXiv 2211.09800, sec. 3.2.1: "typically s_I in 1.0..2.5, s_T in 5..10"; these are the released code's.
TEXT_GUIDANCE = 7.5
IMAGE_GUIDANCE = 1.5


def guide_edit(
    plain: Tensor,
    image: Tensor,
    text: Tensor,
    text_guidance: float = TEXT_GUIDANCE,
    image_guidance: float = IMAGE_GUIDANCE,
) -> Tensor:
    """e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,T) - e(I,0)): InstructPix2Pix, arXiv 2211.09800, eq. 3.

    plain e(0,0): the prediction without picture and instruction; image e(I,0): with the picture; text e(I,T): with
    both. All (B, ...) of one shape, which is returned. The three weights add up to 1, so that eps, v and the denoised
    picture, each a fixed line of the others at one noise level, give the same result. image_guidance s_I: how much of
    the picture stays; text_guidance s_T: how strongly the instruction is followed; 1 is no stress on either.
    """
    for name, prediction in (("with the picture", image), ("with picture and instruction", text)):
        if prediction.shape != plain.shape:
            raise ValueError(
                f"The prediction {name} is {tuple(prediction.shape)}, the one without is {tuple(plain.shape)}. "
                "Predict all three for the same latent."
            )
    for name, scale in (("text_guidance", text_guidance), ("image_guidance", image_guidance)):
        if not math.isfinite(scale):
            usual = f"{TEXT_GUIDANCE:g} and {IMAGE_GUIDANCE:g}"
            raise ValueError(f"{name} must be a finite number, got {scale}. The usual values are {usual}.")
    return plain + image_guidance * (image - plain) + text_guidance * (text - image)
