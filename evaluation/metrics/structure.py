"""How alike two pictures are drawn, whatever their colours."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..case import Case, Output
from . import Tools, metric
from .fidelity import fitted

STRUCTURE_SIDE = 64  # pixels to which a picture is reduced: drops and flakes are no structure
STRUCTURE_WINDOW = 11  # pixels; Wang et al. 2004, sec. III-C
STRUCTURE_FLOOR = 0.03**2 / 2  # their C3 for values in [0, 1]


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """How alike two batches of pictures (B, H, W, 3) in [0, 1] are drawn: (B,), 1 for the same lines, about 0 for
    unrelated ones.

    The structure term of SSIM (Wang et al. 2004, eq. 10) of their grey values, the mean over windows: a correlation
    that brightness and contrast, and so weather and drawing style, change little.
    """
    grey = [F.interpolate(x.float().mean(-1)[:, None], (STRUCTURE_SIDE, STRUCTURE_SIDE), mode="area") for x in (a, b)]

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, STRUCTURE_WINDOW, stride=1)

    x, y = grey
    covariance = mean(x * y) - mean(x) * mean(y)
    spread = ((mean(x * x) - mean(x) ** 2).clamp_min(0) * (mean(y * y) - mean(y) ** 2).clamp_min(0)).sqrt()
    return ((covariance + STRUCTURE_FLOOR) / (spread + STRUCTURE_FLOOR)).mean(dim=(1, 2, 3))


@metric("structure")
def structure(case: Case, output: Output, tools: Tools) -> float | None:
    """Structural similarity of the result to the source."""
    if case.source is None:
        return None
    return float(structural_similarity(fitted(output.picture, case.source)[None], case.source[None]))
