"""Load Embedding Diffusion: the first release's folder, converted files, precision, and the form ComfyUI itself makes
of a UNet."""

import json
from pathlib import Path

import any2pix.nodes as pack
import pytest
import torch
from any2pix.loading.convert import convert
from any2pix.loading.diffusion import build_unet, load_unet
from any2pix.loading.errors import CheckpointError
from any2pix.loading.strict import EmptyWeights
from any2pix.models.adapter import UnclipDims, UnclipProjector
from any2pix.models.diffusion import DiffusionDims, default_time_ids
from any2pix.nodes.host.sdxl import build_model, comfy_unet_config, convert_keys
from diffusers import UNet2DConditionModel
from harness.unet_eps import relative
from safetensors.torch import save_file
from torch.testing import assert_close

EXACT = 1e-4  # relative error of eps
LEVELS = DiffusionDims(  # three levels as SDXL's, each with another depth
    widths=(32, 64, 128), transformers=(0, 1, 2), resnets=2, head_width=16, context=48, pooled=32, sample_size=16
)
DIMS = UnclipDims(embed=64, hidden=32, context=48, pooled=32, pooled_in=16)


@pytest.fixture(scope="module")
def release(tiny):
    """The first release's folder in the model folder: (its name, its path)."""
    import folder_paths

    folder = Path(folder_paths.models_dir, "any2pix", "unet", "sdxl", "unet")
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    config = LEVELS.unet_config()
    state = {**UNet2DConditionModel(**config).state_dict(), **UnclipProjector(DIMS).state_dict()}
    (folder / "config.json").write_text(json.dumps({"_class_name": "UnCLipXL", "upcast_attention": None, **config}))
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "diffusion_pytorch_model.safetensors")
    folder_paths.filename_list_cache.clear()
    return "sdxl/unet", folder


def inputs():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 12), (2, 1, 48), (2, 32)))


def eps_of(patcher):
    """eps of a ComfyUI MODEL at two timesteps, in float32."""
    import comfy.model_management as management

    x, context, pooled = inputs()
    with torch.inference_mode():
        management.load_models_gpu([patcher])
        sigma = patcher.model.model_sampling.sigma(torch.tensor([500.0, 20.0]))
        level = sigma.view(-1, 1, 1, 1)
        scaled = x * (1 + level**2).sqrt()
        y = patcher.model.encode_adm(pooled_output=pooled, width=96, height=64)
        return (scaled - patcher.model.apply_model(scaled, sigma, c_crossattn=context, y=y)) / level


def test_the_first_releases_folder_predicts_what_diffusers_does(run, release):
    name, folder = release
    assert name in pack.LoadDiffusion.define_schema().inputs[0].options
    x, context, pooled = inputs()
    with torch.inference_mode():
        added = {"text_embeds": pooled, "time_ids": default_time_ids(2, 64, 96)}
        unet = build_unet(*load_unet(folder))
        expected = unet(x, torch.tensor([500, 20]), context, added_cond_kwargs=added).sample
    assert relative(eps_of(run(pack.LoadDiffusion, name=name)[0]), expected) < EXACT


def test_a_converted_file_is_the_same_model(run, release):
    name, folder = release
    target = convert(folder, folder.parent.parent / "converted.safetensors", quiet=True)
    model = run(pack.LoadDiffusion, name=target.name)[0]
    assert_close(eps_of(model), eps_of(run(pack.LoadDiffusion, name=name)[0]), rtol=0, atol=0)
    target.unlink()


def test_the_form_with_comfyuis_own_keys_predicts_the_same(release):
    """As a checkpoint has it: comfy's names below model.diffusion_model., loaded by comfy's model itself."""
    state, config = load_unet(release[1])
    model = build_model(state, config, "release")
    expected = eps_of(model)
    names = convert_keys(state, model.model.model_config.unet_config, "release")
    checkpoint = {f"model.diffusion_model.{key}": value.clone() for key, value in names.items()}
    other = build_model({key: torch.zeros_like(value) for key, value in state.items()}, config, "empty")
    assert relative(eps_of(other), expected) > 0.5
    other.model.load_model_weights(checkpoint, "model.diffusion_model.")
    assert not checkpoint  # comfy took every tensor
    assert_close(eps_of(other), expected, rtol=0, atol=0)


def test_at_the_published_size_comfyui_finds_the_same_network_and_keys(tiny):
    import comfy.utils
    from comfy.model_detection import model_config_from_diffusers_unet

    config = DiffusionDims().unet_config()
    with EmptyWeights():
        state = UNet2DConditionModel(**config).state_dict()
    theirs = model_config_from_diffusers_unet(state)
    ours = comfy_unet_config(config, "sdxl")
    assert type(theirs).__name__ == "SDXL"
    for key in ("model_channels", "channel_mult", "num_res_blocks", "transformer_depth", "transformer_depth_output",
                "transformer_depth_middle", "context_dim", "adm_in_channels", "in_channels",
                "use_linear_in_transformer",
                "num_head_channels", "num_classes"):  # fmt: skip
        assert (
            list(theirs.unet_config[key]) == list(ours[key])
            if isinstance(ours[key], list)
            else theirs.unet_config[key] == ours[key]
        )
    names = comfy.utils.unet_to_diffusers(theirs.unet_config)
    assert {names[key] for key in state} == set(convert_keys(state, ours, "sdxl"))


@pytest.mark.parametrize(
    ("precision", "dtype", "error"),
    [
        ("fp32", torch.float32, 1e-6),
        ("bf16", torch.bfloat16, 0.03),
        ("fp16", torch.float16, 0.005),
        ("fp8_e4m3fn", torch.float8_e4m3fn, 0.2),
    ],
)
def test_precision(run, release, precision, dtype, error):
    name, folder = release
    expected = eps_of(run(pack.LoadDiffusion, name=name, precision="fp32")[0])
    model = run(pack.LoadDiffusion, name=name, precision=precision)[0]
    assert model.model.diffusion_model.input_blocks[0][0].weight.dtype == dtype
    assert relative(eps_of(model).float(), expected) < error


def test_a_file_in_double_precision_is_converted(release):
    state, config = load_unet(release[1])
    model = build_model({key: value.double() for key, value in state.items()}, config, "double")
    assert {parameter.dtype for parameter in model.model.diffusion_model.parameters()} == {torch.float32}
    assert relative(eps_of(model), eps_of(build_model(state, config, "release"))) < 1e-6


def test_the_node_shows_what_it_loaded(release):
    name, _ = release
    with torch.inference_mode():
        output = pack.LoadDiffusion.execute(name=name)
    shown = str(output.ui.as_dict())
    for words in ("SDXL UNet", "sdxl/unet", "parameters", "fp32"):
        assert words in shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time_cond_proj_dim": 256}, "has time_cond_proj_dim 256; ComfyUI's UNet has None"),
        ({"act_fn": "gelu"}, "has act_fn 'gelu'"),
        ({"addition_embed_type": None}, "is not an SDXL UNet"),
    ],
)
def test_a_unet_that_comfyuis_sdxl_is_not(release, change, words):
    state, config = load_unet(release[1])
    with pytest.raises(ValueError, match=words):
        build_model(state, {**config, **change}, "release")


def test_another_file_in_the_folder_is_named(run, tiny):
    import folder_paths

    folder = Path(folder_paths.models_dir, "any2pix", "unet")
    torch.save(
        {"image_proj.raw_embed": torch.ones(1), "ip_adapter.1.to_k_ip.weight": torch.ones(1)}, folder / "adapter.bin"
    )
    with pytest.raises(CheckpointError, match="two-view IP-Adapter file; it belongs in models/any2pix/adapter"):
        run(pack.LoadDiffusion, name="adapter.bin")
    (folder / "adapter.bin").unlink()


@pytest.mark.parametrize("node", [pack.LoadImageBind, pack.LoadLLM, pack.LoadPrior, pack.LoadDiffusion])
def test_a_loader_can_be_cancelled_while_it_reads(run, tiny, monkeypatch, node):
    import comfy.model_management as management

    bars = []
    monkeypatch.setattr("comfy.utils.ProgressBar.update_absolute", lambda self, done, total: bars.append((done, total)))
    run(node, name=tiny, precision="fp32")
    assert bars[-1][0] == bars[-1][1] > 0
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        run(node, name=tiny, precision="fp32")
