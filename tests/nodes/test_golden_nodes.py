"""eps of a ComfyUI MODEL against the authors' UNets: a diffusers-format UNet and its converted form agree."""

import pytest
import torch
from any2pix.nodes import ApplyEmbedding
from any2pix.nodes.sockets import Embedding
from golden_inputs import seeded, two_view, unclip, unet
from harness.unet_eps import unet_eps

TOLERANCE = 1e-4  # relative error of every output, issue 3
WIDGETS = {"start_percent": 0.0, "end_percent": 1.0, "local_strength": two_view.LOCAL_STRENGTH}


@pytest.fixture(scope="module", params=["small", pytest.param("wide", marks=pytest.mark.slow)])
def size(request):
    return request.param


@pytest.fixture(scope="module")
def model(size, tiny):
    """The golden's UNet through the loader's own conversion."""
    from any2pix.nodes.host.sdxl import build_model
    from diffusers import UNet2DConditionModel

    config = unet.config(size)
    with torch.device("meta"):
        network = UNet2DConditionModel(**config)
    network.to_empty(device="cpu")
    seeded.fill(network, unet.SEED)
    return build_model(network.state_dict(), config, "golden")


def adapter_of(build, dims, seed):
    from any2pix.nodes.host.networks import OPERATIONS, wrap_network

    network = build(dims, OPERATIONS)
    seeded.fill(network, seed)
    return wrap_network(network)


def vector(row) -> Embedding:
    return Embedding(None if row is None else row[0])


def test_two_view_eps_is_the_authors(run, model, size):
    from any2pix.models.two_view import TwoViewAdapter, TwoViewDims
    from any2pix.nodes.host.attention import cross_attentions

    golden, given = seeded.load(f"two_view_{size}"), unet.inputs(size)
    widths = tuple(width for _, width in cross_attentions(model.model.diffusion_model))
    dims = TwoViewDims(unet.EMBED[size], unet.SIZES[size]["context"], widths, two_view.TOKENS)
    adapter = adapter_of(TwoViewAdapter, dims, golden.notes["seed"])
    text = [[given["text"], {"pooled_output": given["pooled"]}]]

    def eps(side, mode, whole, local, scale=1.0):
        inputs = {"model": model, "adapter": adapter, "positive": text, "negative": text, "view": mode, **WIDGETS}
        whole, local = vector(given["whole"] if whole else None), vector(given["local"]) if local else None
        painting, *sides = run(ApplyEmbedding, **inputs, embedding=whole, local=local, scale=scale)
        return unet_eps(painting, sides[side], given["latents"], unet.TIMESTEP)

    errors = {}
    for name, (mode, whole, local) in two_view.VIEWS.items():
        errors[name] = seeded.relative_error(eps(0, mode, whole, local), golden[f"eps/{name}"])
        nothing = f"unconditional {mode}"
        errors[nothing] = seeded.relative_error(eps(1, mode, whole, local), golden[f"eps/{nothing}"])
    weaker = eps(0, *two_view.VIEWS["global"], scale=two_view.SCALE)
    errors["weaker"] = seeded.relative_error(weaker, golden[f"eps/global at {two_view.SCALE}"])
    assert max(errors.values()) < TOLERANCE, errors
    assert seeded.relative_error(golden["eps/global"], golden["eps/unconditional global"]) > 100 * TOLERANCE


def test_unclip_eps_is_the_authors(run, model, size):
    from any2pix.models.adapter import UnclipDims, UnclipProjector

    golden, given, shape = seeded.load(f"unclip_{size}"), unet.inputs(size), unet.SIZES[size]
    dims = UnclipDims(unet.EMBED[size], unclip.hidden(size), shape["context"], shape["pooled"], unclip.POOLED_IN)
    adapter = adapter_of(UnclipProjector, dims, golden.notes["seed"])
    inputs = {"model": model, "adapter": adapter, "embedding": vector(given["whole"]), "scale": 1.0, "view": "global"}
    painting, *sides = run(ApplyEmbedding, **inputs, **WIDGETS)
    for side, name in zip(sides, ("eps", "eps/unconditional"), strict=True):
        error = seeded.relative_error(unet_eps(painting, side, given["latents"], unet.TIMESTEP), golden[name])
        assert error < TOLERANCE, (name, error)
