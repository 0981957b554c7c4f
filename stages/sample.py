"""Sampling without ComfyUI: sigma schedules and the first-order sampler, in k-diffusion's form.

`model(x, sigma, **extra_args)` gives the denoised picture; x lives in the variance-exploding space, x = z + sigma * e
(Karras et al., arXiv 2206.00364). In ComfyUI its own samplers and schedulers take this place.
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..models.backbone import Backbone

KARRAS_RHO = 7.0  # Karras et al., table 1
BETA_SHAPE = 0.6  # both parameters of the Beta distribution; arXiv 2407.12173
SCHEDULES = ("normal", "karras", "ddim_uniform", "sgm_uniform", "simple", "beta")
Denoiser = Callable[..., Tensor]
Callback = Callable[[dict], None]


def sigma_at(sigmas: Tensor, timesteps: Tensor) -> Tensor:
    """Noise levels at fractional timesteps of those in `sigmas`, interpolated in log sigma."""
    log_sigmas, last = sigmas.log(), len(sigmas) - 1
    low = timesteps.floor().long().clamp(0, last)
    high = timesteps.ceil().long().clamp(0, last)
    share = timesteps - low
    return ((1 - share) * log_sigmas[low] + share * log_sigmas[high]).exp()


def check_schedule(name: str, steps: int) -> None:
    """ValueError where `schedule` has no such levels."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1.")
    if name not in SCHEDULES:
        raise ValueError(f'unknown schedule "{name}"; choose one of: {", ".join(SCHEDULES)}.')


def schedule(name: str, steps: int, backbone: Backbone) -> Tensor:
    """`steps` falling noise levels and a final 0, float32, as ComfyUI's schedulers of these names give them.

    ddim_uniform may give one level more and beta fewer, as there.
    """
    check_schedule(name, steps)
    table = backbone.sigmas()
    last = len(table) - 1
    if name == "normal":
        sigmas = sigma_at(table, torch.linspace(last, 0, steps, dtype=torch.float64))
    elif name == "sgm_uniform":
        sigmas = sigma_at(table, torch.linspace(last, 0, steps + 1, dtype=torch.float64)[:-1])
    elif name == "karras":
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        low, high = table[0] ** (1 / KARRAS_RHO), table[-1] ** (1 / KARRAS_RHO)
        sigmas = (high + ramp * (low - high)) ** KARRAS_RHO
    elif name == "ddim_uniform":
        stride = max(len(table) // steps, 1)
        sigmas = table[1::stride].flip(0)
    elif name == "simple":
        sigmas = table[[last - int(i * len(table) / steps) for i in range(steps)]]
    else:
        from scipy.stats import beta  # ComfyUI brings it; nothing else here needs it

        quantiles = beta.ppf(1 - np.arange(steps) / steps, BETA_SHAPE, BETA_SHAPE)
        sigmas = table[list(dict.fromkeys(np.rint(quantiles * last).astype(int).tolist()))]
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def sample_euler(
    model: Denoiser, x: Tensor, sigmas: Tensor, extra_args: dict | None = None, callback: Callback | None = None
) -> Tensor:
    """Deterministic DDIM: Euler steps along falling `sigmas` (n+1,), from x at sigmas[0] to sigmas[-1]."""
    ones = x.new_ones(len(x))
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        denoised = model(x, sigma * ones, **(extra_args or {}))
        if callback is not None:
            callback({"i": i, "x": x, "sigma": sigma, "denoised": denoised})
        x = x + (following - sigma) * (x - denoised) / sigma
    return x
