"""All stages in a row, with networks small enough to know what they must do."""

import pytest
import torch
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.diffusion import EmbeddingDiffusion
from any2pix.stages import edit as edit_stage
from any2pix.stages.edit import (
    EditOptions,
    Networks,
    at_norm,
    decode_pictures,
    edit_picture,
    encode_pictures,
    invert_pictures,
    mix_plan,
    paint,
)
from any2pix.stages.types import EditPlan, Reference
from torch import nn

EMBED = 8


class Paintless(EmbeddingDiffusion):
    """A denoiser with a smooth, weak, embedding-dependent field instead of a UNet."""

    def __init__(self):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: list[torch.Tensor] = []

    def condition(self, embedding):
        self.asked.append(embedding.clone())
        return embedding

    def predict_noise(self, latents, timesteps, embedding):
        return 0.3 * torch.tanh(latents) + 0.05 * embedding.mean(dim=1).view(-1, 1, 1, 1)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    vae = Autoencoder(AutoencoderDims(widths=(32, 32, 32), blocks=1, patch=2)).eval()
    return Networks(imagebind=None, llm=None, diffusion=Paintless(), vae=vae, prior=None)


@pytest.fixture
def planned(monkeypatch):
    """The LLM's part, fixed: edit the first reference."""
    plan = EditPlan(edit=torch.ones(EMBED), base=torch.eye(EMBED)[0], caption="a cat")
    monkeypatch.setattr(edit_stage, "instruct", lambda *_, **__: plan)
    return plan


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(1))


def own(count: int = 2) -> torch.Tensor:
    return torch.eye(EMBED)[:count]


def test_inversion_then_sampling_gives_the_round_trip_back(networks):
    options = EditOptions(alpha=1.0, cfg=1.0, steps=20, iterations=30, tolerance=1e-7)
    inverted = invert_pictures(networks, pictures(), own(), options)
    painted = paint(networks, at_norm(own(), options.norm), options, inverted)
    expected = decode_pictures(networks.vae, encode_pictures(networks.vae, pictures()))
    torch.testing.assert_close(painted, expected, atol=2e-3, rtol=0)


def test_a_batch_paints_as_its_members_do(networks):
    options = EditOptions(steps=5, tolerance=0.0)
    both = invert_pictures(networks, pictures(), own(), options)
    single = invert_pictures(networks, pictures()[1:], own()[1:], options)
    torch.testing.assert_close(both[1:], single, atol=1e-4, rtol=1e-4)


def test_alpha_0_forgets_the_source(networks):
    options = EditOptions(alpha=0.0, mode="polar", steps=4, negative="null")
    inverted = invert_pictures(networks, pictures(), own(), options)
    seeded = [torch.Generator().manual_seed(5) for _ in range(2)]
    first = paint(networks, own(), options, inverted, generator=seeded[0])
    second = paint(networks, own(), options, inverted.flip(0), generator=seeded[1])
    torch.testing.assert_close(first, second)


def test_negative_source_leads_away_from_the_base(networks):
    options = EditOptions(steps=2, negative="source", cfg=3.0)
    paint(networks, torch.ones(1, EMBED), options, torch.zeros(1, 4, 4, 4) + 0.1, own(1))
    positive, negative = networks.diffusion.asked[0]
    torch.testing.assert_close(positive, torch.ones(EMBED))
    torch.testing.assert_close(negative, at_norm(own(1), options.norm)[0])


def test_negative_null_and_inversion_null_are_zeros(networks):
    options = EditOptions(steps=2, negative="null", inversion="null", cfg=3.0)
    inverted = invert_pictures(networks, pictures(1), own(1), options)
    assert [asked.abs().sum() for asked in networks.diffusion.asked] == [0]
    networks.diffusion.asked.clear()
    paint(networks, torch.ones(1, EMBED), options, inverted, own(1))
    assert networks.diffusion.asked[0][1].abs().sum() == 0
    assert len(networks.diffusion.asked) == 1, "the embeddings are projected once, not at every step"


def test_without_a_prior_the_edit_embedding_stands_alone(planned):
    mixed = mix_plan(None, planned, EditOptions(edit_weight=0.0))
    torch.testing.assert_close(mixed, at_norm(planned.edit[None], 20.0)[0])


def test_edit_picture_runs_everything(networks, planned):
    base = Reference(torch.eye(EMBED)[0], "image", pictures(1)[0])
    sound = Reference(20 * torch.eye(EMBED)[0], "audio")
    result = edit_picture(networks, (sound, base), "add [audio1] to [image1]", EditOptions(steps=3))
    assert result.base_index == 1
    assert result.image.shape == (32, 32, 3) and result.image.min() >= 0 and result.image.max() <= 1
    assert result.plan is planned


def test_no_base_paints_from_noise(networks, monkeypatch):
    monkeypatch.setattr(edit_stage, "instruct", lambda *_, **__: EditPlan(torch.ones(EMBED), None, "a cat"))
    result = edit_picture(networks, (), "a cat", EditOptions(steps=3), size=(64, 32))
    assert result.base_index is None and result.image.shape == (64, 32, 3)


def test_the_same_generator_seed_gives_the_same_picture(networks, planned):
    base = Reference(torch.eye(EMBED)[0], "image", pictures(1)[0])
    options = EditOptions(steps=3, alpha=0.5)
    images = [
        edit_picture(networks, (base,), "[image1]", options, torch.Generator().manual_seed(seed)).image
        for seed in (1, 1, 2)
    ]
    torch.testing.assert_close(images[0], images[1], rtol=0, atol=0)
    assert not torch.equal(images[0], images[2])


def test_odd_sizes_are_cropped_to_the_latent_grid(networks):
    assert encode_pictures(networks.vae, torch.rand(1, 37, 45, 3)).shape == (1, 4, 4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, "alpha lies between 0 and 1, got 1.5"),
        ({"negative": "none"}, "negative is 'none'; choose one of: null, source"),
        ({"mode": "linear"}, "mode is 'linear'"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_bad_options_name_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        EditOptions(**change)
