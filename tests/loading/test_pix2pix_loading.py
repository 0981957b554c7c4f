"""Text-conditioned UNets, InstructPix2Pix UNets and text encoders: ours, and as diffusers and transformers write
them."""

import json

import pytest
import torch
from any2pix.loading.errors import CheckpointError
from any2pix.loading.files import write_network_file
from any2pix.loading.pix2pix import load_pix2pix_unet, load_text_diffusion, load_text_unet
from any2pix.loading.text_encoder import load_clip_tokenizer, load_text_encoder
from any2pix.models.diffusion import DiffusionDims
from any2pix.models.text_diffusion import widen_input
from any2pix.stages.preprocess import tokens_for
from any2pix.training.clip_tokenizer import train_clip_tokenizer
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

DIMS = DiffusionDims(
    widths=(32, 64), transformers=(0, 1), resnets=1, head_width=16, context=32, pooled=32, sample_size=8
)
CLIP = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 16, "projection_dim": 32, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_text_encoder):
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**DIMS.unet_config())
    write_network_file(folder / "text.safetensors", "text_unet", unet.state_dict(), DIMS.unet_config())
    wide = widen_input(unet)
    config = {**DIMS.unet_config(), "in_channels": 8}
    write_network_file(folder / "pix2pix.safetensors", "pix2pix", wide.state_dict(), config, in_8_bits=True)
    wide.save_pretrained(folder / "diffusers")
    write_text_encoder(folder / "encoder.safetensors", width=32, length=16)
    return folder


@pytest.mark.parametrize("name", ("pix2pix.safetensors", "diffusers"))
def test_an_instructpix2pix_unet_is_ours_or_diffusers(files, name):
    state_dict, config = load_pix2pix_unet(files / name, torch.float32)
    assert config["in_channels"] == 8 and state_dict["conv_in.weight"].shape[1] == 8
    assert (state_dict["conv_in.weight"][:, 4:] == 0).all()


def test_networks_that_are_something_else_are_named(files):
    with pytest.raises(CheckpointError, match="text.safetensors .*a text-conditioned UNet of the miniature"):
        load_pix2pix_unet(files / "text.safetensors")
    with pytest.raises(CheckpointError, match="8 input channels.*has 4"):
        load_text_unet(files / "diffusers")
    with pytest.raises(CheckpointError, match="an InstructPix2Pix UNet"):
        load_text_unet(files / "pix2pix.safetensors")
    with pytest.raises(CheckpointError, match="is a text encoder"):
        load_pix2pix_unet(files / "encoder.safetensors")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"prediction_type": "v_prediction"}, "prediction_type 'v_prediction' \\(not 'epsilon'\\)"),
        ({"prediction_type": "sample"}, "prediction_type 'sample'"),
        ({"prediction_type": "epsilon", "beta_schedule": "linear"}, "beta_schedule 'linear'"),
    ],
)
def test_a_unet_that_predicts_no_noise_is_named(files, tmp_path, said, words):
    for load, channels in ((load_text_unet, 4), (load_pix2pix_unet, 8)):
        place = tmp_path / str(channels)
        UNet2DConditionModel(**{**DIMS.unet_config(), "in_channels": channels}).save_pretrained(place / "unet")
        scheduler = place / "scheduler" / "scheduler_config.json"
        scheduler.parent.mkdir()
        scheduler.write_text(json.dumps({"_class_name": "PNDMScheduler", "skip_prk_steps": True}))
        load(place / "unet")
        scheduler.write_text(json.dumps(said))
        for path in (place / "unet", place / "unet" / "diffusion_pytorch_model.safetensors"):
            with pytest.raises(
                CheckpointError, match=f"scheduler_config.json .*{words}.*Use a UNet that predicts the noise"
            ):
                load(path)


def test_unet_and_text_encoder_together(files):
    network = load_text_diffusion(files / "pix2pix.safetensors", files / "encoder.safetensors", source=True)
    assert network.takes_source and not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert network.text_encoder.tokenizer.get_vocab_size() == network.text_encoder.dims.vocab_size


@pytest.mark.parametrize("kind", (CLIPTextModelWithProjection, CLIPTextModel))
def test_a_text_encoder_folder_of_a_diffusers_pipeline(tmp_path, kind):
    torch.manual_seed(0)
    theirs = kind(CLIPTextConfig(**CLIP)).eval()  # token 2 as the end of text, as the published configs say
    theirs.save_pretrained(tmp_path)
    ours = load_text_encoder(tmp_path)
    assert ours.dims.projected == (kind is CLIPTextModelWithProjection)
    tokens = torch.tensor([[598, 5, 8, 599, 0, 0]])
    with torch.no_grad():
        context, pooled = ours(tokens)
        expected = theirs(tokens)
    torch.testing.assert_close(context, expected.last_hidden_state)
    torch.testing.assert_close(pooled, expected.text_embeds if ours.dims.projected else expected.pooler_output)


def test_a_text_encoder_whose_sizes_do_not_fit(tmp_path):
    CLIPTextModelWithProjection(CLIPTextConfig(**CLIP)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(CheckpointError, match="of another shape"):
        load_text_encoder(tmp_path)


def test_the_tokenizer_of_a_pipeline_is_a_file_or_a_folder(files, tmp_path):
    ours = load_text_encoder(files / "encoder.safetensors").tokenizer
    text = "a cat, in the MEADOW"
    expected = ours.encode(text, add_special_tokens=False).ids
    ours.save(str(tmp_path / "tokenizer.json"))
    model = json.loads(ours.to_str())["model"]
    old = tmp_path / "old"  # as pipelines were published before there was a tokenizer.json
    old.mkdir()
    (old / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    (old / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])), "utf-8")
    for place in (tmp_path / "tokenizer.json", tmp_path, old):
        assert load_clip_tokenizer(place).encode(text, add_special_tokens=False).ids == expected
    with pytest.raises(CheckpointError, match="is no tokenizer. Give tokenizer.json, or the folder"):
        load_clip_tokenizer(tmp_path / "nothing")


@pytest.mark.parametrize("kept_as", ("files of one word list", "tokenizer.json"))
@pytest.mark.parametrize("padding", (None, "<|endoftext|>", "!"))
def test_a_pipelines_texts_are_filled_up_as_transformers_does(files, tmp_path, padding, kept_as):
    model = json.loads(load_text_encoder(files / "encoder.safetensors").tokenizer.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])), "utf-8")
    theirs = CLIPTokenizer.from_pretrained(tmp_path, **({"pad_token": padding} if padding else {}))
    sizes = {**CLIP, "vocab_size": len(theirs), "eos_token_id": len(theirs) - 1}
    if kept_as == "tokenizer.json":
        theirs.save_pretrained(tmp_path)
    elif padding:
        (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": padding}}), "utf-8")
    CLIPTextModel(CLIPTextConfig(**sizes)).save_pretrained(tmp_path / "encoder")
    encoder = load_text_encoder(tmp_path / "encoder", tokenizer=tmp_path)
    texts = ["a cat", "", "it's a cat, in the MEADOW " * 4]
    expected = theirs(texts, padding="max_length", max_length=16, truncation=True).input_ids
    assert expected[0][-1] == (0 if padding == "!" else len(theirs) - 1)
    assert tokens_for(encoder, texts).tolist() == expected
    mark = tokens_for(encoder, ["cat!"])[0].tolist()
    assert mark[: mark.index(len(theirs) - 1)][-1] == model["vocab"]["!</w>"]  # a word, also where "!" is the padding


def test_our_own_texts_are_filled_up_with_zeros(files):
    encoder = load_text_encoder(files / "encoder.safetensors")
    assert encoder.dims.padding == 0 and tokens_for(encoder, [""]).tolist()[0][2:] == [0] * 14


def test_padding_that_the_tokenizer_does_not_know(files, tmp_path):
    load_text_encoder(files / "encoder.safetensors").tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<pad>"}')
    CLIPTextModel(CLIPTextConfig(**CLIP)).save_pretrained(tmp_path / "encoder")
    with pytest.raises(
        CheckpointError, match="tokenizer_config.json .*pads with '<pad>', which its tokenizer does not contain"
    ):
        load_text_encoder(tmp_path / "encoder", tokenizer=tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_network(files):
    folder = files / "clip"
    tokenizer = files / "more_tokens.json"
    train_clip_tokenizer(["a cat in the meadow by the sea"] * 3, 560).save(str(tokenizer))
    CLIPTextModel(CLIPTextConfig(**{**CLIP, "vocab_size": 515})).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="has 515 tokens"):
        load_text_encoder(folder, tokenizer=tokenizer)
