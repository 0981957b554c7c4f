"""How alike two pictures are drawn, whatever their colours."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..case import Case, Output
from . import Tools, metric
from .fidelity import fitted, has_truth
from .recognition import all_right

STRUCTURE_SIDE = 64  # pixels to which a picture is reduced: drops and flakes are no structure
STRUCTURE_WINDOW = 11  # pixels; Wang et al. 2004, sec. III-C
STRUCTURE_FLOOR = 0.03**2 / 2  # their C3 for values in [0, 1]

# Of the result to the target. Of the validation pictures that were looked at, smears lay at 0.40 to 0.46, and pictures
# whose subject or sun is elsewhere at 0.14 to 0.46; the rest lay at 0.51 and above. The autoencoder alone leaves 0.99.
LEAST_STRUCTURE = 0.5


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


@metric("structure_target")
def structure_target(case: Case, output: Output, tools: Tools) -> float | None:
    """Structural similarity of the result to the target. A smear in pale colours has a fair PSNR and little of this."""
    if not has_truth(case):
        return None
    return float(structural_similarity(fitted(output.picture, case.target)[None], case.target[None]))


@metric("drawn_right", unit="share")
def drawn_right(case: Case, output: Output, tools: Tools) -> float | None:
    """1 where every attribute has the label of the target, and the lines are where they are in the target."""
    right, drawn = all_right(case, output, tools), structure_target(case, output, tools)
    return None if right is None or drawn is None else float(right == 1.0 and drawn >= LEAST_STRUCTURE)
