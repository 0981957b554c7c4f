"""A saved inversion gives the same edit, bit for bit, and says which model made it."""

from dataclasses import replace

import pytest
import torch
from any2pix.nodes import LoadInversion, NoiseMix, SaveInversion
from any2pix.nodes.host.identity import identify, sample_weights
from any2pix.nodes.host.inverted import INVERSION_KEY, inversion_of
from any2pix.nodes.host.patchers import is_dynamic
from any2pix.nodes.sockets import Embedding
from harness.saved_files import (  # noqa: F401
    STEPS,
    clean_fixture,
    folders_fixture,
    invert_fixture,
    keep,
    paint_fixture,
    vector_fixture,
)


@pytest.mark.parametrize("how", ["plain", "masked", "from a step", "<base_null>", "mixed"])
def test_an_inversion_paints_the_same_picture(run, invert, paint, clean, how):
    latent = dict(clean, batch_index=[7])
    if how == "masked":
        latent["noise_mask"] = torch.zeros(1, 48, 72).index_fill(2, torch.arange(30), 1.0)
    latent, noise, sigmas, *_ = invert(
        latent, start_at_step=1 if how == "from a step" else 0, base=Embedding(None) if how == "<base_null>" else None
    )
    if how == "mixed":
        latent, noise, _ = run(NoiseMix, latent=latent, seed=3, alpha=0.6, mode="paper")
    keep(run, "inversion", latent, "meadow")
    again, its_noise, its_sigmas, _ = run(LoadInversion, name="meadow.safetensors")
    assert again["batch_index"] == [7] and torch.equal(its_sigmas, sigmas)
    assert ("noise_mask" in again) == ("noise_mask" in latent)
    assert torch.equal(again["samples"], latent["samples"])
    assert torch.equal(paint(again), paint(latent))
    assert torch.equal(its_noise.generate_noise(clean), noise.generate_noise(clean))
    one, other = inversion_of(again), inversion_of(latent)
    for name in ("scheduler", "steps", "start_step", "sigma_max", "blank", "alpha", "settings"):
        assert getattr(one, name) == getattr(other, name), name
    remixed = [run(NoiseMix, latent=which, seed=9, alpha=0.5, mode="polar")[0]["samples"] for which in (again, latent)]
    assert torch.equal(*remixed)


def test_the_sampler_names_what_differs_from_a_loaded_inversion(run, invert, paint, clean):
    keep(run, "inversion", invert(clean)[0], "meadow")
    with pytest.raises(ValueError, match=f"Set steps to {STEPS} on both"):
        paint(run(LoadInversion, name="meadow.safetensors")[0], steps=STEPS + 1)


def test_the_node_shows_how_an_inversion_was_made(run, invert, clean):
    keep(run, "inversion", invert(clean, start_at_step=1)[0], "meadow")
    shown = LoadInversion.execute(name="meadow.safetensors").ui.as_dict()["text"][0]
    for word in (
        f"steps {STEPS} from step 1",
        "scheduler normal",
        "9 x 6",
        "made with SDXL",
        "iterations 5",
        "tolerance 0.0001",
        "cfg 1",
    ):
        assert word in shown, shown


def test_only_an_inversion_is_saved_as_one(run, invert, clean):
    with pytest.raises(ValueError, match="this one was not inverted"):
        keep(run, "inversion", clean, "meadow")
    latent = invert(clean)[0]
    other_noise = torch.randn(latent["samples"].shape, generator=torch.Generator().manual_seed(4)) * 14.6 / 0.13025
    with pytest.raises(ValueError, match="was changed by another node"):
        keep(run, "inversion", {**latent, "samples": other_noise}, "meadow")


def test_a_latent_format_that_a_file_cannot_name_is_refused(run, invert, clean):
    import comfy.latent_formats

    class Unheard(comfy.latent_formats.SDXL):
        pass

    latent = invert(clean)[0]
    inversion = replace(latent[INVERSION_KEY], latent_format=Unheard())
    with pytest.raises(ValueError, match="latent format Unheard is not one of ComfyUI's own"):
        keep(run, "inversion", {**latent, INVERSION_KEY: inversion}, "meadow")


def test_what_no_file_can_hold_is_named(invert, clean):
    latent = {**invert(clean)[0], "downscale_ratio_spacial": 8, "something": object()}
    shown = SaveInversion.execute(latent=latent, name="meadow", overwrite=False).ui.as_dict()["text"][0]
    assert "not saved of the latent: something" in shown
    assert LoadInversion.execute(name="meadow.safetensors").result[0]["downscale_ratio_spacial"] == 8


@pytest.fixture
def with_lora(networks):
    """MODEL with a LoRA of this strength on some weights."""

    def add(strength):
        model = networks["model"].clone()
        keys = [
            f"diffusion_model.{name}"
            for name, weight in model.model.diffusion_model.named_parameters()
            if weight.ndim > 1
        ]
        weights = model.model.state_dict()
        patches = {key: ("diff", (torch.full_like(weights[key], 0.01),)) for key in keys[::3]}
        assert model.add_patches(patches, strength)
        return model

    return add


def test_a_model_of_another_lora_is_named(run, invert, clean, networks, with_lora):
    keep(run, "inversion", invert(clean, model=with_lora(0.5))[0], "meadow")
    run(LoadInversion, name="meadow.safetensors", model=with_lora(0.5))
    run(LoadInversion, name="meadow.safetensors")
    for other in (with_lora(0.25), networks["model"]):
        with pytest.raises(ValueError, match="was made with other LoRAs or other LoRA strengths"):
            run(LoadInversion, name="meadow.safetensors", model=other)
    keep(run, "inversion", invert(clean)[0], "plain")
    with pytest.raises(ValueError, match="was made with the model without a LoRA"):
        run(LoadInversion, name="plain.safetensors", model=with_lora(0.5))


def test_a_lora_that_is_added_into_the_weights_is_looked_behind(networks, with_lora):
    from comfy.model_management import load_models_gpu

    plain, patched = identify(networks["model"]), with_lora(5.0)
    load_models_gpu([patched])
    try:
        raw = sample_weights(patched.model.diffusion_model)
        # streamed weights stay as they are: there the LoRA is added to what an operation is lent
        assert torch.equal(raw, plain.weights) == is_dynamic(patched)
        for model in (patched, networks["model"]):
            assert torch.equal(identify(model).weights, plain.weights)
    finally:
        load_models_gpu([networks["model"]])
    assert torch.equal(sample_weights(patched.model.diffusion_model), plain.weights)


def test_other_weights_are_named_and_another_precision_is_not(run, invert, clean, networks):
    latent = invert(clean)[0]
    made = latent[INVERSION_KEY].model

    def saved_with(weights):
        inversion = replace(latent[INVERSION_KEY], model=replace(made, weights=weights))
        keep(run, "inversion", {**latent, INVERSION_KEY: inversion}, "meadow", overwrite=True)
        return run(LoadInversion, name="meadow.safetensors", model=networks["model"])

    saved_with(made.weights.half().float())
    saved_with(made.weights.bfloat16().float())
    noise = torch.randn(made.weights.shape, generator=torch.Generator().manual_seed(2))
    with pytest.raises(ValueError, match="was made with other weights"):
        saved_with(made.weights + 0.02 * noise * made.weights.abs().mean())
    with pytest.raises(ValueError, match="a model of another size"):
        saved_with(made.weights[:-3])
