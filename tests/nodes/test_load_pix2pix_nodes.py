"""Load InstructPix2Pix: a genuine MODEL of 8 channels and a genuine CLIP that gives what the text encoder was trained
as."""

import shutil
from pathlib import Path

import any2pix.nodes as pack
import pytest
import torch
from any2pix.loading.files import write_network_file
from any2pix.loading.pix2pix import load_text_diffusion
from any2pix.miniature import manifest
from any2pix.models.diffusion import DiffusionDims
from any2pix.models.text_diffusion import widen_input
from any2pix.nodes.load_pix2pix import LoadInstructPix2Pix
from any2pix.stages.preprocess import tokenize_clip
from diffusers import UNet2DConditionModel
from torch.testing import assert_close

DIMS = DiffusionDims(
    widths=(32, 64, 96), transformers=(0, 1, 1), resnets=1, head_width=16, context=48, pooled=48, sample_size=16
)
EXACT = 1e-4


@pytest.fixture(scope="module")
def folder(tiny, write_text_encoder):
    import folder_paths

    folder = Path(folder_paths.models_dir, "any2pix", "pix2pix")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    unet = widen_input(UNet2DConditionModel(**DIMS.unet_config()))
    with torch.no_grad():
        unet.conv_in.weight[:, 4:].normal_(std=0.05)
    config = {**DIMS.unet_config(), "in_channels": 8}
    write_network_file(folder / "tiny.safetensors", "pix2pix", unet.state_dict(), config)
    texts, half = ["turn the cat into a frog", "make it rain"] * 5, torch.float16  # what ComfyUI keeps text encoders in
    write_text_encoder(folder / manifest.PIX2PIX_TEXT_ENCODER, 48, 24, texts, dtype=half)
    folder_paths.filename_list_cache.clear()
    return folder


@pytest.fixture(scope="module")
def loaded(folder, run):
    return run(LoadInstructPix2Pix, name="tiny.safetensors")


@pytest.fixture(scope="module")
def network(folder):
    return load_text_diffusion(folder / "tiny.safetensors", folder / manifest.PIX2PIX_TEXT_ENCODER, source=True)


@pytest.mark.parametrize("text", ("", "turn the cat into a frog", "  Make IT\nrain, please. "))
def test_stock_text_encode_gives_what_training_saw(loaded, network, text):
    import nodes

    with torch.inference_mode():
        ((context, extra),) = nodes.CLIPTextEncode().encode(loaded[1], text)[0]
        expected = network.text_encoder(tokenize_clip(network.text_encoder.tokenizer, [text], 24))
    assert_close(context, expected[0], rtol=EXACT, atol=EXACT)
    assert_close(extra["pooled_output"], expected[1], rtol=EXACT, atol=EXACT)


def test_the_model_predicts_what_the_trained_network_does(loaded, network):
    import comfy.model_base
    import comfy.model_management as management

    patcher = loaded[0]
    assert isinstance(patcher.model, comfy.model_base.SDXL_instructpix2pix)
    assert patcher.model.model_config.unet_config["in_channels"] == 8
    generator = torch.Generator().manual_seed(0)
    z, source = (torch.randn(2, 4, 8, 12, generator=generator) for _ in range(2))
    tokens = tokenize_clip(network.text_encoder.tokenizer, ["turn the cat into a frog", ""], 24)
    timesteps = torch.tensor([600, 30])
    with torch.inference_mode():
        management.load_models_gpu([patcher])
        context, pooled = network.text_encoder(tokens)
        expected = network.predict(z, timesteps, network.condition(tokens), source)
        sigma = patcher.model.model_sampling.sigma(timesteps.float())
        level = sigma.view(-1, 1, 1, 1)
        scaled = z * (1 + level**2).sqrt()
        y = patcher.model.encode_adm(pooled_output=pooled, width=96, height=64)
        clean = patcher.model.apply_model(scaled, sigma, c_crossattn=context, y=y, c_concat=source)
        eps = (scaled - clean) / level
    assert ((eps - expected).norm() / expected.norm()).item() < EXACT


def test_without_a_text_encoder_beside_it_there_is_no_clip(folder, run, tmp_path):
    import folder_paths

    alone = folder.parent / "pix2pix" / "alone"
    alone.mkdir()
    UNet2DConditionModel.from_config({**DIMS.unet_config(), "in_channels": 8}).save_pretrained(alone / "unet")
    folder_paths.filename_list_cache.clear()
    output = LoadInstructPix2Pix.execute(name="alone/unet")
    shutil.rmtree(alone)
    assert output.result[1] is None and "DualCLIPLoader" in str(output.ui.as_dict())


def test_a_unet_of_four_channels_is_turned_away(tiny, run):
    import folder_paths
    from any2pix.loading.errors import CheckpointError

    name = "four.safetensors"
    path = Path(folder_paths.models_dir, "any2pix", "pix2pix", name)
    unet = UNet2DConditionModel(**DIMS.unet_config())
    write_network_file(path, "unet", unet.state_dict(), DIMS.unet_config())
    folder_paths.filename_list_cache.clear()
    with pytest.raises(CheckpointError, match="4 input channels.*has 8"):
        run(LoadInstructPix2Pix, name=name)
    path.unlink()


def test_it_is_registered():
    assert LoadInstructPix2Pix in pack.NODES
