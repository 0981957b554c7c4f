"""Load InstructPix2Pix with a UNet of Stable Diffusion 1's build: a diffusers pipeline's folder, and what training
wrote."""

from pathlib import Path

import comfy.ops
import pytest
import torch
from any2pix.loading.files import write_network_file
from any2pix.loading.pix2pix import load_pix2pix_unet
from any2pix.loading.text_encoder import load_text_encoder
from any2pix.miniature import manifest
from any2pix.models.text_encoder import TextEncoder, TextEncoderDims
from any2pix.nodes.host.sdxl import build_model, comfy_unet_config, convert_keys
from any2pix.nodes.load_pix2pix import LoadInstructPix2Pix
from any2pix.stages.preprocess import tokens_for
from any2pix.training.clip_tokenizer import train_clip_tokenizer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from diffusers import UNet2DConditionModel
from harness.pix2pix_models import CONTEXT, pix2pix_unet
from harness.unet_eps import relative, seeded
from torch.testing import assert_close
from transformers import CLIPTextConfig, CLIPTextModel

EXACT = 1e-4
CLIP_L = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 32,
}  # all but the last as ComfyUI knows it


@pytest.fixture(scope="module")
def unet():
    return pix2pix_unet("sd15")


@pytest.fixture(scope="module")
def place(tiny):
    import folder_paths

    def make(name: str) -> Path:
        folder = Path(folder_paths.models_dir, "any2pix", "pix2pix", name)
        folder.mkdir(parents=True)
        folder_paths.filename_list_cache.clear()
        return folder

    return make


def predicted(patcher, z, source, context):
    """The MODEL's noise at two levels: (eps, the timesteps)."""
    import comfy.model_management as management

    timesteps = torch.tensor([600, 30])
    with torch.inference_mode():
        management.load_models_gpu([patcher])
        sigma = patcher.model.model_sampling.sigma(timesteps.float())
        level = sigma.view(-1, 1, 1, 1)
        scaled = z * (1 + level**2).sqrt()
        clean = patcher.model.apply_model(scaled, sigma, c_crossattn=context, c_concat=source)
    return (scaled - clean) / level, timesteps


def test_the_folder_of_a_pipeline_predicts_what_diffusers_does(place, run, unet):
    import comfy.model_base

    import nodes

    folder = place("sd1")
    unet.save_pretrained(folder / "unet")
    torch.manual_seed(0)
    CLIPTextModel(CLIPTextConfig(num_hidden_layers=12, **CLIP_L)).save_pretrained(folder / "text_encoder")
    patcher, clip, _ = run(LoadInstructPix2Pix, name="sd1/unet")
    assert isinstance(patcher.model, comfy.model_base.SD15_instructpix2pix)
    assert patcher.get_model_object("latent_format").scale_factor == 0.18215
    z, source, context = seeded(2, 4, 8, 12, seed=1), seeded(2, 4, 8, 12, seed=2), seeded(2, 7, CONTEXT, seed=3)
    found, timesteps = predicted(patcher, z, source, context)
    with torch.no_grad():
        expected = unet(torch.cat([z, source], dim=1), timesteps, context).sample
    assert relative(found, expected) < EXACT
    ((states, _),) = nodes.CLIPTextEncode().encode(clip, "make it snow")[0]
    assert states.shape == (1, 77, 768)


@pytest.mark.one_host
def test_at_the_published_size_every_weight_has_its_place():
    """Stable Diffusion 1.5's own config.json, with four channels more."""
    config = {
        "in_channels": 8, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768,
        "attention_head_dim": 8, "layers_per_block": 2, "addition_embed_type": None,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }  # fmt: skip
    with torch.device("meta"):
        theirs = UNet2DConditionModel.from_config(config).state_dict()
        arguments = comfy_unet_config(config, "SD 1.5")
        comfys = UNetModel(**arguments, device="meta", operations=comfy.ops.disable_weight_init).state_dict()
    found = convert_keys(theirs, arguments, "SD 1.5")
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in comfys.items()}
    assert (arguments["num_heads"], arguments["num_head_channels"]) == (8, -1)


def test_what_training_wrote_is_loaded_with_its_text_encoder(place, run, unet):
    import nodes

    folder = place("sd1_trained")
    write_network_file(folder / "pix2pix.safetensors", "pix2pix", unet.state_dict(), dict(unet.config), in_8_bits=True)
    tokenizer = train_clip_tokenizer(["make it snow"], 520)
    tokens = tokenizer.get_vocab_size()
    dims = TextEncoderDims(
        vocab_size=tokens, hidden_size=CONTEXT, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=tokens - 2, eos_token_id=tokens - 1, projected=False,
        padding=tokens - 1,  # as Stable Diffusion 1's tokenizer
    )  # fmt: skip
    encoder = TextEncoder(dims)
    half = torch.float16  # what ComfyUI keeps text encoders in
    path = folder / manifest.PIX2PIX_TEXT_ENCODER
    write_network_file(path, "text_encoder", encoder.state_dict(), dims.to_dict(), tokenizer.to_str(), dtype=half)
    patcher, clip, _ = run(LoadInstructPix2Pix, name="sd1_trained/pix2pix.safetensors")
    assert patcher.get_model_object("latent_format").scale_factor == 0.18215
    encoder = load_text_encoder(path)
    with torch.inference_mode():
        ((states, extra),) = nodes.CLIPTextEncode().encode(clip, "make it snow")[0]
        expected = encoder(tokens_for(encoder, ["make it snow"]))
    assert_close(states, expected[0], rtol=EXACT, atol=EXACT)
    assert_close(extra["pooled_output"], expected[1], rtol=EXACT, atol=EXACT)


def test_without_a_text_encoder_comfyuis_loader_is_named(place, unet):
    folder = place("sd1_alone")
    unet.save_pretrained(folder / "unet")
    output = LoadInstructPix2Pix.execute(name="sd1_alone/unet")
    assert output.result[1] is None and "use Load CLIP" in str(output.ui.as_dict())


def test_a_unet_with_other_inputs_is_no_build_of_either(place, unet):
    state, config = load_saved(place("sd1_other"), unet)
    with pytest.raises(ValueError, match="is not an SDXL UNet: its addition_embed_type is 'text'"):
        build_model(state, {**config, "addition_embed_type": "text"}, "small")
    with pytest.raises(ValueError, match=r"heads of different widths, \[8, 32\], and \[4, 2\] of them"):
        build_model(state, {**config, "attention_head_dim": [4, 2]}, "small")


def load_saved(folder: Path, unet):
    unet.save_pretrained(folder)
    return load_pix2pix_unet(folder)
