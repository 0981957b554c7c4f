"""Our networks under a host that streams weights: what its own models have, ours have too. Each runs on both kinds of
host."""

import any2pix.nodes as pack
import comfy.model_base
import comfy.model_patcher
import pytest
import torch
from any2pix.nodes.host.layers import Layers, cast_weights
from any2pix.nodes.host.sdxl import build_model
from harness.dynamic_vram import load_model_weights_as_newer
from torch import nn

LOADERS = {
    "imagebind": pack.LoadImageBind,
    "llm": pack.LoadLLM,
    "prior": pack.LoadPrior,
    "adapter": pack.LoadAdapter,
    "unet": pack.LoadDiffusion,
    "pix2pix": pack.LoadInstructPix2Pix,
}


@pytest.fixture(params=LOADERS)
def patchers(request, run, tiny):
    """Every patcher that a loader gives: of a network, or of MODEL, CLIP and VAE."""
    loaded = run(LOADERS[request.param], name="miniature")
    return [getattr(output, "patcher", output) for output in loaded]


def kind_for_models():
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def test_every_patcher_is_of_the_kind_that_the_host_gives_its_own_models(patchers):
    for patcher in patchers:
        plain = patcher.load_device.type == "cpu" and not hasattr(kind_for_models(), "set_in_use_by_current_prompt")
        assert type(patcher) is (comfy.model_patcher.ModelPatcher if plain else kind_for_models())


def test_every_patcher_can_be_made_anew_with_weights_of_its_own(patchers):
    """Set CLIP Hooks, torch.compile and the MultiGPU nodes ask for that; a loader that cannot is an error there."""
    for patcher in patchers:
        load, args = patcher.cached_patcher_init
        again = load(*args, disable_dynamic=True) if host_knows_plain_patchers() else load(*args)
        assert again.model is not patcher.model
        assert type(again) is comfy.model_patcher.ModelPatcher
        pairs = zip(again.model.state_dict().items(), patcher.model.state_dict().items(), strict=True)
        for (name, value), (other, expected) in pairs:
            assert name == other and value.dtype == expected.dtype
            assert torch.equal(value, expected)


def host_knows_plain_patchers():
    return hasattr(comfy.model_patcher, "CoreModelPatcher")


def test_a_network_says_whether_it_is_streamed(run, tiny, host):
    network = run(pack.LoadPrior, name="miniature")[0]
    assert network.is_dynamic() == (
        host is not None and getattr(kind_for_models(), "__name__", "") == "StreamingPatcher"
    )


def test_the_miniatures_vae_is_loaded_in_part_where_there_is_little_room(run, tiny):
    vae = run(pack.LoadDiffusion, name="miniature")[1]
    assert vae.disable_offload is False


@pytest.mark.parametrize("layer", [Layers.Linear, Layers.Embedding])
def test_our_layers_are_whole_before_anything_is_loaded(layer):
    with torch.device("meta"):
        built = layer(6, 4)
    assert built.weight.shape in {(6, 4), (4, 6)} and built.weight.is_meta


def test_our_layers_refuse_a_weight_of_another_shape():
    layer = Layers.Linear(6, 4, bias=False)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict({"weight": torch.zeros(4, 7)})


def test_all_of_comfys_casting_layers_are_ours_too():
    import comfy.ops

    theirs = {
        name
        for name in dir(comfy.ops.manual_cast)
        if isinstance(kind := getattr(comfy.ops.manual_cast, name), type) and issubclass(kind, nn.Module)
    }
    assert {"Linear", "Embedding", "Conv2d", "Conv3d", "LayerNorm", "RMSNorm", "GroupNorm"} <= theirs
    assert all(getattr(Layers, name).__module__ == Layers.__module__ for name in theirs)


def test_a_lent_weight_is_given_back_when_the_operation_fails(host):
    layer = Layers.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    with pytest.raises(KeyError), cast_weights(layer, torch.zeros(1, 3, dtype=torch.float16)):
        raise KeyError
    assert host is None or not host.out


def test_a_unet_keeps_its_weights_in_the_precision_asked_for(run, tiny):
    """The file is in fp32; with dynamic VRAM the host's layers would keep that."""
    for kept, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp8_e4m3fn", torch.float8_e4m3fn)):
        model = run(pack.LoadDiffusion, name=tiny, precision=kept)[0]
        assert {value.dtype for value in model.model.diffusion_model.parameters()} == {dtype}


def test_it_does_where_whole_layers_are_given_the_files_tensors(run, tiny, monkeypatch):
    """ComfyUI 0.16 to 0.32 but on Windows: tensors are assigned with dynamic VRAM, and layers are built with
    weights."""
    monkeypatch.setattr("any2pix.nodes.host.sdxl.is_dynamic", lambda patcher: True)
    monkeypatch.setattr(comfy.model_base.BaseModel, "load_model_weights", load_model_weights_as_newer)
    test_a_unet_keeps_its_weights_in_the_precision_asked_for(run, tiny)


def test_a_unet_that_lacks_a_weight_or_has_another_shape_is_named(run, tiny):
    from any2pix.loading.diffusion import load_unet
    from any2pix.nodes.host.folders import find_weights

    weights, config = load_unet(find_weights("unet", tiny))
    key = "time_embedding.linear_1.weight"
    for broken in (
        {name: value for name, value in weights.items() if name != key},
        {**weights, key: weights[key][:, :8]},
    ):
        with pytest.raises(ValueError, match=r"time_embed\.0\.weight"):
            build_model(broken, config, "tiny")
