"""The first release's UNet, whose two projections make the context and the pooled vector from H: both and eps."""

import torch
from golden_inputs import seeded, unet
from golden_inputs.unclip import POOLED_IN, SEED, hidden
from torch import Tensor

from . import authors


def make(options, size: str) -> None:
    """Write unclip_<size>.safetensors: context (1, 1, C), pooled (1, P), and eps for H and for zeros."""
    network = _build(options, size)
    given = unet.inputs(size)
    vector = given["whole"][:, None]  # (1, 1, D), the pipeline's prompt_embeds
    with torch.no_grad():
        outputs = {
            "context": network.projector_unclip(vector),
            "pooled": network.projector_unclip2(torch.zeros(1, POOLED_IN)),
            "eps": _eps(network, given["latents"], vector),
            "eps/unconditional": _eps(network, given["latents"], torch.zeros_like(vector)),
        }
    seeded.save(f"unclip_{size}", outputs, {"seed": SEED, **options.notes("first_release")})


def _eps(network, latents: Tensor, vector: Tensor) -> Tensor:
    conditions = unet.added(torch.zeros(1, POOLED_IN))
    return network(
        latents, unet.TIMESTEP, vector, None, None, None, None, conditions, None, None, None, None, True
    ).sample


def _build(options, size: str):
    authors.package("instructany2pix", options.first_release / "instructany2pix")
    authors.stand_in("torchaudio")
    from instructany2pix.diffusion.sdxl_img2img_pipeline import UnCLipXL

    shape = unet.SIZES[size]
    sizes = {"adapt_project_dim": [unet.EMBED[size], hidden(size), shape["context"]]}
    sizes["adapt_project_dim_2"] = [POOLED_IN, hidden(size), shape["pooled"]]
    network = UnCLipXL(**sizes, **unet.config(size)).eval()
    seeded.fill(network, SEED)
    return network
