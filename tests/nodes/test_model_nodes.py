"""Model folders, loaders, and the two conversions: UNet -> MODEL, autoencoder -> VAE."""

import gc
import weakref
from pathlib import Path

import any2pix.nodes as pack
import pytest
import torch
from any2pix.loading.autoencoder import load_autoencoder
from any2pix.loading.diffusion import build_unet, load_unet
from any2pix.miniature import manifest
from any2pix.models.diffusion import default_time_ids
from any2pix.nodes.host import folders
from any2pix.nodes.host.sdxl import build_model

EXACT = 1e-4  # relative error of eps; measured 1e-6


@pytest.fixture(scope="module")
def unet_path(tiny):
    return folders.find_weights("unet", tiny)


def test_the_converted_model_predicts_what_diffusers_does(unet_path):
    import comfy.model_management as management

    state_dict, config = load_unet(unet_path)
    reference = build_unet({key: value.clone() for key, value in state_dict.items()}, config)
    patcher = build_model(state_dict, config, "tiny")
    generator = torch.Generator().manual_seed(0)
    x, context, pooled = (torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 12), (2, 1, 48), (2, 32)))
    timesteps = torch.tensor([500, 20])
    with torch.inference_mode():
        management.load_models_gpu([patcher])
        added = {"text_embeds": pooled, "time_ids": default_time_ids(2, 64, 96)}
        expected = reference(x, timesteps, context, added_cond_kwargs=added).sample
        sigma = patcher.model.model_sampling.sigma(timesteps.float())
        level = sigma.view(-1, 1, 1, 1)
        y = patcher.model.encode_adm(pooled_output=pooled, width=96, height=64)
        denoised = patcher.model.apply_model(x * (1 + level**2).sqrt(), sigma, c_crossattn=context, y=y)
        found = (x * (1 + level**2).sqrt() - denoised) / level
    assert float((found - expected).norm() / expected.norm()) < EXACT


def test_a_lora_finds_every_attention_of_the_converted_model(networks):
    import comfy.lora

    keys = comfy.lora.model_lora_keys_unet(networks["model"].model, {})
    assert keys["lora_unet_up_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"].startswith(
        "diffusion_model.output_blocks."
    )


def test_missing_and_unknown_weights_are_errors(unet_path):
    state_dict, config = load_unet(unet_path)
    first = state_dict.pop("conv_in.weight")
    with pytest.raises(ValueError, match="1 weights are missing"):
        build_model(dict(state_dict), config, "tiny")
    with pytest.raises(ValueError, match="does not describe, surprise"):
        build_model({**state_dict, "conv_in.weight": first, "surprise": first}, config, "tiny")


def test_a_text_conditioned_unet_of_another_family_is_an_error(unet_path):
    state_dict, config = load_unet(unet_path)
    with pytest.raises(ValueError, match="is not an SDXL UNet"):
        build_model(state_dict, {**config, "addition_embed_type": None}, "tiny")


def test_the_vae_is_a_stock_vae_and_encodes_as_the_autoencoder(networks, unet_path):
    import comfy.sd

    vae = networks["vae"]
    assert isinstance(vae, comfy.sd.VAE)
    autoencoder = load_autoencoder(unet_path.with_name("vae.safetensors"))
    picture = torch.rand(2, 24, 32, 3)
    with torch.inference_mode():
        latent = vae.encode(picture)
        torch.testing.assert_close(latent, autoencoder.encode(picture.movedim(-1, 1) * 2 - 1)[0])
        decoded = vae.decode(latent)
        torch.testing.assert_close(decoded, ((autoencoder.decode(latent) + 1) / 2).clamp(0, 1).movedim(1, -1))
    assert latent.shape == (2, 4, 3, 4) and decoded.shape == picture.shape


def test_sizes_that_eight_does_not_divide_are_cropped(networks):
    with torch.inference_mode():
        assert networks["vae"].encode(torch.rand(1, 37, 29, 3)).shape == (1, 4, 4, 3)


def test_tiled_encoding_and_decoding_run(networks):
    with torch.inference_mode():
        latent = networks["vae"].encode_tiled(torch.rand(1, 48, 48, 3), tile_x=32, tile_y=32, overlap=8)
        assert networks["vae"].decode_tiled(latent, tile_x=4, tile_y=4, overlap=1).shape == (1, 48, 48, 3)


def test_the_miniature_comes_first_then_what_lies_in_the_folder(tiny):
    for kind in folders.LOADED_KINDS:
        names = folders.list_names(kind)
        assert names[0] == "miniature" and tiny in names


def test_a_folder_with_a_config_is_offered_by_its_own_name(tiny):
    import folder_paths

    folder = Path(folder_paths.models_dir, "any2pix", "llm", "llm-retrained")
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 4096}')
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    folder_paths.filename_list_cache.clear()
    try:
        names = folders.list_names("llm")
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert "llm-retrained" in names and not any(name.startswith("llm-retrained/") for name in names)


def test_a_path_from_the_extra_config_is_searched(tiny, tmp_path):
    import folder_paths

    folder_paths.add_model_folder_path(folders.folder_key("imagebind"), str(tmp_path), is_default=True)
    (tmp_path / "mine.safetensors").write_bytes(b"")
    assert "mine.safetensors" in folders.list_names("imagebind")
    assert folders.find_weights("imagebind", "mine.safetensors").parent == tmp_path


@pytest.mark.parametrize(
    "node", [pack.LoadImageBind, pack.LoadPrior, pack.LoadAdapter, pack.LoadLLM, pack.LoadDiffusion]
)
def test_a_missing_file_is_told_before_anything_runs(tiny, node):
    message = node.validate_inputs(name="gone.safetensors")
    assert (
        "'gone.safetensors' is not in " in message
        and "models/any2pix/" in message
        and "or choose the miniature" in message
    )


def test_a_missing_miniature_is_told(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(manifest, "FOLDER", tmp_path)
    assert "Install the pack again" in pack.LoadPrior.validate_inputs(name="miniature")


def test_adapter_and_model_of_other_sizes_are_an_error(run, networks, unet_path):
    from any2pix.loading.adapter import load_adapter
    from any2pix.loading.files import write_network_file
    from any2pix.models.adapter import UnclipDims, UnclipProjector
    from any2pix.nodes.host.networks import OPERATIONS, wrap_network
    from any2pix.nodes.sockets import Embedding

    dims = UnclipDims(embed=64, hidden=8, context=2048, pooled=1280, pooled_in=4)
    path = unet_path.with_name("wide.safetensors")
    write_network_file(path, "adapter", UnclipProjector(dims).state_dict(), dims.to_dict())
    adapter = wrap_network(load_adapter(path, OPERATIONS))
    path.unlink()
    widgets = {"scale": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    with pytest.raises(ValueError, match="tokens of 2048 .* the model reads 48"):
        run(
            pack.ApplyEmbedding,
            model=networks["model"],
            adapter=adapter,
            embedding=Embedding(torch.ones(64)),
            **widgets,
        )


def test_nothing_keeps_a_network_alive_but_the_loaders_output(run, tiny):
    network = run(pack.LoadImageBind, name=tiny)[0]
    network.load()
    module = weakref.ref(network.module)
    del network
    gc.collect()
    assert module() is None


def test_the_published_networks_get_the_tokenizer_that_comfyui_ships(networks):
    from any2pix.nodes.load import clip_tokenizer
    from comfy.sd1_clip import SDTokenizer

    text = "a cat's 3 red balloons!"
    theirs = [token for token, _ in SDTokenizer().tokenize_with_weights(text)[0]]
    ours = clip_tokenizer().encode(text, add_special_tokens=False).ids
    assert ours == theirs[1 : theirs.index(49407)]
    for kind in ("imagebind", "prior"):
        assert networks[kind].module.tokenizer.get_vocab_size() < 600  # our files bring their own
