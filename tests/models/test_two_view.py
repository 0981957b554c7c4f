"""The two-view IP-Adapter: layout, formula, gradients."""

import pytest
import torch
from any2pix.models.two_view import VIEWS, TwoViewAdapter, TwoViewDims
from torch.nn.functional import layer_norm
from torch.testing import assert_close

DIMS = TwoViewDims(embed=8, context=6, widths=(4, 10, 4), tokens=3)


@pytest.fixture
def adapter():
    torch.manual_seed(0)
    adapter = TwoViewAdapter(DIMS)
    torch.nn.init.normal_(adapter.image_proj.raw_embed)
    return adapter


@pytest.fixture
def views():
    return torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), torch.randn(
        2, 8, generator=torch.Generator().manual_seed(2)
    )


def test_published_layout():
    dims = TwoViewDims.published()
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in TwoViewAdapter(dims).state_dict().items()}
    assert shapes["image_proj.raw_embed"] == (2, 2048)
    assert shapes["image_proj.proj.weight"] == (4 * 2048, 1024) and shapes["image_proj.norm.weight"] == (2048,)
    assert shapes["ip_adapter.1.to_k_ip.weight"] == (640, 2048) and shapes["ip_adapter.139.to_v_ip.weight"] == (
        1280,
        2048,
    )
    assert len(shapes) == 5 + 2 * 70
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 349_192_192


def test_published_widths_are_those_of_diffusers_sdxl():
    from any2pix.models.diffusion import DiffusionDims
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**DiffusionDims().unet_config())
    names = [name.removesuffix(".processor") for name in unet.attn_processors]
    assert all(name.endswith("attn2") for name in names[1::2]) and not any(
        name.endswith("attn2") for name in names[::2]
    )
    assert TwoViewDims.published().widths == tuple(unet.get_submodule(name).to_k.out_features for name in names[1::2])


def by_hand(adapter, whole, local, view, strength):
    """The authors' forward, view by view."""
    proj, marks, norm = adapter.image_proj.proj, adapter.image_proj.raw_embed, adapter.image_proj.norm
    g, own = proj(whole).reshape(2, 3, 6), proj(local).reshape(2, 3, 6)
    own = g * (1 - strength) + own * strength
    kept = {"both": [g + marks[0], own + marks[1]], "global": [g + marks[0]], "local": [own + marks[1]]}[view]
    return layer_norm(torch.cat(kept, dim=1), (6,), norm.weight, norm.bias)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_tokens_are_the_published_formula(adapter, views, view, strength):
    tokens = adapter.tokens(*views, view, strength)
    assert tokens.shape == (2, 6 if view == "both" else 3, 6)
    assert_close(tokens, by_hand(adapter, *views, view, strength))


@pytest.mark.parametrize("view", VIEWS)
def test_an_absent_view_is_zeros_and_two_are_the_unconditional_tokens(adapter, views, view):
    nothing = torch.zeros(2, 8)
    assert torch.equal(adapter.tokens(views[0], None, view), adapter.tokens(views[0], nothing, view))
    assert torch.equal(adapter.tokens(None, views[1], view), adapter.tokens(nothing, views[1], view))
    unconditional = adapter.tokens(None, None, view)
    assert_close(unconditional.expand(2, -1, -1), adapter.tokens(nothing, nothing, view))
    assert_close(unconditional, adapter.tokens(None, None, view, local_strength=0.9))


def test_gradients_reach_every_parameter_and_both_views(adapter, views):
    whole, local = (view.requires_grad_() for view in views)
    tokens = adapter.tokens(whole, local, "both", 0.5)
    sum(
        keys.sin().sum() + values.cos().sum() for keys, values in (layer(tokens) for layer in adapter.layers)
    ).backward()
    assert whole.grad.abs().sum() > 0 and local.grad.abs().sum() > 0
    for name, parameter in adapter.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_bf16_on_the_cpu(adapter, views):
    exact = adapter.tokens(*views, "both")
    half = adapter.to(torch.bfloat16).tokens(*(view.bfloat16() for view in views), "both")
    assert half.dtype == torch.bfloat16
    assert_close(half.float(), exact, atol=0.05, rtol=0.05)
    keys, values = adapter.layers[1](half)
    assert keys.shape == values.shape == (2, 6, 10) and keys.dtype == torch.bfloat16


def test_a_foreign_embedding_width_is_named(adapter):
    with pytest.raises(ValueError, match=r"shape \(B, 8\), got \(1, 1024\)"):
        adapter.tokens(None, torch.zeros(1, 1024))


def test_an_unknown_view_is_named(adapter, views):
    with pytest.raises(ValueError, match="'two'. Choose one of both, global, local"):
        adapter.tokens(*views, "two")


def test_dims_survive_their_dict():
    assert TwoViewDims(**DIMS.to_dict()) == DIMS
