"""The pipeline, with networks small enough to work out what they must do."""

from dataclasses import replace

import pytest
import torch
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.backbone import MINIATURE
from any2pix.models.diffusion import EmbeddingDiffusion
from any2pix.models.mm_llm import EMBED_NORM
from any2pix.stages.any2pix import pipeline
from any2pix.stages.any2pix.options import EditOptions
from any2pix.stages.any2pix.pipeline import (
    STEPS,
    EditJob,
    Networks,
    PlannedEdit,
    edit_pictures,
    invert_edits,
    mix_edits,
    paint_edits,
)
from any2pix.stages.latents import decode_pictures, encode_pictures
from any2pix.stages.length import to_length
from any2pix.stages.types import EditPlan, Reference
from torch import nn

EMBED = 8
PLAN = EditPlan(edit=torch.ones(EMBED), base=torch.eye(EMBED)[0], caption="a cat")


class Paintless(EmbeddingDiffusion):
    """A denoiser with a smooth, weak, embedding-dependent field instead of a UNet."""

    backbone = MINIATURE

    def __init__(self):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: list[torch.Tensor] = []
        self.calls = 0

    def condition(self, embedding):
        self.asked.append(embedding.clone())
        return embedding

    def predict(self, latents, timesteps, embedding):
        self.calls += 1
        return 0.3 * torch.tanh(latents) + 0.05 * embedding.mean(dim=1).view(-1, 1, 1, 1)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    vae = Autoencoder(AutoencoderDims(widths=(32, 32, 32), blocks=1, patch=2)).eval()
    return Networks(imagebind=None, llm=None, diffusion=Paintless(), vae=vae, prior=None)


@pytest.fixture
def answers(monkeypatch):
    """What the LLM answers to each job, in order: the plan, or the error."""
    answers = []
    monkeypatch.setattr(pipeline, "instruct_batch", lambda *_, **__: answers)
    return answers


def picture(number: int = 0, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(number))


def edit_of(number: int = 0, **job) -> PlannedEdit:
    """An edit of a picture of its own, with an embedding of its own."""
    reference = Reference(torch.eye(EMBED)[number], "image", picture(number))
    return PlannedEdit(EditJob("", references=(reference,), **job), (reference,), PLAN, 0)


def round_trip(networks, *pictures):
    return decode_pictures(networks.vae, encode_pictures(networks.vae, torch.stack(pictures)))


def test_inversion_then_sampling_gives_the_round_trip_back(networks):
    options = EditOptions(alpha=1.0, cfg=1.0, steps=20, iterations=30, tolerance=1e-7)
    edits = [edit_of(0), edit_of(1)]
    own = [to_length(edit.base.embedding, options.norm) for edit in edits]
    painted = paint_edits(networks, edits, own, invert_edits(networks, edits, options), options)
    torch.testing.assert_close(torch.stack(painted), round_trip(networks, picture(0), picture(1)), atol=2e-3, rtol=0)


@pytest.mark.parametrize("start", [0, 6])
def test_a_partial_inversion_comes_back_too(networks, start):
    options = EditOptions(cfg=1.0, steps=20, iterations=30, tolerance=1e-7, start_at_step=start)
    edit = edit_of()
    inverted = invert_edits(networks, [edit], options)
    networks.diffusion.calls = 0
    (painted,) = paint_edits(networks, [edit], [to_length(edit.base.embedding, options.norm)], inverted, options)
    assert networks.diffusion.calls == 20 - start
    torch.testing.assert_close(painted, round_trip(networks, picture(0))[0], atol=2e-3, rtol=0)


def test_a_batch_paints_as_its_members_do(networks):
    options = EditOptions(steps=5, tolerance=0.0, alpha=0.6)
    edits = [edit_of(0, seed=3), edit_of(1, seed=4), edit_of(2, seed=3, mask=torch.ones(32, 32))]
    together = edit_all(networks, edits, options)
    alone = [edit_all(networks, [edit], options)[0] for edit in edits]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def edit_all(networks, edits, options):
    return paint_edits(
        networks, edits, mix_edits(networks, edits, options), invert_edits(networks, edits, options), options
    )


def test_edits_of_one_picture_share_its_inversion(networks):
    edits = [edit_of(0, seed=1), edit_of(0, seed=2), edit_of(1)]
    first, again, other = invert_edits(networks, edits, EditOptions(steps=2))
    assert first is again and first is not other


def test_alpha_0_forgets_the_source(networks):
    options = EditOptions(alpha=0.0, mode="polar", steps=4)
    edits = [edit_of(0, seed=5), edit_of(1, seed=5), edit_of(0, seed=6)]
    same = [torch.ones(EMBED)] * 3
    first, second, other = paint_edits(networks, edits, same, invert_edits(networks, edits, options), options)
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, other, atol=0.01)


@pytest.mark.parametrize("start", [0, 2])
def test_outside_a_mask_the_latent_stays(networks, start):
    mask = torch.zeros(32, 32)
    mask[:, 16:] = 1
    edit, options = edit_of(0, mask=mask, seed=9), EditOptions(steps=4, alpha=0.2, start_at_step=start)
    painted = {}

    def hook(name, step):
        painted[name] = step()
        return painted[name]

    inverted = invert_edits(networks, [edit], options)
    paint_edits(networks, [edit], [torch.ones(EMBED)], inverted, options, hook)
    clean, latent = encode_pictures(networks.vae, picture(0)[None]), painted["paint"]
    torch.testing.assert_close(latent[..., :2], clean[..., :2], rtol=0, atol=1e-5)
    assert (latent - clean)[..., 2:].abs().mean() > 0.1


def test_a_mask_of_ones_is_no_mask(networks):
    options = EditOptions(steps=4, alpha=0.5)
    masked, free = (edit_all(networks, [edit_of(0, mask=mask)], options)[0] for mask in (torch.ones(32, 32), None))
    torch.testing.assert_close(masked, free, atol=1e-5, rtol=1e-4)


def test_negative_source_leads_away_from_the_base(networks):
    options = EditOptions(steps=2, negative="source", cfg=3.0)
    edit = edit_of()
    inverted = invert_edits(networks, [edit], options)
    networks.diffusion.asked.clear()
    paint_edits(networks, [edit], [torch.ones(EMBED)], inverted, options)
    positive, negative = networks.diffusion.asked[0]
    torch.testing.assert_close(positive, torch.ones(EMBED))
    torch.testing.assert_close(negative, to_length(torch.eye(EMBED)[0], options.norm))


def test_negative_null_and_inversion_null_are_zeros(networks):
    options = EditOptions(steps=2, negative="null", inversion="null", cfg=3.0)
    inverted = invert_edits(networks, [edit_of()], options)
    assert [asked.abs().sum() for asked in networks.diffusion.asked] == [0]
    networks.diffusion.asked.clear()
    paint_edits(networks, [edit_of()], [torch.ones(EMBED)], inverted, options)
    assert networks.diffusion.asked[0][1].abs().sum() == 0
    assert len(networks.diffusion.asked) == 1, "the embeddings are projected once, not at every step"


def test_guidance_of_the_inversion_asks_for_the_unconditional_model_too(networks):
    invert_edits(networks, [edit_of()], EditOptions(steps=2, inversion_cfg=2.0))
    assert len(networks.diffusion.asked[0]) == 2 and networks.diffusion.asked[0][1].abs().sum() == 0


def test_without_a_prior_the_other_weights_stay(networks):
    (mixed,) = mix_edits(networks, [edit_of()], EditOptions(edit_weight=0.5, base_weight=0.5))
    sides = [EMBED_NORM * torch.ones(EMBED) / EMBED**0.5, EMBED_NORM * torch.eye(EMBED)[0]]
    torch.testing.assert_close(mixed, to_length(sum(sides), 20.0))
    with pytest.raises(ValueError, match="Nothing to mix"):
        mix_edits(networks, [edit_of()], EditOptions(edit_weight=0.0))


def test_edit_pictures_runs_everything(networks, answers):
    answers[:] = [PLAN, ValueError("The answer has no picture."), replace(PLAN, base=None)]
    base = Reference(torch.eye(EMBED)[0], "image", picture())
    sound = Reference(20 * torch.eye(EMBED)[0], "audio")
    job = EditJob("add [audio1] to [image1]", references=(sound, base))
    ran = []

    def hook(name, step):
        ran.append(name)
        return step()

    jobs = [job, job, replace(job, size=(64, 32))]
    edited, failed, painted = edit_pictures(networks, jobs, EditOptions(steps=3), hook)
    assert list(dict.fromkeys(ran)) == list(STEPS)
    assert edited.base_index == 1 and edited.plan is PLAN
    assert edited.image.shape == (32, 32, 3) and edited.image.min() >= 0 and edited.image.max() <= 1
    assert failed is answers[1]
    assert painted.base_index is None and painted.image.shape == (64, 32, 3)


def test_a_hook_may_give_another_result(networks, answers):
    other = EditPlan(edit=torch.ones(EMBED), base=None, caption="another")
    answers[:] = [PLAN]
    job = EditJob("[image1]", references=(Reference(torch.eye(EMBED)[0], "image", picture()),))
    found = edit_pictures(
        networks, [job], EditOptions(steps=2), lambda name, step: [other] if name == "instruct" else step()
    )
    assert found[0].plan is other


def test_a_sound_that_the_llm_means_is_no_picture_to_edit(networks, answers):
    """As in the graph, where DDIM Invert gives noise then."""
    answers[:] = [PLAN]
    job = EditJob("[audio1]", references=(Reference(20 * torch.eye(EMBED)[0], "audio"),), size=(32, 64))
    (found,) = edit_pictures(networks, [job], EditOptions(steps=2, base_weight=0.3))
    assert found.base_index is None and found.image.shape == (32, 64, 3)


def test_the_same_seed_gives_the_same_picture(networks, answers):
    answers[:] = [PLAN]
    base = (Reference(torch.eye(EMBED)[0], "image", picture()),)
    images = [
        edit_pictures(networks, [EditJob("[image1]", references=base, seed=seed)], EditOptions(steps=3, alpha=0.5))[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(images[0].image, images[1].image)
    assert not torch.equal(images[0].image, images[2].image)


def test_odd_sizes_are_cropped_to_the_latent_grid(networks):
    assert encode_pictures(networks.vae, torch.rand(1, 37, 45, 3)).shape == (1, 4, 4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, "alpha must be between 0 and 1, got 1.5"),
        ({"negative": "none"}, "negative is 'none'; choose one of: null, source"),
        ({"mode": "linear"}, "mode is 'linear'"),
        ({"formula": "sum"}, "formula is 'sum'; choose one of: equal, released, paper"),
        ({"prior_source": "smell"}, "prior_source is 'smell'"),
        ({"steps": 0}, "steps is 0"),
        ({"start_at_step": -1}, "start_at_step is -1; it must be 0 or more"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
    ],
)
def test_bad_options_name_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        EditOptions(**change)


def test_a_start_beyond_the_schedule_is_named(networks):
    with pytest.raises(ValueError, match="start_at_step is 5; it must be 0 to 4 at steps 5"):
        invert_edits(networks, [edit_of()], EditOptions(steps=5, start_at_step=5))


def test_a_vae_of_other_latents_is_named(networks):
    other = Autoencoder(AutoencoderDims(widths=(32, 32), blocks=1, patch=2, latent=16))
    told = r"VAE has 16 channels, scale 0.13025 and 4 pixels a place; the miniature has 4, 0.13025 and 8"
    with pytest.raises(ValueError, match=told):
        replace(networks, vae=other)
