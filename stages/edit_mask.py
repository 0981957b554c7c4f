"""A mask of what an edit changes, found by the model: DiffEdit (Couairon et al., arXiv 2210.11427, sec. 3.2, step 1).

The picture is noised several times, and denoised once as the source and once as the edit. Where the two differ, the
edit wants another picture. Unlike the paper, the mask has a soft edge, and an edit of the whole picture is left whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.backbone import Backbone
from .latents import draw_noise
from .sample import Denoiser, sigma_at

Pair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x, sigma (B,)) -> denoised as the source, and as the edit
AddNoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # (clean, noise, sigma (B, 1, 1, 1)) -> x

# Chosen on Toyland's validation split with the miniature; the level is sigma 3 in SDXL's schedule.
DEFAULT_STRENGTH = 0.8
DEFAULT_SOFTNESS = 4.0  # pixels, half a place of the latent
DEFAULT_GROW = 3
DEFAULT_NOISES = 8
DEFAULT_LEVEL = 0.32
MASK_SEED = 0
SMOOTHING = 0.7  # places of the latent; deviation of the Gaussian that averages the differences
FLOOR, TOP = 0.05, 0.99  # quantiles of a picture's differences: what the edit leaves, and what it changes most
EVEN = 0.165  # floor over top; edits of a part lie below, at 0.04 to 0.16, edits of everything at 0.18 to 0.58
SEEDS = 0.25  # of the way from the cut to the top: what belongs to the mask without doubt
RAMP = 0.1  # of the way from floor to top: from outside to inside
LEAST_DIFFERENCE = 1e-3  # of latents with unit variance; below it, the two predictions are the same but for rounding
MOST_PIXELS = 64  # of softness and growth
DECIMALS = 4  # of the mask: 1 within it, and not 0.9999999, which samplers treat as a soft edge
DISC = 8  # pixels; a wider disc is several of these in a row


@dataclass(frozen=True)
class MaskOptions:
    """ValueError, with the value and the range, where one cannot be.

    - `strength` 0..1: how much of what differs is opened. 0 opens nothing, 1 the whole picture.
    - `softness` 0..64: pixels, the deviation of the Gaussian that softens the edge. 0 is a hard edge.
    - `grow` 0..64: pixels by which the mask is grown before.
    - `noises`: how often the picture is noised; `level` between 0 and 1: how far, as a share of the sampling: near 0
      the highest noise level, near 1 the picture itself. The cost is 2 * `noises` rows of the network for a picture.
    """

    strength: float = DEFAULT_STRENGTH
    softness: float = DEFAULT_SOFTNESS
    grow: int = DEFAULT_GROW
    noises: int = DEFAULT_NOISES
    level: float = DEFAULT_LEVEL

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength of the edit mask is {self.strength}; it must be between 0 and 1.")
        for name in ("softness", "grow"):
            if not 0 <= getattr(self, name) <= MOST_PIXELS:
                raise ValueError(
                    f"{name} of the edit mask is {getattr(self, name)}; it must be 0 to {MOST_PIXELS} pixels."
                )
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level of the edit mask is {self.level}; it must be between 0 and 1, without the ends.")
        if self.noises < 1:
            raise ValueError(f"noises of the edit mask is {self.noises}; it must be at least 1.")


def pair_of(source: Denoiser, edit: Denoiser) -> Pair:
    """Two denoisers as a pair."""
    return lambda x, sigma: (source(x, sigma), edit(x, sigma))


def sigma_of_level(level: float, backbone: Backbone) -> Tensor:
    """The noise level (1,) at a share of the sampling, as ComfyUI's ``percent_to_sigma`` gives it."""
    table = backbone.sigmas()
    return sigma_at(table, torch.tensor([(1.0 - level) * (len(table) - 1)], dtype=table.dtype)).float()


def noise_on_top(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """How the variance-exploding models add noise."""
    return clean + sigma * noise


def edit_difference(
    pair: Pair, clean: Tensor, sigma: Tensor, noises: Sequence[Tensor] | Tensor, add_noise: AddNoise = noise_on_top
) -> Tensor:
    """Root mean square, over noises and channels, of edit minus source: latents (B, c, h, w) -> (B, h, w), 0 or more.

    `clean`: the picture, in unit variance. `sigma` (1,): the noise level. `noises`: each (c, h, w) in unit variance,
    the same for every row, so that a row does not depend on the others. Cost: 2 rows of the network for each noise and
    picture. ValueError without noises, and where a difference is no number.
    """
    if len(noises) == 0:
        raise ValueError("The edit mask needs at least one noise, and got none.")
    sigmas = sigma.to(clean).expand(len(clean))
    total = clean.new_zeros(len(clean), *clean.shape[2:])
    for noise in noises:
        x = add_noise(clean, noise.to(clean).expand_as(clean), sigmas.view(-1, 1, 1, 1))
        source, edit = pair(x, sigmas)
        total += (edit - source).float().square().mean(dim=1)
    if not total.isfinite().all():
        raise ValueError(
            "The edit mask compares two predictions, and one of them holds NaN or infinite numbers. The diffusion "
            "model overflowed: use bf16 or fp32."
        )
    return (total / len(noises)).sqrt()


def find_mask(pair: Pair, clean: Tensor, backbone: Backbone, options: MaskOptions, seed: int = MASK_SEED) -> Tensor:
    """Latents (B, c, h, w) of unit variance -> masks (B, H, W) in [0, 1], as the node Edit Mask finds them for the
    seed."""
    noises = draw_noise((options.noises, *clean.shape[1:]), seed)
    difference = edit_difference(pair, clean, sigma_of_level(options.level, backbone), list(noises))
    return cut_mask(difference, backbone.latent.step, options)


def cut_mask(difference: Tensor, step: int, options: MaskOptions) -> Tensor:
    """Differences (B, h, w) of ``edit_difference`` -> masks (B, h * step, w * step) in [0, 1], 1 where the edit paints.

    `step`: pixels a place of the latent. Between a picture's FLOOR and TOP quantiles, the mask holds what lies above a
    cut of 1 - strength and is connected with what lies clearly above it (hysteresis, as in Canny 1986). The edge is
    drawn finer than the latent's places. Where the floor is high, everything changes, and the mask is 1 everywhere.
    Where nothing differs it is 0.
    """
    smooth = _blurred(difference.float().square(), SMOOTHING).clamp_min(0).sqrt()
    floor, top = (smooth.flatten(1).quantile(share, dim=1).view(-1, 1, 1) for share in (FLOOR, TOP))
    share = ((smooth - floor) / (top - floor).clamp_min(torch.finfo(smooth.dtype).tiny)).clamp(0, 1)
    cut = 1.0 - options.strength
    start = cut * (1.0 + RAMP) - RAMP  # 0 at the start of the ramp: all of the picture for cut 0, nothing for cut 1
    seeds = share > cut + SEEDS * (1.0 - cut)
    share = share * _around(_connected(seeds, share > start))
    fine = F.interpolate(share[:, None], scale_factor=step, mode="bilinear")[:, 0]
    mask = _grown(((fine - start) / RAMP).clamp(0, 1), options.grow)
    mask = _blurred(mask, options.softness) if options.softness > 0 else (mask >= 0.5).to(mask)
    mask = mask.clamp(0, 1).round(decimals=DECIMALS)
    if options.strength > 0:
        mask = mask.masked_fill(floor > EVEN * top, 1.0)
    return mask.masked_fill(top <= LEAST_DIFFERENCE, 0.0)


def within(mask: Tensor, limit: Tensor | None) -> Tensor:
    """A mask (H, W) times another of any size, which is scaled to it; itself where there is none."""
    if limit is None:
        return mask
    if limit.shape != mask.shape:
        limit = F.interpolate(limit[None, None].float(), mask.shape, mode="bilinear")[0, 0]
    return mask * limit.to(mask)


def _connected(seeds: Tensor, allowed: Tensor) -> Tensor:
    """(B, h, w) bool: the places of `allowed` that a path in it joins to one of the `seeds`."""
    reached = seeds & allowed
    while True:
        wider = _around(reached).bool() & allowed
        if torch.equal(wider, reached):
            return reached
        reached = wider


def _around(places: Tensor) -> Tensor:
    """(B, h, w) bool -> float: 1 at each place and its eight neighbours."""
    return F.max_pool2d(places[:, None].float(), 3, stride=1, padding=1)[:, 0]


def _blurred(x: Tensor, deviation: float) -> Tensor:
    """(B, h, w) under a Gaussian of this deviation in places; the border is repeated."""
    reach = max(1, round(3 * deviation))
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = (-(offsets**2) / (2 * deviation**2)).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(x[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


def _grown(mask: Tensor, pixels: int) -> Tensor:
    """Masks (B, H, W), each pixel the largest within a disc of this radius."""
    while pixels > 0:
        mask = _under_disc(mask, min(pixels, DISC))
        pixels -= DISC
    return mask


def _under_disc(mask: Tensor, radius: int) -> Tensor:
    height, grown = mask.shape[1], mask.clone()
    for down in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        across = int((radius**2 - down**2) ** 0.5)
        wide = F.max_pool2d(mask[:, None], (1, 2 * across + 1), stride=1, padding=(0, across))[:, 0]
        to = grown[:, max(0, down) : height + min(0, down)]
        torch.maximum(to, wide[:, max(0, -down) : height - max(0, down)], out=to)
    return grown
