"""InstructPix2Pix from an SDXL pipeline in diffusers' folders: its two text encoders are read as diffusers reads
them."""

import json
from dataclasses import replace

import pytest
import torch
from any2pix.loading.pix2pix import load_pix2pix_unet
from any2pix.miniature import manifest
from any2pix.models.text_encoder import JoinedTextEncoders, TextEncoder
from any2pix.stages.preprocess import tokens_for
from any2pix.training import train_instructpix2pix
from any2pix.training.clip_tokenizer import train_clip_tokenizer
from any2pix.training.pix2pix_config import read_recipe
from any2pix.training.recipe_files import load_recipe

TEXTS = ["make it night", "", "Turn the CAT into a frog, and let it rain " * 3]
LOOP = {"steps": 2, "batch_size": 2, "learning_rate": 1e-3, "warmup": 1}
FOLDERS = ("unet", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "vae")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sdxl")


@pytest.fixture(scope="module")
def pipeline(place, write_sdxl_pipeline):
    words = place / "words"
    words.mkdir()
    model = json.loads(train_clip_tokenizer(TEXTS, 560).to_str())["model"]
    (words / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    (words / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])), "utf-8")
    return write_sdxl_pipeline(place / "pipeline", words, 12)


@pytest.fixture
def config(place, pipeline, shards):
    start = {name: str(place / "pipeline" / name) for name in FOLDERS}
    data = {"shards": str(shards.folder), "seed": 2}
    return {
        **load_recipe("instructpix2pix"),
        "start": start,
        "data": data,
        "loop": LOOP,
        "train_text_encoder": False,
        "probes": 3,
    }


def built(config):
    start = config["start"]
    return train_instructpix2pix.build(read_recipe(config), start["unet"], start["text_encoder"])[0]


@torch.no_grad()
def test_texts_are_read_as_by_diffusers(pipeline, config):
    network = built(config)
    tokens = tokens_for(network.text_encoder, TEXTS)
    assert tokens.shape == (3, 2, 12) and tokens[1, 0, -1] == pipeline.tokenizer.pad_token_id and tokens[1, 1, -1] == 0
    found = network.condition(tokens)
    context, _, pooled, _ = pipeline.encode_prompt(TEXTS, device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(found.context, context, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-5, atol=1e-5)


def test_it_trains_and_leaves_the_unet_alone_to_be_loaded(config, tmp_path):
    result = train_instructpix2pix.train(config, tmp_path, tmp_path)
    assert 0 < result["probe_loss"] < 10
    state_dict, unet_config = load_pix2pix_unet(tmp_path / manifest.PIX2PIX, torch.float32)
    assert unet_config["in_channels"] == 8 and state_dict["conv_in.weight"][:, 4:].abs().sum() > 0
    assert not (tmp_path / manifest.PIX2PIX_TEXT_ENCODER).exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_encoder_2": None}, "texts of 48 channels, the text encoder gives 16.*reads two at once"),
        ({"tokenizer_2": None}, "text_encoder_2 comes without a tokenizer.*start: tokenizer_2"),
        ({"text_encoder": "text_encoder_2", "text_encoder_2": "text_encoder"}, "no projection of the pooled text"),
    ],
)
def test_encoders_that_do_not_fit_are_named(config, changes, words):
    start = config["start"]
    changed = {name: value and start[value] if value in start else value for name, value in changes.items()}
    with pytest.raises(ValueError, match=words):
        built({**config, "start": {**start, **changed}})


def test_sdxls_text_encoders_are_not_trained(config):
    with pytest.raises(ValueError, match="stay as they are. Set train_text_encoder: false"):
        read_recipe({**config, "train_text_encoder": True})


def test_encoders_of_other_lengths_are_not_joined(config):
    first, second = built(config).text_encoder.parts
    longer = TextEncoder(replace(second.dims, max_position_embeddings=20))
    with pytest.raises(ValueError, match="read \\[12, 20\\] tokens"):
        JoinedTextEncoders([first, longer])


def test_another_trainings_text_encoder_is_not_left_beside_the_result(config, tmp_path):
    (tmp_path / manifest.PIX2PIX_TEXT_ENCODER).write_bytes(b"another's")
    with pytest.raises(ValueError, match="holds pix2pix_text_encoder.safetensors of another training.*--out"):
        train_instructpix2pix.train(config, tmp_path / "work", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [manifest.PIX2PIX_TEXT_ENCODER]
