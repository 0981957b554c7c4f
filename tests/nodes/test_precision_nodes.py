"""Weights in full, half and 8-bit precision: what is kept how, what it costs, what loads, and what a loader tells of
it."""

import any2pix.nodes as pack
import pytest
import torch
from any2pix.loading.files import read_network_file, write_network_file
from any2pix.nodes.host import folders, precision
from any2pix.nodes.host.networks import describe
from any2pix.stages.any2pix.instruct import instruct
from any2pix.stages.any2pix.refine import refine
from any2pix.stages.encode import encode_image, encode_text
from any2pix.stages.types import Reference

LOADERS = {
    "imagebind": pack.LoadImageBind,
    "llm": pack.LoadLLM,
    "prior": pack.LoadPrior,
    "adapter": pack.LoadAdapter,
}
COSINE = {"bf16": 0.9999, "fp16": 0.99999, "fp8_e4m3fn": 0.9995}  # measured 0.99999, 1.0, 0.99984
INSTRUCTION = "make it rain in [image1]"


@pytest.fixture(scope="module")
def load(run, tiny):
    """The network of a loader node, by kind and precision; the miniature."""
    return lambda kind, kept: run(LOADERS[kind], name="miniature", precision=kept)[0]


@pytest.fixture(scope="module")
def picture():
    from any2pix.datagen.toyland import Scene, render

    return torch.from_numpy(render(Scene("meadow", "cat", "sunny", "flat", seed=1))).float() / 255


@pytest.fixture(scope="module")
def embeddings(load, picture):
    """Precision -> what each network answers: (4, 64), of a picture, of a text, refined, and the LLM's edit."""

    def answers(kept: str) -> torch.Tensor:
        imagebind, prior, llm = (load(kind, kept).load() for kind in ("imagebind", "prior", "llm"))
        seen = encode_image(imagebind, picture, dtype=torch.float32)
        read = encode_text(imagebind, "a cat in the meadow", dtype=torch.float32)
        plan = instruct(llm, (Reference(seen, "image", image=picture),), INSTRUCTION)
        return torch.stack([seen, read, refine(prior, seen, "image"), plan.edit.float()])

    with torch.inference_mode():
        return {kept: answers(kept) for kept in ("fp32", *COSINE)}


@pytest.mark.parametrize("kept", COSINE)
def test_embeddings_stay_those_of_full_precision(embeddings, kept):
    cosines = torch.cosine_similarity(embeddings[kept], embeddings["fp32"], dim=-1)
    assert float(cosines.min()) > COSINE[kept]


def test_a_scale_for_every_row_loses_less_than_plain_8_bits():
    """Small weights are e4m3's subnormals: cast as they are, they lose several times as much. Measured 0.026 and
    0.11."""
    layer = precision.Fp8Layers.Linear(512, 512)
    weight = 0.005 * torch.randn(512, 512, generator=torch.Generator().manual_seed(0))
    layer.weight, layer.bias = torch.nn.Parameter(weight), None
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    exact = x @ weight.T
    plain = x @ weight.to(torch.float8_e4m3fn).float().T
    layer.keep_in_fp8()
    scaled = layer(x)
    error, plain_error = ((answer - exact).norm() / exact.norm() for answer in (scaled.detach(), plain))
    assert error < 0.03 and plain_error > 3 * error


def test_8_bit_weights_stretched_to_the_whole_range_do_not_overflow_half_precision():
    layer = precision.Fp8Layers.Linear(1024, 8)
    layer.weight, layer.bias = torch.nn.Parameter(torch.full((8, 1024), 0.01)), None
    layer.keep_in_fp8()
    x = torch.full((1, 1024), 10.0, dtype=torch.float16)
    torch.testing.assert_close(layer(x), torch.full((1, 8), 102.4, dtype=torch.float16), rtol=2e-3, atol=0)


@pytest.mark.parametrize("kind", ["imagebind", "llm", "prior"])
def test_8_bits_hold_the_blocks_and_nothing_that_embeddings_pass_through(load, kind):
    kept = {name: p.dtype for name, p in load(kind, "fp8_e4m3fn").module.named_parameters()}
    eighth = [name for name, dtype in kept.items() if dtype == torch.float8_e4m3fn]
    assert eighth and all(name.endswith(".weight") for name in eighth)
    assert not any(set(name.split(".")) & set(precision.KEPT_IN_HALF) for name in eighth)
    assert not any("norm" in name.lower() or "embed_tokens" in name or "pos_embed" in name for name in eighth)
    assert {kept[name.replace(".weight", ".scale")] for name in eighth} == {torch.float32}


def test_a_prompt_in_8_bits_loads_partially_as_any_other(load):
    """The scales belong to their layers: ComfyUI's manager counts and moves them with the weight."""
    network = load("llm", "fp8_e4m3fn")
    listed = {name: params for _, _, name, _, params in network.patcher._load_list()}
    assert "scale" in listed["model.layers.0.mlp.up_proj"]
    assert network.patcher.model_size() >= sum(p.numel() * p.element_size() for p in network.module.parameters())


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_a_file_saved_in_few_bits_loads_in_any_precision(run, tiny, stored):
    source = folders.find_weights("prior", tiny)
    file = read_network_file(source, "prior")
    path = source.with_name(f"stored_{str(stored).removeprefix('torch.')}.safetensors")
    write_network_file(path, "prior", file.state_dict, file.dims, file.tokenizer_json, dtype=stored)
    try:
        for kept in precision.DTYPES:
            module = run(pack.LoadPrior, name=path.name, precision=kept)[0].load()
            vector = torch.nn.functional.normalize(torch.ones(64), dim=0)
            assert refine(module, vector, "image").isfinite().all()
    finally:
        path.unlink()


def test_auto_follows_what_comfyui_was_started_with(tiny, monkeypatch):
    from comfy.cli_args import args

    assert precision.choose_precision("auto") == "fp32"  # this is a CPU
    monkeypatch.setattr(args, "fp8_e4m3fn_text_enc", True)
    assert precision.choose_dtype("auto") == torch.float8_e4m3fn
    assert precision.choose_precision("bf16") == "bf16"  # the widget has the last word


def test_auto_takes_the_half_precision_that_the_device_computes_in(tiny, monkeypatch):
    import comfy.model_management as management

    monkeypatch.setattr(management, "should_use_bf16", lambda device: True)
    assert precision.choose_precision("auto") == "bf16"
    monkeypatch.setattr(management, "should_use_fp16", lambda device: True)
    assert precision.choose_precision("auto") == "fp16"
    assert precision.half_dtype() == torch.float16


def test_a_device_that_cannot_convert_from_8_bits_says_so(run, tiny, monkeypatch):
    import comfy.model_management as management

    monkeypatch.setattr(management, "get_torch_device", lambda: torch.device("mps"))
    with pytest.raises(ValueError, match=r"fp8_e4m3fn, which this device \(mps\) cannot .* Choose fp16"):
        run(pack.LoadPrior, name="miniature", precision="fp8_e4m3fn")


@pytest.mark.parametrize("merge, found", [("auto", "add"), ("add", "add"), ("substitute", "substitute")])
def test_the_llm_merges_references_as_the_widget_says(run, tiny, merge, found):
    assert run(pack.LoadLLM, name="miniature", precision="auto", merge=merge)[0].module.dims.merge == found


def test_a_loader_shows_kind_size_precision_file_and_place(tiny):
    with torch.inference_mode():
        shown = {kind: node.execute(name="miniature", precision="bf16") for kind, node in LOADERS.items()}
    texts = {kind: output.ui.as_dict()["text"][0].split("\n") for kind, output in shown.items()}
    for kind, (title, size, file, place, *_) in texts.items():
        module = shown[kind].result[0].module
        assert title.endswith("parameters") and size.endswith("in bf16")
        assert file == f"miniature/{kind}.safetensors" and place == "on cpu"
        assert str(sum(p.numel() for p in module.parameters()))[:2] == title.split(", ")[1].replace(".", "")[:2]
    assert texts["imagebind"][0].startswith("ImageBind, 1.41 million") and texts["llm"][-1] == "merge: add"
    assert texts["prior"][0].startswith("Refinement prior") and texts["adapter"][0].startswith("unCLIP projector")


def test_a_model_and_a_vae_are_described_too(networks, tiny):
    path = folders.find_weights("unet", tiny)
    assert describe(networks["model"], path).startswith("SDXL UNet, ")
    assert describe(networks["vae"], path).startswith("VAE, ")


def test_two_places_are_named_where_there_are_two(load, tiny):
    network = load("prior", "fp32")
    network.patcher.load_device = torch.device("cuda", 0)
    try:
        assert "on cuda:0 when used, else on cpu" in describe(network, folders.find_weights("prior", tiny))
    finally:
        network.patcher.load_device = torch.device("cpu")
