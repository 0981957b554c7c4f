"""A diffusers UNet seen as k-diffusion's denoiser, with classifier-free guidance; for work outside ComfyUI."""

import torch
from torch import Tensor

from ..models.diffusion import EmbeddingDiffusion
from .sample import train_sigmas


class GuidedDenoiser:
    """`denoiser(x, sigma)`: x (B, 4, h, w) = z + sigma * e -> the denoised z, guided from `negative` to `positive`.

    `positive` (B, D) or (1, D) are the embeddings H to paint; `negative` those to lead away from, by default the zeros of
    the unconditional model. `guidance` 1 runs the positive pass alone (Ho and Salimans, arXiv 2207.12598).
    """

    def __init__(self, diffusion: EmbeddingDiffusion, positive: Tensor, negative: Tensor | None = None, guidance: float = 1.0):
        self.diffusion = diffusion
        self.positive = positive
        self.negative = torch.zeros_like(positive) if negative is None else negative
        self.guidance = guidance
        self.log_sigmas = train_sigmas().log().float()
        self.calls = 0

    def timestep(self, sigma: Tensor) -> Tensor:
        """The training timestep nearest in log sigma, as ComfyUI picks it: (B,) -> (B,) int."""
        distance = sigma.log()[:, None].cpu() - self.log_sigmas[None]
        return distance.abs().argmin(dim=1).to(sigma.device)

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls += 1
        level = sigma.view(-1, 1, 1, 1)
        z = x / (1 + level**2).sqrt()
        timesteps = self.timestep(sigma)
        positive = self.positive.expand(len(x), -1)
        if self.guidance == 1.0:
            return x - level * self.diffusion.predict_noise(z, timesteps, positive)
        both = torch.cat([positive, self.negative.expand(len(x), -1)])
        eps = self.diffusion.predict_noise(torch.cat([z, z]), torch.cat([timesteps, timesteps]), both)
        conditional, unconditional = eps.chunk(2)
        return x - level * (unconditional + self.guidance * (conditional - unconditional))
