"""How near a result is to the true picture, the whole of it and outside what the edit may change.

PSNR and SSIM (Wang et al. 2004) are those of torchmetrics, on RGB in [0, 1]. They need a source and a target: a picture
painted from nothing has no true one. Where an instruction does not say where a new subject stands, the target is one of
several right pictures: use these figures to compare methods, and do not read one alone. A result of another size is
resized to the target's, as MagicBrush's evaluation does.
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor
from torch.nn import functional as F

from ..case import Case, Output
from . import Tools, metric

HIGHEST_PSNR = 60.0  # dB; rounding a picture to 8 bits leaves 58.9
LEAST_OUTSIDE = 0.05  # share of the picture; with less outside the edit there is nothing to hold against the target


def psnr(pictures: Tensor, targets: Tensor) -> Tensor:
    """Peak signal to noise ratio in dB of pictures (B, ...) in [0, 1] -> (B,), at most HIGHEST_PSNR."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    sides = tuple(range(1, pictures.ndim))
    found = peak_signal_noise_ratio(pictures.float(), targets.float(), data_range=1.0, reduction="none", dim=sides)
    return found.clamp_max(HIGHEST_PSNR)


def ssim_map(picture: Tensor, target: Tensor) -> Tensor:
    """Two pictures (H, W, 3) in [0, 1] -> the SSIM of each place (H, W), the mean of the colours."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (x.float().movedim(-1, 0)[None] for x in (picture, target))
    _, full = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    return full[0].mean(0)


@metric("psnr", unit="dB")
def whole_psnr(case: Case, output: Output, tools: Tools) -> float | None:
    """PSNR of the whole picture to the target."""
    if not has_truth(case):
        return None
    return float(psnr(fitted(output.picture, case.target)[None], case.target[None]))


@metric("ssim")
def whole_ssim(case: Case, output: Output, tools: Tools) -> float | None:
    """SSIM of the whole picture to the target."""
    if not has_truth(case):
        return None
    return float(_places(case, output).mean())


@metric("psnr_outside", unit="dB")
def outside_psnr(case: Case, output: Output, tools: Tools) -> float | None:
    """PSNR to the target of the pixels that the edit should leave as they are."""
    outside = outside_of(case)
    if outside is None:
        return None
    picture = fitted(output.picture, case.target)
    return float(psnr(picture[outside][None], case.target[outside][None]))


@metric("ssim_outside")
def outside_ssim(case: Case, output: Output, tools: Tools) -> float | None:
    """SSIM to the target, the mean over the places that the edit should leave as they are."""
    outside = outside_of(case)
    if outside is None:
        return None
    return float(_places(case, output)[outside].mean())


@lru_cache(maxsize=1)  # one result is measured by several metrics in a row
def _places(case: Case, output: Output) -> Tensor:
    return ssim_map(fitted(output.picture, case.target), case.target)


def has_truth(case: Case) -> bool:
    """Whether there is one picture that the result should be."""
    return case.source is not None and case.target is not None


def outside_of(case: Case) -> Tensor | None:
    """(H, W) bool: what the edit should leave as it is; None where that is unknown or next to nothing."""
    if not has_truth(case) or case.region is None:
        return None
    outside = ~case.region
    return outside if outside.float().mean() >= LEAST_OUTSIDE else None


def fitted(picture: Tensor, target: Tensor) -> Tensor:
    """`picture` (h, w, 3) at the size of `target` (H, W, 3)."""
    if picture.shape == target.shape:
        return picture
    sides = target.shape[:2]
    resized = F.interpolate(picture.float().movedim(-1, 0)[None], sides, mode="bicubic", antialias=True)
    return resized[0].movedim(0, -1).clamp(0, 1)


def grown(mask: Tensor, pixels: int) -> Tensor:
    """(H, W) bool, grown by `pixels` on every side."""
    size = 2 * pixels + 1
    return F.max_pool2d(mask[None, None].float(), size, stride=1, padding=pixels)[0, 0] > 0.5


def changed_region(before: Tensor, after: Tensor, least: float, margin: int) -> Tensor:
    """Where two pictures (H, W, 3) differ by more than `least` in a colour, grown by `margin` pixels: (H, W) bool."""
    return grown((before - after).abs().amax(-1) > least, margin)
