"""DDIM inversion: from a clean latent up to the noise that the sampler turns back into it.

A deterministic DDIM step is an Euler step in sigma (Song et al., arXiv 2010.02502, sec. 4.3). From s up to s' its exact
inverse is the solution of x' = x + (s' - s) * eps(x', s'), which fixed-point iteration finds (Pan et al., AIDI, arXiv
2309.04907). Two things make it cheap: a step starts from the direction of the step below, which costs no call of the
network and is nearly right already, and the iterates are extrapolated (Anderson acceleration, Walker and Ni 2011),
which solves the stiff lowest steps and guidance above 1. One iteration is the plain DDIM inversion of the released
code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .sample import Callback, Denoiser

DEFAULT_ITERATIONS = 10
DEFAULT_TOLERANCE = 3e-3
PLAIN_ITERATIONS = 1


@dataclass(frozen=True)
class InversionOptions:
    """How well each step is solved.

    `tolerance`: share of a sample's L2 norm by which one sampler step back from the raised latent may miss the latent
    it was raised from; a sample is left alone from there on. `iterations`: calls of the network a step at most. 1 is
    plain DDIM, which neither starts from the step below nor looks at the tolerance.
    """

    iterations: int = DEFAULT_ITERATIONS
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self):
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; it must be at least 1.")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance is {self.tolerance}; it must be 0 or more.")


@dataclass(frozen=True)
class SolvedStep:
    """`x` (B, ...): the raised latents; `change` (B,): their relative L2 change at the call that gave them."""

    x: Tensor
    change: Tensor
    calls: int


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

    `sigmas` (n+1,) rise, the first may be 0: they are the sampler's own, reversed, all or the lower part of them. The
    network is only asked at the upper end of each step, so never at sigma 0. Every sample of a batch is solved as if it
    were alone. `callback` gets i, x, sigma, denoised, calls and change (B,) once a step.
    """
    options = InversionOptions(iterations, tolerance)
    if not bool((sigmas.diff() > 0).all()):
        raise ValueError(f"the inversion's sigmas must rise, got {[round(float(s), 4) for s in sigmas]}.")
    direction = torch.zeros_like(x)  # dx / dsigma of the step below: the noise used there
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        raise_with = _step_up(model, x, sigma, following, extra_args or {})
        if options.iterations == PLAIN_ITERATIONS:  # as released: the latent below, in VP scale, is shown
            guess = x * ((1 + following**2) / (1 + sigma**2)).sqrt()
        else:
            guess = x + (following - sigma) * direction
        solved = solve_fixed_point(raise_with, guess, options)
        direction = (solved.x - x) / (following - sigma)
        x = solved.x
        if callback is not None:
            state = {"i": i, "x": x, "sigma": following, "denoised": x - following * direction}
            callback({**state, "calls": solved.calls, "change": solved.change})
    return x


def _step_up(
    model: Denoiser, x: Tensor, sigma: Tensor, following: Tensor, extra_args: dict
) -> Callable[[Tensor], Tensor]:
    """The function whose fixed point is x raised from `sigma` to `following`."""

    def raise_with(raised: Tensor) -> Tensor:
        denoised = model(raised, following * x.new_ones(len(x)), **extra_args)
        return x + (following - sigma) * (raised - denoised) / following

    return raise_with


def solve_fixed_point(function: Callable[[Tensor], Tensor], guess: Tensor, options: InversionOptions) -> SolvedStep:
    """Solve x = function(x) for every sample of `guess` (B, ...) on its own.

    Gives function(x) of the x that moved least. A sample within the tolerance stays as it is while the others go on.
    """
    best, least = guess, guess.new_full((len(guess),), torch.inf)
    settled = torch.zeros_like(least, dtype=torch.bool)
    latest: tuple[Tensor, Tensor] | None = None
    for calls in range(1, options.iterations + 1):
        value = function(guess)
        change = _norm(value - guess) / _norm(value).clamp_min(torch.finfo(value.dtype).tiny)
        better = ~settled & ~(change >= least)  # NaN counts as better: it must show
        best, least = torch.where(_per_sample(better, best), value, best), torch.where(better, change, least)
        settled = least <= options.tolerance
        if bool(settled.all()):
            break
        last, latest = latest, (value, value - guess)
        following = value if last is None else _extrapolate(*latest, *last)
        guess = torch.where(_per_sample(settled, guess), guess, following)
    return SolvedStep(best, least, calls)


def _extrapolate(value: Tensor, residual: Tensor, last_value: Tensor, last_residual: Tensor) -> Tensor:
    """The next iterate: where the line through the last two residuals comes nearest to zero (Anderson of depth 1).

    `value` = function(x), `residual` = function(x) - x, all (B, ...).
    """
    turn = (residual - last_residual).flatten(1)
    length = turn.square().sum(dim=1).clamp_min(torch.finfo(turn.dtype).tiny)  # 0 for a sample that stays
    share = (turn * residual.flatten(1)).sum(dim=1) / length
    return value - share.view(-1, *[1] * (value.ndim - 1)) * (value - last_value)


def _norm(x: Tensor) -> Tensor:
    """(B, ...) -> (B,), L2."""
    return x.flatten(1).norm(dim=1)


def _per_sample(flags: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), to choose whole samples of `like`."""
    return flags.view(-1, *[1] * (like.ndim - 1))
