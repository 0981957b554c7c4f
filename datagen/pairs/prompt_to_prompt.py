"""Two pictures of two captions that share what the captions share: Prompt-to-Prompt sampling (arXiv 2208.01626)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...models.diffusion import Conditioning, run_unet
from .alignment import Alignment
from .attention_control import Control, Record, controlled

SHARE_RANGE = (0.1, 0.9)  # of p, InstructPix2Pix sec. 3.1.2
GUIDANCE_RANGE = (7.5, 15.0)  # of the guidance scale, InstructPix2Pix's dataset_creation/generate_img_dataset.py
Progress = Callable[[int, int], None]


@torch.no_grad()
def sample_pairs(
    unet: nn.Module,
    scheduler,
    texts: Conditioning,
    alignment: Alignment,
    noise: Tensor,
    shares: Tensor,
    guidance: Tensor,
    steps: int,
    maps: str = "both",
    record: Record | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Clean latents of N candidates (N, 2, c, h, w), float32: the source caption's picture, then the edited one's.

    `texts`: the empty prompt, the source caption, the edited caption. `noise` (N, c, h, w) of unit variance: both
    pictures of a candidate start from one. `shares` (N,) in [0, 1]: the part of the steps, from the first on, in which
    the source's attention maps are injected. `guidance` (N,): classifier-free guidance scales. `scheduler`: a diffusers
    scheduler that draws no noise of its own, such as DDIM. `progress(step, steps)` may raise to stop.
    """
    _check(texts, noise, shares, guidance, steps)
    count = len(noise)
    scheduler.set_timesteps(steps, device=noise.device)
    latents = (noise.float() * scheduler.init_noise_sigma).repeat_interleave(2, 0)  # rounded only for the UNet
    conditioning = texts.rows([0, 0] * count + [1, 2] * count)
    scale = guidance.to(latents).repeat_interleave(2).view(-1, 1, 1, 1)
    injected = (shares.cpu() * steps).round()  # the number of steps with the source's maps
    control = Control(alignment, count, maps, record=record)
    with controlled(unet, control):
        for step, timestep in enumerate(scheduler.timesteps):
            control.active = step < injected
            rows = scheduler.scale_model_input(latents.repeat(2, 1, 1, 1), timestep)
            prediction = run_unet(unet, rows.to(conditioning.context), timestep, conditioning)
            unconditional, conditional = prediction.float().chunk(2)
            guided = unconditional + scale * (conditional - unconditional)
            latents = scheduler.step(guided, timestep, latents).prev_sample
            if progress is not None:
                progress(step + 1, steps)
    return latents.view(count, 2, *noise.shape[1:])


def draw(count: int, span: tuple[float, float], generator: torch.Generator) -> Tensor:
    """`count` numbers, evenly distributed over `span`."""
    low, high = span
    return low + (high - low) * torch.rand(count, generator=generator)


def _check(texts: Conditioning, noise: Tensor, shares: Tensor, guidance: Tensor, steps: int) -> None:
    if len(texts.context) != 3:
        raise ValueError(
            f"{len(texts.context)} texts were given; three are needed: the empty prompt, source and edited caption."
        )
    if not len(noise) == len(shares) == len(guidance):
        raise ValueError(
            f"{len(noise)} noises, {len(shares)} shares and {len(guidance)} guidance scales: give one of each a "
            f"candidate."
        )
    if ((shares < 0) | (shares > 1)).any():
        raise ValueError(f"The shares of injected steps {shares.tolist()} are not all between 0 and 1.")
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1.")
