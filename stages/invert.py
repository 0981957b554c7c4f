"""DDIM inversion: from a clean latent up to the noise that the sampler turns back into it.

A deterministic DDIM step is an Euler step in sigma (Song et al., arXiv 2010.02502, sec. 4.3). From s up to s' its exact
inverse is the solution of x' = x + (s' - s) * eps(x', s'), which fixed-point iteration finds (Pan et al., AIDI, arXiv
2309.04907); one iteration is the plain DDIM inversion of the released code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .sample import Callback, Denoiser

DEFAULT_ITERATIONS = 5
DEFAULT_TOLERANCE = 1e-4  # relative change of the latent at which a step counts as solved


@dataclass(frozen=True)
class InversionOptions:
    """`iterations` network calls a step at most, 1 is plain DDIM; a step stops early below `tolerance`."""

    iterations: int = DEFAULT_ITERATIONS
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self):
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; it must be at least 1.")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance is {self.tolerance}; it must be 0 or more.")


def ddim_invert(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict | None = None,
    callback: Callback | None = None,
    iterations: int = DEFAULT_ITERATIONS,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Tensor:
    """Latent x (B, C, h, w) at sigmas[0] -> the latent at sigmas[-1], in the variance-exploding space.

    `sigmas` (n+1,) rise, the first may be 0: they are the sampler's own, reversed. The network is only asked at the
    upper end of each step, so never at sigma 0. `callback` gets i, x, sigma, denoised once a step.
    """
    options = InversionOptions(iterations, tolerance)
    if not bool((sigmas.diff() > 0).all()):
        raise ValueError(f"the inversion's sigmas must rise, got {[round(float(s), 4) for s in sigmas]}.")
    ones = x.new_ones(len(x))
    for i, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        raised = x
        for _ in range(options.iterations):
            denoised = model(raised, following * ones, **(extra_args or {}))
            solved = x + (following - sigma) * (raised - denoised) / following
            change = _relative_change(solved, raised)
            raised = solved
            if change <= options.tolerance:
                break
        x = raised
        if callback is not None:
            callback({"i": i, "x": x, "sigma": following, "denoised": denoised})
    return x


def _relative_change(after: Tensor, before: Tensor) -> float:
    """The largest relative L2 change over the batch."""
    change = (after - before).flatten(1).norm(dim=1) / after.flatten(1).norm(dim=1).clamp_min(torch.finfo(after.dtype).tiny)
    return float(change.max())
