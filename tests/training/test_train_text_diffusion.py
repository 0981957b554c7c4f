"""Both text-conditioned trainings, end to end on tiny networks, and the shares of what is dropped."""

import copy

import numpy as np
import pytest
import torch
from any2pix.datagen.plain_text import mirrored_text, text_instruction
from any2pix.datagen.toyland import Scene
from any2pix.loading.files import write_network_file
from any2pix.loading.pix2pix import load_text_diffusion
from any2pix.loading.quantised import SMALLEST_WEIGHT
from any2pix.miniature import manifest
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.backbone import SDXL
from any2pix.models.text_diffusion import fold_source_scale
from any2pix.training import train_instructpix2pix, train_text_diffusion
from any2pix.training.pix2pix_config import Dropout, read_recipe
from any2pix.training.recipe_files import RECIPES, load_recipe
from any2pix.training.train_instructpix2pix import Batches, toyland_pairs
from any2pix.training.train_text_diffusion import without_some
from safetensors.torch import load_file

LOOP = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "warmup": 1, "checkpoint_every": 2}
NETWORK = {"widths": [32, 32], "transformers": [0, 1], "resnets": 1, "head_width": 16}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def text_config():
    config = copy.deepcopy(load_recipe("text_diffusion"))
    sizes = {
        "network": NETWORK,
        "text_encoder": {**TEXT, "max_position_embeddings": 40},
        "vocabulary": 600,
        "loop": LOOP,
    }
    return {**config, **sizes, "data": {"pictures": 6, "seed": 3, "messy_share": 0.0}}


def pix2pix_config(**changes):
    return {**load_recipe("instructpix2pix"), "loop": LOOP, "data": {"families": 3, "seed": 4}, "probes": 6, **changes}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(work, out) after a few steps of both trainings."""
    work, out = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("out")
    torch.manual_seed(0)
    dims = AutoencoderDims(widths=(32, 32, 32), blocks=1, patch=2)
    write_network_file(out / manifest.VAE, "vae", Autoencoder(dims).state_dict(), vars(dims))
    results = [
        train_text_diffusion.train(text_config(), work, out),
        train_instructpix2pix.train(pix2pix_config(), work, out),
    ]
    assert all(0 < result["probe_loss"] < 10 for result in results)
    return work, out


def test_what_was_trained_can_be_loaded_and_reads_text_and_picture(trained):
    _, out = trained
    network = load_text_diffusion(out / manifest.PIX2PIX, out / manifest.PIX2PIX_TEXT_ENCODER, source=True)
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    dims = network.text_encoder.dims
    tokens = torch.tensor([[dims.bos_token_id, 5, 7, dims.eos_token_id, *[0] * 36]])
    with torch.no_grad():
        words = network.condition(tokens)
        plain = network.predict(z, t, words)
        other_picture = network.predict(z, t, words, torch.ones_like(z))
        other_text = network.predict(z, t, network.condition(tokens.roll(1, dims=1)))
    assert not torch.allclose(plain, other_picture) and not torch.allclose(plain, other_text)
    assert load_text_diffusion(out / manifest.TEXT_UNET, out / manifest.TEXT_ENCODER).text_encoder.tokenizer is not None


def test_what_is_written_takes_the_source_as_the_vae_encodes_it(trained):
    """Training gives the source unit variance; the file predicts the same of the unscaled one."""
    _, out = trained
    network, _ = train_instructpix2pix.build(
        read_recipe(pix2pix_config()), out / manifest.TEXT_UNET, out / manifest.TEXT_ENCODER
    )
    network.eval()
    with torch.no_grad():
        network.unet.conv_in.weight[:, 4:].normal_(generator=torch.Generator().manual_seed(0))
    state = fold_source_scale(network.unet.state_dict(), SDXL.latent.scale)
    written = copy.deepcopy(network)
    written.unet.load_state_dict(state)
    z, source, t = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([300])
    tokens = torch.zeros(1, network.text_encoder.dims.max_position_embeddings, dtype=torch.long)
    with torch.no_grad():
        expected = network.predict(z, t, network.condition(tokens), source * SDXL.latent.scale)
        torch.testing.assert_close(
            written.predict(z, t, written.condition(tokens), source), expected, rtol=1e-4, atol=1e-4
        )
    assert torch.equal(state["conv_in.weight"][:, :4], network.unet.conv_in.weight[:, :4])


def test_a_stopped_run_goes_on_where_it_was(trained):
    work, out = trained
    before = (work / "instructpix2pix/log.jsonl").read_text().splitlines()
    train_instructpix2pix.train(pix2pix_config(), work, out)  # nothing is left to do
    assert (work / "instructpix2pix/log.jsonl").read_text().splitlines() == before


def test_shards_of_the_pipeline_train_it_too(trained, shards, tmp_path):
    _, out = trained
    starts = {
        "unet": str(out / manifest.TEXT_UNET),
        "text_encoder": str(out / manifest.TEXT_ENCODER),
        "vae": str(out / manifest.VAE),
    }
    config = pix2pix_config(data={"shards": str(shards.folder), "seed": 2}, start={"tokenizer": None, **starts})
    result = train_instructpix2pix.train(config, tmp_path, tmp_path)
    assert 0 < result["probe_loss"] < 10 and (tmp_path / manifest.PIX2PIX).exists()
    log = tmp_path / "instructpix2pix" / "log.jsonl"
    before = log.read_text()
    assert len(before.splitlines()) == LOOP["steps"]
    assert train_instructpix2pix.train(config, tmp_path, tmp_path) == result and log.read_text() == before
    shards.counts_path(1).write_text('{"kept": 3, "no-op": 1}')  # other shards: not the same training
    train_instructpix2pix.train(config, tmp_path, tmp_path)
    assert (tmp_path / "instructpix2pix" / "former").is_dir()


@pytest.mark.parametrize(
    ("weights", "stored"), [("int8", torch.int8), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_weights_are_stored_as_the_configuration_says(trained, tmp_path, weights, stored):
    work, out = trained
    for name in (manifest.VAE, manifest.TEXT_UNET, manifest.TEXT_ENCODER):
        (tmp_path / name).symlink_to(out / name)
    loop = {**LOOP, "steps": 1}
    train_instructpix2pix.train(pix2pix_config(weights=weights, loop=loop), work, tmp_path)
    for name in (manifest.PIX2PIX, manifest.PIX2PIX_TEXT_ENCODER):
        large = [
            value
            for value in load_file(tmp_path / name).values()
            if value.dim() > 1 and value.numel() >= SMALLEST_WEIGHT
        ]
        assert {value.dtype for value in large} == {stored}
    load_text_diffusion(tmp_path / manifest.PIX2PIX, tmp_path / manifest.PIX2PIX_TEXT_ENCODER, source=True)


def test_without_a_text_the_picture_itself_is_the_target_where_it_is_wanted(trained):
    """Target and source as the loss is given them, with every text dropped and every picture kept, or both dropped."""
    work, out = trained
    pairs = toyland_pairs(work, out / manifest.VAE, 3, 4)
    network = load_text_diffusion(out / manifest.TEXT_UNET, out / manifest.TEXT_ENCODER)

    def given(dropout, unchanged):
        shares = {"image_only": 0.0, "text_only": 0.0, "both": 0.0, dropout: 1.0}
        batches = Batches(read_recipe(pix2pix_config(dropout=shares, unchanged=unchanged)), pairs, network)
        target, _, _, _, source, _ = batches.encode(batches(0, torch.Generator().manual_seed(0)))
        return target, source

    kept, kept_source = given("text_only", 1.0)
    edited, edited_source = given("text_only", 0.0)
    free, no_source = given("both", 1.0)
    gain = load_recipe("instructpix2pix")["source_gain"]
    torch.testing.assert_close(gain * kept, kept_source)
    torch.testing.assert_close(edited_source, kept_source)
    assert not torch.allclose(gain * edited, edited_source, atol=0.1)
    assert not no_source.any() and torch.equal(free, edited), "without a picture there is nothing to keep"


def test_a_share_of_unchanged_pictures_is_a_share():
    with pytest.raises(ValueError, match="unchanged is 1.5; it must be a share"):
        read_recipe(pix2pix_config(unchanged=1.5))


def test_families_are_not_encoded_by_a_pipelines_vae(trained, tmp_path):
    _, out = trained
    starts = {
        "unet": str(out / manifest.TEXT_UNET),
        "text_encoder": str(out / manifest.TEXT_ENCODER),
        "vae": str(tmp_path),
    }
    with pytest.raises(ValueError, match="is a folder of a diffusers pipeline, but families need the miniature.s VAE"):
        train_instructpix2pix.train(pix2pix_config(start=starts), tmp_path, tmp_path)


@pytest.mark.parametrize("data", [{}, {"families": 3, "seed": 4, "shards": "somewhere"}])
def test_pairs_come_from_one_place(trained, tmp_path, data):
    _, out = trained
    with pytest.raises(ValueError, match="both shards and families, or neither"):
        train_instructpix2pix.train(pix2pix_config(data=data), tmp_path, out)


def test_a_frozen_text_encoder_stays_as_it_was(trained, tmp_path):
    _, out = trained
    recipe = read_recipe(pix2pix_config(train_text_encoder=False))
    network, _ = train_instructpix2pix.build(recipe, out / manifest.TEXT_UNET, out / manifest.TEXT_ENCODER)
    assert not any(p.requires_grad for p in network.text_encoder.parameters())
    assert all(p.requires_grad for p in network.unet.parameters())


def test_dropout_has_the_papers_shares_and_no_others():
    no_image, no_text = Dropout().draw(40_000, torch.Generator().manual_seed(0))
    shares = [(no_image & ~no_text), (~no_image & no_text), (no_image & no_text), ~(no_image | no_text)]
    for share, expected in zip(shares, (0.05, 0.05, 0.05, 0.85), strict=True):
        assert share.float().mean().item() == pytest.approx(expected, abs=0.005)
    no_image, no_text = Dropout(image_only=1, text_only=0, both=0).draw(10, torch.Generator())
    assert no_image.all() and not no_text.any()


@pytest.mark.parametrize("wrong", [{"image_only": 0.5, "text_only": 0.5}, {"both": -0.1}])
def test_shares_that_are_none_are_named(wrong):
    with pytest.raises(ValueError, match="none may be below 0, and together they may be at most 1"):
        Dropout(**wrong)


@pytest.mark.parametrize(("change", "words"), [("minsnr: 3", "has minsnr"), (None, "lacks loop")])
def test_a_configuration_with_other_keys_is_named(tmp_path, change, words):
    text = (RECIPES / "instructpix2pix" / "miniature.yaml").read_text("utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(f"{text}\n{change}" if change else text[: text.index("\nloop:")], "utf-8")
    with pytest.raises(ValueError, match=f"The recipe {words}"):
        read_recipe(load_recipe("instructpix2pix", path))


def test_pairs_are_source_and_target_of_their_instruction(trained):
    work, out = trained
    pairs = toyland_pairs(work, out / manifest.VAE, 3, 4, subject_weight=2.0)
    index, texts = pairs.choose(np.random.default_rng(0), 20)
    for (source, target), text in zip(index.tolist(), texts, strict=True):
        before, after = pairs.scenes[source], pairs.scenes[target]
        assert (before.background, before.seed) == (after.background, after.seed) and before != after
        if before.style != after.style:
            assert after.style in text.lower()
    source, target = pairs.batch(index, torch.zeros(20, dtype=torch.long))
    torch.testing.assert_close(source * SDXL.latent.scale, pairs.latents[0, index[:, 0]].float())
    torch.testing.assert_close(target, pairs.latents[0, index[:, 1]].float())
    weight = pairs.place_weights(index, torch.ones(20, dtype=torch.long))
    torch.testing.assert_close(weight.mean(dim=(1, 2, 3)), torch.ones(20))


def test_instructions_are_words_alone():
    rng = np.random.default_rng(0)
    before = Scene("meadow", "cat", "rain", "ink", 1)
    for after in (Scene("meadow", "frog", "snow", "flat", 1), Scene("meadow", "none", "rain", "ink", 1)):
        texts = [text_instruction(rng, before, after) for _ in range(100)]
        assert not any("[" in text or "{" in text for text in texts) and len(set(texts)) > 20
        assert not any(text.lower().startswith("take the cat") and text.rstrip(".").endswith("cat") for text in texts)
    with pytest.raises(ValueError, match="two scenes that differ"):
        text_instruction(rng, before, before)


def test_a_mirrored_description_is_true_of_the_mirrored_picture():
    assert mirrored_text("a cat on the left in the rain") == "a cat on the right in the rain"
    assert mirrored_text("one bird on the right") == "one bird on the left"
    assert mirrored_text("a cat in the middle") == "a cat in the middle"


def test_dropped_texts_are_empty_prompts():
    assert without_some(["a", "b", "c"], torch.tensor([False, True, False])) == ["a", "", "c"]
