"""LATENTs that are nearly right, at every node that takes one: other kinds, other precision, broken numbers, copies.
Each is handled or named for what it is."""

import pytest
import torch
from any2pix.nodes import (
    ApplyEmbedding,
    DDIMInvert,
    EmbeddingSampler,
    InstructPix2PixGuider,
    MixEmbeddings,
    NoiseMix,
    Refine,
)
from any2pix.nodes.host.inverted import INVERSION_KEY
from any2pix.nodes.sockets import Embedding
from harness.pix2pix_models import pix2pix_model, prompts, sample
from harness.unet_eps import relative, seeded

pytestmark = pytest.mark.one_host

STEPS = 3
SHAPE = (2, 4, 6, 9)
SIGMAS = torch.tensor([9.0, 4.0, 1.5, 0.0])
HALF = 2e-3  # relative error of numbers that were in fp16 once
NAN = float("nan")


class Nested:
    """What newer ComfyUIs put into a LATENT of video with sound."""

    is_nested = True

    def unbind(self):
        return [torch.zeros(1, 128, 3, 4, 4), torch.zeros(1, 8, 16)]


WRONG = {
    "nothing": (None, "is not a LATENT: it has NoneType"),
    "a tensor alone": (torch.ones(SHAPE), "is not a LATENT: it has Tensor"),
    "a sound": ({"waveform": torch.ones(1, 2, 9), "sample_rate": 16000}, "is not a LATENT: it has NoneType"),
    "no samples": ({"samples": None}, "is not a LATENT: it has NoneType"),
    "a list": ({"samples": [torch.ones(SHAPE)]}, "is not a LATENT: it has list"),
    "video with sound": ({"samples": Nested()}, "holds several latents"),
    "16 channels": (
        {"samples": torch.ones(1, 16, 6, 9)},
        r"shape \(1, 16, 6, 9\); this model needs \(batch, 4, height, width\)",
    ),
    "a video": ({"samples": torch.ones(1, 4, 3, 6, 9)}, r"shape \(1, 4, 3, 6, 9\).*a video's"),
    "a sound's latent": ({"samples": torch.ones(1, 8, 16)}, r"shape \(1, 8, 16\).*a sound's"),
    "no batch": ({"samples": torch.ones(4, 6, 9)}, r"shape \(4, 6, 9\)"),
    "an empty batch": ({"samples": torch.ones(0, 4, 6, 9)}, r"shape \(0, 4, 6, 9\): it is empty"),
}


@pytest.fixture(scope="module")
def pix2pix(tiny):
    return pix2pix_model("sdxl")


@pytest.fixture(scope="module")
def clean():
    return {"samples": seeded(*SHAPE, seed=8) / 0.13025}


@pytest.fixture(scope="module")
def nodes(run, networks, vectors, texts, pix2pix):
    """Name -> the node as a function of its LATENT, with everything else as it should be."""
    positive, negative = prompts("sdxl")
    applied = run(
        ApplyEmbedding, model=networks["model"], adapter=networks["adapter"], embedding=vectors[0], scale=1.0,
        start_percent=0.0, end_percent=1.0,
    )  # fmt: skip

    def invert(latent, **change):
        widgets = {"steps": STEPS, "scheduler": "normal", "iterations": 1, "tolerance": 0.1, **change}
        return run(DDIMInvert, **{"model": networks["model"], "conditioning": applied[1], "latent": latent, **widgets})[
            0
        ]

    def paint(latent, **change):
        widgets = {"seed": 5, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", **change}
        inputs = {"model": networks["model"], "adapter": networks["adapter"], "embedding": vectors[0], "latent": latent}
        return run(EmbeddingSampler, **{**inputs, **widgets})[0]

    def edit(latent, **change):
        scales = {"text_guidance": 6.0, "image_guidance": 1.0}
        inputs = {"model": pix2pix, "positive": positive, "negative": negative, "image": latent}
        guider, empty = run(InstructPix2PixGuider, **{**inputs, **scales, **change})
        return {"samples": sample(guider, empty, SIGMAS)}

    def mix(latent, **change):
        return run(NoiseMix, latent=latent, **{"seed": 1, "alpha": 0.5, "mode": "paper", **change})[0]

    return {
        "DDIM Invert": invert,
        "SDXL Embedding Sampler": paint,
        "InstructPix2Pix Guidance": edit,
        "Latent Noise Mix": mix,
    }


WITH_MODEL = ["DDIM Invert", "SDXL Embedding Sampler", "InstructPix2Pix Guidance"]


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("node", WITH_MODEL)
def test_a_latent_of_another_kind_is_named(nodes, node, kind):
    latent, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"The (latent|image) of {node} .*{message}"):
        nodes[node](latent)


@pytest.mark.parametrize("kind", ["nothing", "a tensor alone", "no samples", "video with sound"])
def test_what_is_no_latent_is_named_by_the_noise_mix(nodes, kind):
    latent, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"The latent of Latent Noise Mix {message}"):
        nodes["Latent Noise Mix"](latent)


@pytest.mark.parametrize("kind", ["16 channels", "a video"])
def test_another_kind_is_not_inverted_for_the_noise_mix(nodes, kind):
    with pytest.raises(ValueError, match="The latent of Latent Noise Mix was not inverted. Put DDIM Invert in between"):
        nodes["Latent Noise Mix"](WRONG[kind][0])


def test_an_empty_latent_of_other_channels_is_painted_as_by_stock_samplers(nodes):
    assert nodes["SDXL Embedding Sampler"]({"samples": torch.zeros(1, 16, 6, 9)})["samples"].shape == (1, 4, 6, 9)


@pytest.mark.parametrize("base", [{}, {"base": Embedding(None)}])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_inverting_in_sixteen_bits_is_inverting_in_thirty_two(nodes, clean, dtype, base):
    half = {"samples": clean["samples"].to(dtype)}
    found = nodes["DDIM Invert"](half, **base)["samples"]
    assert found.dtype == torch.float32 and found.isfinite().all()
    assert torch.equal(found, nodes["DDIM Invert"]({"samples": half["samples"].float()}, **base)["samples"])
    masked = {**half, "noise_mask": torch.ones(1, 6, 9, dtype=dtype)}
    assert nodes["DDIM Invert"](masked, **base)["samples"].isfinite().all()


def test_sampling_in_sixteen_bits_is_sampling_in_thirty_two(nodes, clean):
    paint, invert = nodes["SDXL Embedding Sampler"], nodes["DDIM Invert"]
    empty = torch.zeros(SHAPE)
    assert torch.equal(paint({"samples": empty.half()})["samples"], paint({"samples": empty})["samples"])
    inverted = invert({"samples": clean["samples"].half()})
    assert relative(paint(inverted)["samples"], paint(invert(clean))["samples"]) < 10 * HALF


def test_where_comfyui_hands_on_sixteen_bits_the_inversion_keeps_thirty_two(nodes, clean, monkeypatch):
    """--fp16-intermediates of newer ComfyUIs; older ones have no such thing to set."""
    import comfy.model_management as management

    expected = nodes["DDIM Invert"](clean)
    monkeypatch.setattr(management, "intermediate_dtype", lambda: torch.float16, raising=False)
    found = nodes["DDIM Invert"](clean)
    assert torch.equal(found["samples"], expected["samples"])
    mixed = nodes["Latent Noise Mix"](found)
    for latent in (found, mixed):
        assert nodes["SDXL Embedding Sampler"](latent)["samples"].isfinite().all()


@pytest.mark.parametrize("scales", [(6.0, 1.0), (1.0, 1.0), (6.0, 1.7)])
def test_editing_in_sixteen_bits_is_editing_in_thirty_two(nodes, clean, scales):
    edit, scales = (
        nodes["InstructPix2Pix Guidance"],
        dict(zip(("text_guidance", "image_guidance"), scales, strict=True)),
    )
    half = {"samples": clean["samples"].half()}
    found = edit(half, **scales)["samples"]
    assert torch.equal(found, edit({"samples": half["samples"].float()}, **scales)["samples"])


def test_a_guider_takes_the_noise_and_the_latent_of_others_in_sixteen_bits(run, pix2pix, clean):
    positive, negative = prompts("sdxl")
    inputs = {"positive": positive, "negative": negative, "image": clean, "text_guidance": 6.0, "image_guidance": 1.0}
    guider, empty = run(InstructPix2PixGuider, model=pix2pix, **inputs)
    half = {"samples": empty["samples"].half()}
    assert sample(guider, half, SIGMAS, seeded(*SHAPE, seed=3).half()).isfinite().all()


def broken(samples, row=1, value=NAN):
    samples = samples.clone()
    samples[row, 0, 0, :3] = value
    return samples


@pytest.mark.parametrize("value", [NAN, float("inf")])
@pytest.mark.parametrize("node", WITH_MODEL)
def test_broken_numbers_are_named_with_their_row(nodes, clean, node, value):
    with pytest.raises(ValueError, match=f"of {node} holds 3 values that are NaN or infinite in row 2 of 2"):
        nodes[node]({"samples": broken(clean["samples"], value=value)})


@pytest.mark.parametrize("node", ["SDXL Embedding Sampler", "Latent Noise Mix", "DDIM Invert"])
def test_an_inverted_latent_that_broke_on_its_way_is_not_said_to_be_clean(nodes, clean, node):
    inverted = nodes["DDIM Invert"](clean)
    with pytest.raises(ValueError, match=f"latent of {node} holds 3 values that are NaN or infinite in row 1 of 2"):
        nodes[node]({**inverted, "samples": broken(inverted["samples"], row=0)})


@pytest.mark.parametrize("node", ["DDIM Invert", "InstructPix2Pix Guidance"])
def test_an_empty_row_of_a_batch_is_named(nodes, clean, node):
    samples = torch.cat([clean["samples"], torch.zeros(1, *SHAPE[1:])])
    with pytest.raises(ValueError, match=f"of {node} is a batch of 3, and row 3 of it is an empty latent"):
        nodes[node]({"samples": samples})


@pytest.mark.parametrize("node", WITH_MODEL)
def test_a_mask_that_is_none_is_no_mask_and_a_broken_one_is_named(nodes, clean, node):
    latent = clean if node != "SDXL Embedding Sampler" else {"samples": torch.zeros(SHAPE)}
    assert torch.equal(nodes[node]({**latent, "noise_mask": None})["samples"], nodes[node](latent)["samples"])
    with pytest.raises(ValueError, match=f"noise mask of the (latent|image) of {node} holds 54 values"):
        nodes[node]({**latent, "noise_mask": torch.full((1, 6, 9), NAN)})
    with pytest.raises(ValueError, match=f"noise mask of the (latent|image) of {node} is str, not a mask"):
        nodes[node]({**latent, "noise_mask": "everything"})


@pytest.mark.parametrize("copy", [torch.clone, torch.Tensor.half, lambda x: x.to("cpu", torch.float64)])
def test_a_copy_of_an_inverted_latent_is_the_inverted_latent(nodes, clean, copy):
    inverted = nodes["DDIM Invert"](clean)
    copied = {**inverted, "samples": copy(inverted["samples"])}
    for node in ("SDXL Embedding Sampler", "Latent Noise Mix"):
        assert torch.equal(nodes[node](copied)["samples"], nodes[node](inverted)["samples"])


def test_an_inverted_latent_that_was_sampled_since_is_not_said_to_be_never_inverted(nodes, clean):
    sampled = {**nodes["DDIM Invert"](clean), "samples": clean["samples"] * 0.9}
    for node in ("SDXL Embedding Sampler", "Latent Noise Mix"):
        with pytest.raises(
            ValueError, match=f"latent of {node} was inverted, but a sampler or another node has changed its content"
        ):
            nodes[node](sampled)


def test_latents_of_another_models_kind_are_named(nodes, clean):
    """SD 1.5 and SDXL have the same channels and the same noise levels."""
    from dataclasses import replace

    import comfy.latent_formats

    inverted = nodes["DDIM Invert"](clean)
    other = replace(inverted[INVERSION_KEY], latent_format=comfy.latent_formats.SD15())
    with pytest.raises(ValueError, match="inverted with a model of SD15 latents, the sampler's has SDXL latents"):
        nodes["SDXL Embedding Sampler"]({**inverted, INVERSION_KEY: other})


# --- what makes NaN on the way ----------------------------------------------------------------------------------------


def overflowing(model):
    """A MODEL whose network answers with infinite numbers, as one in fp16 may."""
    clone = model.clone()
    clone.set_model_unet_function_wrapper(lambda ask, told: ask(told["input"], told["timestep"], **told["c"]) / 0.0)
    return clone


@pytest.mark.parametrize("node", WITH_MODEL)
def test_a_model_that_overflows_is_named(nodes, networks, pix2pix, clean, node):
    latent = clean if node != "SDXL Embedding Sampler" else {"samples": torch.zeros(SHAPE)}
    model = pix2pix if node == "InstructPix2Pix Guidance" else networks["model"]
    with pytest.raises(
        ValueError,
        match=f"latent that {node} (found|painted) holds .* in rows 1, 2 of 2. The diffusion model overflowed",
    ):
        nodes[node](latent, model=overflowing(model))


def test_conditioning_that_holds_nan_is_named_and_not_the_model(nodes, clean, texts):
    text, extras = texts[0][0]
    second = [texts[0][0], [text, {**extras, "pooled_output": extras["pooled_output"] * NAN}]]
    first = [[text * NAN, extras]]
    for given, which in (
        (first, "The conditioning of DDIM Invert"),
        (second, "entry 2 of 2 in the conditioning of DDIM Invert"),
    ):
        with pytest.raises(ValueError, match=f"{which} holds NaN"):
            nodes["DDIM Invert"](clean, conditioning=given)
    for side in ("positive", "negative"):
        with pytest.raises(ValueError, match=f"The {side} of InstructPix2Pix Guidance holds NaN"):
            nodes["InstructPix2Pix Guidance"](clean, **{side: first})
    with pytest.raises(ValueError, match="The positive holds NaN"):
        nodes["SDXL Embedding Sampler"]({"samples": torch.zeros(SHAPE)}, positive=first)
    with pytest.raises(ValueError, match="conditioning of DDIM Invert is empty"):
        nodes["DDIM Invert"](clean, conditioning=[])


@pytest.mark.parametrize("input_name", ["embedding", "local", "negative_embedding"])
def test_an_embedding_that_holds_nan_or_is_anothers_is_named(apply, vectors, input_name):
    given = {"embedding": vectors[0], input_name: Embedding(vectors[1].vector * NAN)}
    with pytest.raises(ValueError, match=f"The {input_name} holds NaN"):
        apply(given.pop("embedding"), **given)
    given = {"embedding": vectors[0], input_name: Embedding(seeded(1024, seed=1))}
    with pytest.raises(ValueError, match=f"The {input_name} has 1024 numbers, the adapter reads 64"):
        apply(given.pop("embedding"), **given)


def test_the_prior_and_the_mix_name_nan(run, networks, vectors, monkeypatch):
    widgets = {"source": "predicted", "aesthetic_score": 6.5, "guidance": 1.0}
    with pytest.raises(ValueError, match="embedding to refine holds NaN"):
        run(Refine, prior=networks["prior"], embedding=Embedding(vectors[0].vector * NAN), **widgets)
    forward = type(networks["prior"].module).forward
    monkeypatch.setattr(type(networks["prior"].module), "forward", lambda *inputs: forward(*inputs) / 0.0)
    with pytest.raises(
        ValueError, match="The result of Refinement Prior holds NaN.*precision of Load Refinement Prior"
    ):
        run(Refine, prior=networks["prior"], embedding=vectors[0], **widgets)
    weights = {"edit_weight": 1.0, "refined_weight": 1.0, "base_weight": 0.0, "norm": 20.0}
    for part in ("edit", "refined"):
        given = {"edit": vectors[0], part: Embedding(vectors[1].vector * NAN)}
        with pytest.raises(ValueError, match=f"The {part} embedding holds NaN"):
            run(MixEmbeddings, **given, **weights)


@pytest.mark.parametrize("node", ["InstructPix2Pix Guidance", "DDIM Invert", "SDXL Embedding Sampler"])
def test_a_guidance_that_is_no_number_is_named(nodes, clean, node):
    latent = clean if node != "SDXL Embedding Sampler" else {"samples": torch.zeros(SHAPE)}
    for widget in ("text_guidance", "image_guidance") if node == "InstructPix2Pix Guidance" else ("cfg",):
        with pytest.raises(ValueError, match=f"{widget} of {node} is nan. It must be from 0"):
            nodes[node](latent, **{widget: NAN})


def test_a_scale_that_is_no_number_is_named(apply, vectors):
    with pytest.raises(ValueError, match="scale of Apply Embedding is nan"):
        apply(vectors[0], scale=NAN)


def test_a_flow_model_is_named_and_not_its_latent(nodes, networks, clean):
    """Flux and its kind have 16 channels."""
    import comfy.latent_formats
    import comfy.model_sampling

    class Flow(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.CONST):
        pass

    model = networks["model"].clone()
    model.add_object_patch("model_sampling", Flow(model.model.model_config))
    model.add_object_patch("latent_format", comfy.latent_formats.Flux())
    for base in ({}, {"base": Embedding(None)}):
        with pytest.raises(ValueError, match="the connected model is a flow model"):
            nodes["DDIM Invert"](clean, model=model, **base)


def test_the_noise_names_the_latent_that_it_is_used_with(run, networks, texts, clean):
    inputs = {"model": networks["model"], "conditioning": texts[0], "latent": clean}
    noise = run(DDIMInvert, **inputs, steps=STEPS, scheduler="normal", iterations=1, tolerance=0.1)[1]
    with pytest.raises(
        ValueError, match="latent_image of the sampler holds 3 values that are NaN or infinite in row 2 of 2"
    ):
        noise.generate_noise({"samples": broken(clean["samples"])})
    with pytest.raises(ValueError, match="latent_image of the sampler holds several latents"):
        noise.generate_noise({"samples": Nested()})
