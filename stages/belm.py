"""O-BELM: an inversion that a matching sampler undoes exactly, at one call of the network a step.

Both walk the same two-step rule (Wang et al., arXiv 2410.07273; its coefficients follow from a Taylor expansion at the
middle level). With x(s) = z + s * e at the noise levels 0 = s_0 < s_1 < ... < s_n, h_i = s_i - s_(i-1) and
r_i = (h_i / h_(i+1))^2:

    x_(i-1) = r_i * x_(i+1) + (1 - r_i) * x_i - h_i * (h_i + h_(i+1)) / h_(i+1) * e(x_i, s_i)

Down, the sampler reads it as it stands; up, the inversion solves it for x_(i+1). Both ask the network for the noise e
of the same x_i, so nothing is lost, also under guidance. The state is a pair, the latents at the two highest levels.
The arithmetic is in float64; the network gets its own type.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .sample import Callback, Denoiser

LEAST_STEPS = 2  # with one, the pair holds the clean picture already, and the sampler would paint nothing
WITH_FLOAT64 = ("cpu", "cuda")  # devices; on the others the arithmetic is done on the CPU


@dataclass(frozen=True)
class Rule:
    """Of level i: `ratio` r_i, and the `length` times which the noise is taken."""

    sigma: Tensor
    ratio: float
    length: float

    def below(self, above: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """x_(i-1) from x_(i+1), x_i and the noise of x_i."""
        return self.ratio * above + (1 - self.ratio) * x - self.length * noise

    def above(self, below: Tensor, x: Tensor, noise: Tensor) -> Tensor:
        """x_(i+1), the reverse."""
        return (below - (1 - self.ratio) * x + self.length * noise) / self.ratio


def check_levels(sigmas: Tensor) -> None:
    """ValueError where the rule has no use for these falling noise levels (n+1,), with the final 0."""
    if len(sigmas) - 1 < LEAST_STEPS:
        raise ValueError(
            f"O-BELM needs at least {LEAST_STEPS} steps from the start on, got {len(sigmas) - 1}. Raise steps, lower "
            "start_at_step, or set method to 'fixed point'."
        )
    if not bool((sigmas.diff() < 0).all()):
        raise ValueError(
            f"O-BELM needs noise levels that differ, got {[round(float(s), 4) for s in sigmas]}. Lower steps, or set "
            "another scheduler."
        )


def belm_invert(
    model: Denoiser, x: Tensor, sigmas: Tensor, extra_args: dict | None = None, callback: Callback | None = None
) -> tuple[Tensor, Tensor]:
    """Clean latent x (B, C, h, w) -> the latents at sigmas[-1] and sigmas[-2], float64, variance-exploding.

    `sigmas` (n+1,) rise from 0: the sampler's own, reversed, all or the lower part of them. The network runs n times;
    the lowest step is an Euler step with the noise at its upper end. `callback` gets i, x, sigma and denoised once a
    step.
    """
    check_levels(sigmas.flip(0))
    ask = _Asked(model, x, extra_args)
    below = ask.exact(x)
    noise = ask.noise(below, sigmas[1])
    x = below + float(sigmas[1]) * noise
    ask.tell(callback, 0, x, sigmas[1], x - float(sigmas[1]) * noise)
    for i, rule in enumerate(_rules(sigmas), 1):
        noise = ask.noise(x, rule.sigma)
        ask.tell(callback, i, x, rule.sigma, x - float(rule.sigma) * noise)
        below, x = x, rule.above(below, x, noise)
    return x, below


def sample_belm(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict | None = None,
    callback: Callback | None = None,
    below: Tensor | None = None,
) -> Tensor:
    """Latent x (B, C, h, w) at sigmas[0] -> the latent at sigmas[-1], along falling `sigmas` (n+1,), the last one 0.

    `below`: the latent at sigmas[1], the second half of what `belm_invert` gives; then the network runs n - 1 times.
    None: x is noise, and the first step is an Euler step. `callback` gets i, x, sigma and denoised of each call.
    """
    check_levels(sigmas)
    ask = _Asked(model, x, extra_args)
    above = ask.exact(x)
    if below is None:
        noise = ask.noise(above, sigmas[0])
        ask.tell(callback, 0, above, sigmas[0], above - float(sigmas[0]) * noise)
        x = above + float(sigmas[1] - sigmas[0]) * noise
    else:
        x = ask.exact(below)
    for i, rule in enumerate(reversed(list(_rules(sigmas.flip(0)))), 1):
        noise = ask.noise(x, rule.sigma)
        ask.tell(callback, i, x, rule.sigma, x - float(rule.sigma) * noise)
        above, x = x, rule.below(above, x, noise)
    return ask.own(x)


class _Asked:
    """The network between the exact arithmetic and its own type and device, which are those of ``like``."""

    def __init__(self, model: Denoiser, like: Tensor, extra_args: dict | None):
        self.model, self.extra_args = model, extra_args or {}
        self.like = like
        self.device = like.device if like.device.type in WITH_FLOAT64 else torch.device("cpu")

    def exact(self, x: Tensor) -> Tensor:
        return x.to(self.device, torch.float64)

    def own(self, x: Tensor) -> Tensor:
        return x.to(self.like.device, self.like.dtype)

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """e of x, of unit variance, as the network finds it."""
        shown = self.own(x)
        denoised = self.model(shown, sigma.to(shown) * shown.new_ones(len(shown)), **self.extra_args)
        return (self.exact(shown) - self.exact(denoised)) / float(sigma)

    def tell(self, callback: Callback | None, i: int, x: Tensor, sigma: Tensor, denoised: Tensor) -> None:
        if callback is not None:
            callback({"i": i, "x": self.own(x), "sigma": sigma, "denoised": self.own(denoised)})


def _rules(rising: Tensor) -> Iterator[Rule]:
    """Of the levels s_1 ... s_(n-1)."""
    levels = rising.double().tolist()
    for i in range(1, len(levels) - 1):
        low, high = levels[i] - levels[i - 1], levels[i + 1] - levels[i]
        yield Rule(rising[i], (low / high) ** 2, low * (low + high) / high)
