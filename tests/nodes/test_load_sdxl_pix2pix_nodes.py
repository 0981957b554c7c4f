"""What training from an SDXL pipeline leaves, in ComfyUI: the texts are read as it was trained with, and the MODEL
predicts the same."""

from pathlib import Path

import comfy.sd1_clip
import comfy.sdxl_clip
import pytest
import torch
from any2pix.loading.files import write_network_file
from any2pix.nodes import load_pix2pix
from any2pix.stages.preprocess import tokens_for
from any2pix.training import train_instructpix2pix
from any2pix.training.pix2pix_config import read_recipe
from any2pix.training.recipe_files import load_recipe
from harness.unet_eps import relative, seeded
from torch.testing import assert_close

EXACT = 1e-4
TEXTS = ("make it snow!", "")
FOLDERS = ("unet", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, write_sdxl_pipeline):
    folder = tmp_path_factory.mktemp("sdxl")
    words = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"  # CLIP's own
    write_sdxl_pipeline(folder, words, 77)
    return folder


@pytest.fixture(scope="module")
def network(pipeline):
    config = load_recipe("instructpix2pix") | {"train_text_encoder": False}
    config["start"] = {name: str(pipeline / name) for name in FOLDERS}
    found, _ = train_instructpix2pix.build(read_recipe(config), pipeline / "unet", pipeline / "text_encoder")
    with torch.no_grad():
        found.unet.conv_in.weight[:, 4:].normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    return found.eval()


@pytest.fixture(scope="module")
def stock_clip(network):
    """(tokenizer, model): ComfyUI's own SDXL CLIP, with the pipeline's small encoders in it."""
    sizes = [{**part.dims.clip_config(), "bos_token_id": 0} for part in network.text_encoder.parts]
    options = {f"clip_{letter}_model_config": size for letter, size in zip("lg", sizes, strict=True)}
    clip = comfy.sdxl_clip.SDXLClipModel(dtype=torch.float32, model_options=options)
    for place, part in zip((clip.clip_l, clip.clip_g), network.text_encoder.parts, strict=True):
        missing, unexpected = place.load_sd(part.state_dict())
        assert not unexpected and all(name.startswith("text_projection") for name in missing)
    return comfy.sdxl_clip.SDXLTokenizer(), clip


def test_comfyui_reads_texts_as_training_does(network, stock_clip):
    tokenizer, clip = stock_clip
    tokens = tokens_for(network.text_encoder, TEXTS)
    with torch.inference_mode():
        found = network.condition(tokens)
        for row, text in enumerate(TEXTS):
            theirs = tokenizer.tokenize_with_weights(text)
            assert [[token for token, _ in theirs[letter][0]] for letter in "lg"] == tokens[row].tolist()
            context, pooled = clip.encode_token_weights(theirs)
            assert_close(context[0], found.context[row], rtol=EXACT, atol=EXACT)
            assert_close(pooled[0], found.pooled[row], rtol=EXACT, atol=EXACT)


def test_the_model_predicts_what_was_trained(tiny, run, network, stock_clip, pipeline, monkeypatch):
    import comfy.model_base
    import comfy.model_management as management
    import folder_paths

    folder = Path(folder_paths.models_dir, "any2pix", "pix2pix", "sdxl_trained")
    write_network_file(folder / "pix2pix.safetensors", "pix2pix", network.unet.state_dict(), dict(network.unet.config))
    for name in load_pix2pix.PIPELINE_TEXT_ENCODERS:
        (folder / name).symlink_to(pipeline / name)
    folder_paths.filename_list_cache.clear()
    asked = []
    monkeypatch.setattr(load_pix2pix.comfy.sd, "load_clip", lambda paths, *_: asked.append(paths) or "clip")
    patcher, clip, _ = run(load_pix2pix.LoadInstructPix2Pix, name="sdxl_trained/pix2pix.safetensors")
    assert isinstance(patcher.model, comfy.model_base.SDXL_instructpix2pix) and clip == "clip"
    assert asked == [[str(folder / name / "model.safetensors") for name in load_pix2pix.PIPELINE_TEXT_ENCODERS]]
    tokenizer, stock = stock_clip
    z, source = seeded(2, 4, 8, 12, seed=1), seeded(2, 4, 8, 12, seed=2)
    timesteps = torch.tensor([600, 30])
    with torch.inference_mode():
        read = [stock.encode_token_weights(tokenizer.tokenize_with_weights(text)) for text in TEXTS]
        context, pooled = (torch.cat(parts) for parts in zip(*read, strict=True))
        management.load_models_gpu([patcher])
        sigma = patcher.model.model_sampling.sigma(timesteps.float())
        level = sigma.view(-1, 1, 1, 1)
        scaled = z * (1 + level**2).sqrt()
        y = patcher.model.encode_adm(pooled_output=pooled, width=96, height=64)
        found = (scaled - patcher.model.apply_model(scaled, sigma, c_crossattn=context, y=y, c_concat=source)) / level
        conditioning = network.condition(tokens_for(network.text_encoder, TEXTS))
        expected = network.predict(z, timesteps, conditioning, source)
    assert relative(found, expected) < EXACT
