"""The UNet's side against the authors' numbers: unCLIP context, pooled and eps; two-view tokens; DDIM inversion."""

import pytest
import torch
from any2pix.models.adapter import UnclipDims, UnclipProjector
from any2pix.models.backbone import SDXL
from any2pix.models.diffusion import DiffusionDims, EmbeddingDiffusion
from any2pix.models.two_view import TwoViewAdapter, TwoViewDims
from any2pix.stages.invert import ddim_invert
from diffusers import UNet2DConditionModel
from golden_inputs import inversion, seeded, two_view, unclip, unet

TOLERANCE = 1e-4  # relative error of every output, issue 3
SIZES = ["small", pytest.param("wide", marks=pytest.mark.slow)]


def diffusion_unet(size: str) -> UNet2DConditionModel:
    with seeded.Unfilled():
        network = UNet2DConditionModel(**DiffusionDims(**unet.SIZES[size]).unet_config()).eval().requires_grad_(False)
    seeded.fill(network, unet.SEED)
    return network


@pytest.mark.parametrize("size", SIZES)
def test_unclip_is_the_authors(size):
    golden, given, shape = seeded.load(f"unclip_{size}"), unet.inputs(size), unet.SIZES[size]
    dims = UnclipDims(unet.EMBED[size], unclip.hidden(size), shape["context"], shape["pooled"], unclip.POOLED_IN)
    projector = UnclipProjector(dims).eval().requires_grad_(False)
    seeded.fill(projector, golden.notes["seed"])
    context, pooled = projector(given["whole"])
    diffusion = EmbeddingDiffusion(diffusion_unet(size), projector)
    timesteps = torch.tensor([unet.TIMESTEP])
    ours = {
        "context": context,
        "pooled": pooled,
        "eps": diffusion.predict(given["latents"], timesteps, diffusion.condition(given["whole"])),
        "eps/unconditional": diffusion.predict(
            given["latents"], timesteps, diffusion.condition(torch.zeros_like(given["whole"]))
        ),
    }
    errors = {name: seeded.relative_error(value, golden[name]) for name, value in ours.items()}
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("size", SIZES)
def test_image_tokens_are_the_authors(size):
    golden, given = seeded.load(f"two_view_{size}"), unet.inputs(size)
    dims = TwoViewDims(unet.EMBED[size], unet.SIZES[size]["context"], widths=(8,), tokens=two_view.TOKENS)
    adapter = TwoViewAdapter(dims).eval().requires_grad_(False)
    seeded.fill(adapter, golden.notes["seed"])
    errors = {}
    for name, (mode, whole, local) in two_view.VIEWS.items():
        views = given["whole"] if whole else None, given["local"] if local else None
        cases = {name: views, f"unconditional {mode}": (None, None)}
        for case, (first, second) in cases.items():
            ours = adapter.tokens(first, second, mode, two_view.LOCAL_STRENGTH)
            errors[case] = seeded.relative_error(ours, golden[f"tokens/{case}"])
    assert len(errors) == 7 and max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("steps", inversion.STEPS)
def test_plain_ddim_inversion_is_the_authors(steps):
    golden, given, network = seeded.load("inversion"), unet.inputs("small"), diffusion_unet("small")
    inversion.quieten(network)
    table, timesteps = SDXL.sigmas(), golden[f"timesteps/{steps}"]

    def denoise(x, sigma):  # variance-exploding space around a network that sees variance-preserving latents
        timestep = (table - sigma[0]).abs().argmin()
        level = (1 + sigma**2).sqrt().view(-1, 1, 1, 1)
        eps = network(x / level, timestep, given["text"], added_cond_kwargs=unet.added(given["pooled"])).sample
        return x - sigma.view(-1, 1, 1, 1) * eps

    # The released inversion takes the clean latent for one of the schedule's lowest noise level.
    sigmas = table[torch.cat([torch.zeros(1, dtype=torch.long), timesteps])].float()
    raised = ddim_invert(denoise, inversion.start() * (1 + sigmas[0] ** 2).sqrt(), sigmas, iterations=1)
    ours = raised / (1 + sigmas[-1] ** 2).sqrt()
    assert seeded.relative_error(ours, golden[f"inverted/{steps}"]) < TOLERANCE
