"""Keys and values among a text's: added, in the place of its first ones, or joined to them. The layers here are the
UNet's own, so that tokens are a text and every picture is known."""

import pytest
import torch
from any2pix.nodes.host.attention import View, attach, cross_attentions, with_view
from any2pix.nodes.host.networks import wrap_network
from harness.unet_eps import relative, seeded, unet_eps
from torch import nn

TIMESTEP = 421


class OwnLayers(nn.Module):
    """An adapter whose keys and values of tokens are those that the UNet makes of them as a text."""

    def __init__(self, attentions):
        super().__init__()
        self.layers = [lambda tokens, of=attention: (of.to_k(tokens), of.to_v(tokens)) for attention in attentions]
        self.placeholder = nn.Parameter(torch.zeros(1))


@pytest.fixture(scope="module")
def own(model):
    unet = model.get_model_object("diffusion_model")
    found = []
    for (part, number, index), _ in cross_attentions(unet):
        block = unet.middle_block if part == "middle" else getattr(unet, f"{part}_blocks")[number]
        transformer = next(layer for layer in block if hasattr(layer, "transformer_blocks"))
        found.append(transformer.transformer_blocks[index].attn2)
    return wrap_network(OwnLayers(found))


@pytest.fixture
def eps(model, own, texts, latents):
    """(tokens (1, T, C), scale, policy, text) -> eps of the first text with these tokens beside it."""
    import comfy.model_management

    def eps(tokens=None, scale=1.0, policy="add", text=texts[0]):
        if tokens is None:
            return unet_eps(model, text, latents, TIMESTEP)
        comfy.model_management.load_models_gpu([model, own.patcher])
        given = [[words, with_view(extras, own, View(tokens, scale, policy))] for words, extras in text]
        return unet_eps(attach(model, own), given, latents, TIMESTEP)

    return eps


def with_words(text, words):
    return [[words, extras] for _, extras in text]


def test_another_text_in_the_place_of_the_whole_text_is_that_text(eps, texts):
    other = texts[1][0][0]
    assert torch.equal(eps(other, policy="replace"), eps(text=with_words(texts[0], other)))


def test_the_first_tokens_are_replaced_and_the_rest_stays(eps, texts):
    words, other = texts[0][0][0], texts[1][0][0]
    expected = eps(text=with_words(texts[0], torch.cat([other[:, :5], words[:, 5:]], dim=1)))
    found = eps(other[:, :5], policy="replace")
    assert relative(found, expected) < 1e-5
    assert relative(found, eps()) > 1e-3


def test_its_own_first_tokens_change_nothing(eps, texts):
    assert relative(eps(texts[0][0][0][:, :5], policy="replace"), eps()) < 1e-5


def test_joined_tokens_are_a_longer_text(eps, texts):
    words, more = texts[0][0][0], seeded(1, 9, 48, seed=3)
    found = eps(more, policy="join")
    assert relative(found, eps(text=with_words(texts[0], torch.cat([words, more], dim=1)))) < 1e-5
    assert relative(found, eps()) > 1e-3


@pytest.mark.parametrize("policy", ["add", "replace", "join"])
def test_scale_0_is_the_text_alone(eps, policy):
    assert torch.equal(eps(seeded(1, 9, 48, seed=3), scale=0.0, policy=policy), eps())


@pytest.mark.parametrize("policy", ["replace", "join"])
def test_half_the_scale_lies_between(eps, policy):
    more = seeded(1, 9, 48, seed=3)
    plain, half, whole = eps(), eps(more, 0.5, policy), eps(more, 1.0, policy)
    assert 0 < relative(half, plain) < relative(whole, plain)


def test_two_sides_with_different_numbers_of_tokens_keep_their_own(model, own, texts, latents):
    """A batch that ComfyUI may not make: repeated tokens would take more of the text's place."""
    import comfy.model_management

    comfy.model_management.load_models_gpu([model, own.patcher])
    few, many = seeded(1, 2, 48, seed=4), seeded(1, 6, 48, seed=5)
    painting = attach(model, own)

    def side(text, tokens):
        return [[words, with_view(extras, own, View(tokens, 1.0, "replace"))] for words, extras in text]

    sides = side(texts[0], few), side(texts[1], many)
    alone = [unet_eps(painting, one, latents, TIMESTEP) for one in sides]
    together = unet_eps(painting, sides[0], latents, TIMESTEP, uncond=sides[1], cfg=3.0)
    assert relative(together, alone[1] + 3.0 * (alone[0] - alone[1])) < 1e-5


def test_an_unknown_policy_is_named():
    with pytest.raises(ValueError, match="policy of the attention is 'mix'.*Choose one of add, replace, join"):
        View(torch.zeros(1, 1, 1), 1.0, "mix")
