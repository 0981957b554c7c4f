"""What the prior is trained on: every row is what inference hands over, or the pass that guidance moves away from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from any2pix.datagen.sounds import SOUND_KINDS
from any2pix.datagen.toyland import caption, sample_scene
from any2pix.models.prior import INPUT_NORM, MODALITIES, PriorDims, RefinementPrior
from any2pix.training.recipe_files import load_recipe, read_section
from any2pix.training.recipe_types import PriorRecipe
from torch.testing import assert_close

train_prior = pytest.importorskip("any2pix.training.train_prior", reason="needs the [train] extra")
clip_tokenizer = pytest.importorskip("any2pix.training.clip_tokenizer")

SIZE = 400
CONFIG = {
    "corruption": {"noise": 0.3, "mess": 0.2, "text": 0.25, "sound": 0.25},
    "noise_level": {"noise": 1.0, "mess": 0.2},
    "unconditional": 0.2,
    "loop": {"batch_size": SIZE, "steps": 1, "learning_rate": 1.0},
}
NETWORK = {
    "width": 24, "layers": 1, "heads": 2, "score_features": 8, "positions": 64, "dropout": 0.0,
    "text": {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 40},
}  # fmt: skip


def unit(*shape):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=-1)


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    scenes = tuple(sample_scene(rng) for _ in range(20))
    tokenizer = clip_tokenizer.train_clip_tokenizer(map(caption, scenes), 600)
    # The text encoder's place is taken by one fixed direction.
    imagebind = SimpleNamespace(
        tokenizer=tokenizer,
        dims=SimpleNamespace(embed=8, text_context=40),
        encode_text=lambda tokens: 5 * F.one_hot(torch.zeros(len(tokens), dtype=torch.long), 8).float(),
    )
    bank = train_prior.PriorBank(
        scenes, unit(20, 8), torch.linspace(2, 7, 20), unit(5, 8), unit(len(SOUND_KINDS), 3, 8)
    )
    recipe = read_section(PriorRecipe, {**load_recipe("prior"), **CONFIG, "network": NETWORK})
    return train_prior.Batches(recipe, bank, imagebind, train_prior.dims_for(imagebind, recipe.network))


def test_rows(batches):
    batch = batches(0, torch.Generator().manual_seed(1))
    modality, prompted = batch["modality"], batch["text_mask"].sum(1) > 2
    assert_close(batch["target"].norm(dim=-1), torch.full((SIZE,), train_prior.TARGET_NORM))

    lengths = batch["corrupted"].norm(dim=-1)
    empty = lengths == 0
    assert_close(lengths[~empty], torch.full((int((~empty).sum()),), INPUT_NORM))
    assert (modality[empty | prompted] == MODALITIES["text"]).all(), (
        "only a text goes without an embedding, or with a prompt"
    )
    assert not (prompted & batch["unconditional"]).any()
    shares = modality.bincount(minlength=4) / SIZE
    assert_close(shares, torch.tensor([0.25, 0.25, 0.25, 0.25]), atol=0.08, rtol=0.0)
    assert 0.1 < batch["unconditional"].float().mean() < 0.3


def test_sounds_belong_to_the_scene(batches):
    rng = np.random.default_rng(0)
    for scene in batches.bank.scenes:
        kinds = [SOUND_KINDS.index(kind) for kind in (scene.subject, scene.weather) if kind in SOUND_KINDS]
        candidates = batches.bank.sounds[kinds].flatten(0, 1)
        sound = batches._sound(scene, rng)
        assert any(torch.equal(sound, candidate) for candidate in candidates)


def test_same_generator_same_batch(batches):
    first, again = (batches(3, torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_a_few_steps_lower_the_loss(batches):
    torch.manual_seed(0)
    prior = RefinementPrior(batches.dims)
    assert isinstance(prior.dims, PriorDims) and prior.dims.embed == 8
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    batch = batches(0, torch.Generator().manual_seed(1))
    losses = []
    for _ in range(40):
        loss = train_prior.loss_of(prior, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
