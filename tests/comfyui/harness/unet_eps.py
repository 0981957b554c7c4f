"""What the UNet of a ComfyUI MODEL gives, through ComfyUI's own guider and samplers. For tests with ComfyUI in their
process."""

import torch
from torch import Tensor


def unet_eps(model, conditioning, latents: Tensor, timestep: int, uncond=None, cfg: float = 1.0) -> Tensor:
    """eps (B, 4, h, w) of a MODEL at latents (B, 4, h, w) in unit-variance VP scale and a timestep 0..999.

    With ``uncond`` and a ``cfg`` other than 1 the guided eps; both sides then run in one batch where ComfyUI batches
    them.
    """
    import comfy.sample
    import comfy.samplers

    sampling = model.get_model_object("model_sampling")
    sigma = sampling.sigma(torch.tensor([float(timestep)]))
    noisy = latents * (1 + sigma**2).sqrt()  # ComfyUI samples in variance-exploding space
    found = []

    def ask_once(model_function, x, sigmas, extra_args=None, callback=None, disable=None):
        denoised = model_function(noisy.to(x), sigma.to(x).expand(len(x)), **extra_args)
        found.append((noisy.to(x) - denoised) / sigma.to(x))
        return x

    with torch.inference_mode():
        comfy.sample.sample_custom(
            model,
            torch.zeros_like(latents),
            cfg,
            comfy.samplers.KSAMPLER(ask_once),
            torch.tensor([float(sigma), 0.0]),
            conditioning,
            conditioning if uncond is None else uncond,
            torch.zeros_like(latents),
            disable_pbar=True,
        )
    return found[0].cpu()


def seeded(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers, the same for a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(one: Tensor, other: Tensor) -> float:
    """Relative L2 distance."""
    return float((one - other).norm() / other.norm())


def load_network(adapter, dtype: torch.dtype | None = None):
    """An adapter file as Load Embedding Adapter hands it on."""
    from any2pix.loading.adapter import load_adapter
    from any2pix.nodes.host.networks import OPERATIONS, wrap_network

    return wrap_network(load_adapter(adapter, OPERATIONS, dtype=dtype))
