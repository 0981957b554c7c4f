"""Inversion up to a step, under a mask, with guidance, with every scheduler: ComfyUI's own samplers lead back."""

import comfy.samplers
import pytest
import torch
from any2pix.models.backbone import SDXL
from any2pix.nodes import DDIMInvert, EmbeddingSampler, NoiseMix
from any2pix.nodes.host.inverted import inversion_of
from any2pix.nodes.sockets import Embedding
from any2pix.stages.sample import SCHEDULES, schedule
from harness.inverting import applied_fixture, clean_fixture, vector  # noqa: F401
from harness.unet_eps import relative

STEPS = 4
EXACT = {"iterations": 20, "tolerance": 1e-5}


@pytest.fixture(scope="module")
def invert(run, applied):
    """LATENT, NOISE, SIGMAS, SAMPLER."""

    def inverted(latent, steps=STEPS, scheduler="normal", **more):
        widgets = {"steps": steps, "scheduler": scheduler, **EXACT, **more}
        return run(DDIMInvert, model=applied[0], conditioning=applied[1], latent=latent, **widgets)

    return inverted


@pytest.fixture(scope="module")
def ours(run, networks):
    """SDXL Embedding Sampler with the embeddings of `applied`."""

    def sampled(latent, steps=STEPS, scheduler="normal", cfg=1.0):
        widgets = {"seed": 5, "steps": steps, "cfg": cfg, "sampler_name": "euler", "scheduler": scheduler}
        inputs = {"embedding": vector(1), "negative_embedding": vector(2), "latent": latent}
        return run(EmbeddingSampler, model=networks["model"], adapter=networks["adapter"], **inputs, **widgets)[0]

    return sampled


def advanced(applied, latent, start, cfg=1.0, scheduler="normal", add_noise="disable", seed=5):
    """Stock KSampler (Advanced) from a step on."""
    from nodes import KSamplerAdvanced

    widgets = (add_noise, seed, STEPS, cfg, "euler", scheduler, applied[1], applied[2], latent, start, 10000, "disable")
    with torch.inference_mode():
        return KSamplerAdvanced().sample(applied[0], *widgets)[0]


def custom_advanced(applied, noise, sigmas, latent):
    """Stock SamplerCustomAdvanced with CFGGuider and euler, cfg 1."""
    from comfy_extras.nodes_custom_sampler import CFGGuider, KSamplerSelect, SamplerCustomAdvanced

    with torch.inference_mode():
        guider = CFGGuider.execute(*applied, 1.0).result[0]
        return SamplerCustomAdvanced.execute(
            noise, guider, KSamplerSelect.execute("euler").result[0], sigmas, latent
        ).result[0]


@pytest.mark.parametrize("start", [1, 2, STEPS - 1])
def test_inverted_up_to_a_step_every_sampler_returns_the_source(invert, ours, applied, clean, start):
    latent, noise, sigmas, *_ = invert(clean, start_at_step=start)
    assert len(sigmas) == STEPS + 1 - start
    stock = advanced(applied, latent, start)["samples"]
    assert relative(stock, clean["samples"]) < 1e-3
    custom = custom_advanced(applied, noise, sigmas, clean)["samples"]
    assert relative(custom, stock) < 1e-5
    assert torch.equal(ours(latent)["samples"], stock)


@pytest.mark.parametrize("mode", ["paper", "polar"])
def test_the_mix_of_a_partial_inversion_lies_between_it_and_image_to_image(run, invert, ours, applied, clean, mode):
    latent, *_ = invert(clean, start_at_step=2)
    kept = run(NoiseMix, latent=latent, seed=5, alpha=1.0, mode=mode)[0]
    torch.testing.assert_close(kept["samples"], latent["samples"], rtol=1e-4, atol=1e-4)
    half, noise, _ = run(NoiseMix, latent=latent, seed=5, alpha=0.5, mode=mode)
    sigmas = inversion_of(half).sigmas
    assert relative(custom_advanced(applied, noise, sigmas, clean)["samples"], ours(half)["samples"]) < 1e-5
    fresh = run(NoiseMix, latent=latent, seed=5, alpha=0.0, mode="polar")[0]
    stock = advanced(applied, clean, 2, add_noise="enable")["samples"]
    assert relative(ours(fresh)["samples"], stock) < 1e-4


@pytest.mark.parametrize("base", [Embedding(None), Embedding(torch.ones(64), blank=True)], ids=["null", "a sound"])
def test_without_a_base_picture_it_paints_from_the_top_whatever_the_start_step(invert, clean, base):
    latent, _, sigmas, *_ = invert(clean, start_at_step=3, base=base)
    assert len(sigmas) == STEPS + 1 and inversion_of(latent).start_step == 0 and inversion_of(latent).blank


@pytest.mark.parametrize("start", [STEPS, 99])
def test_a_start_step_beyond_the_last_is_an_error(invert, clean, start):
    with pytest.raises(ValueError, match=f"start_at_step is {start}, .* steps 0 to 3 here. Set start_at_step to 3"):
        invert(clean, start_at_step=start)


def test_our_sampler_names_the_steps_when_a_partial_inversion_has_others(invert, ours, clean):
    latent, *_ = invert(clean, start_at_step=2)
    with pytest.raises(ValueError, match="Set steps to 4 on both"):
        ours(latent, steps=3)
    with pytest.raises(ValueError, match="Set scheduler to 'normal' on both"):
        ours(latent, scheduler="karras")


def test_a_sampled_partial_inversion_is_no_inverted_latent_any_more(invert, applied, clean):
    latent, *_ = invert(clean, start_at_step=STEPS - 1)
    assert inversion_of(advanced(applied, latent, STEPS - 1)) is None


def test_with_guidance_on_both_sides_the_source_returns(invert, ours, applied, clean):
    latent, *_ = invert(clean, cfg=5.0, negative=applied[2])
    assert relative(advanced(applied, latent, 0, cfg=5.0)["samples"], clean["samples"]) < 2e-3
    assert relative(ours(latent, cfg=5.0)["samples"], clean["samples"]) < 2e-3
    unguided, *_ = invert(clean)
    assert relative(ours(unguided, cfg=5.0)["samples"], clean["samples"]) > 1e-2


def test_guidance_without_a_negative_is_an_error(invert, clean):
    with pytest.raises(ValueError, match="cfg of DDIM Invert is 5 but no negative is connected"):
        invert(clean, cfg=5.0)


@pytest.fixture(scope="module")
def mask():
    mask = torch.zeros(1, 1, 6, 9)
    mask[..., :5] = 1.0
    return mask


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("soft", [False, True])
def test_inverted_under_a_mask_the_source_returns_under_this_mask(invert, ours, applied, clean, mask, start, soft):
    mask = torch.where(torch.arange(9) == 4, 0.5, mask) if soft else mask
    masked = {**clean, "noise_mask": mask}
    latent, noise, sigmas, *_ = invert(masked, start_at_step=start)
    stock = custom_advanced(applied, noise, sigmas, masked)["samples"]
    assert relative(stock, clean["samples"]) < (2e-2 if soft else 1e-3)
    assert relative(ours(latent)["samples"], stock) < 1e-5
    if not soft and start == 0:
        _, noise, *_ = invert(clean, start_at_step=start)
        without = custom_advanced(applied, noise, sigmas, masked)["samples"]
        assert relative(without, clean["samples"]) > 3 * relative(stock, clean["samples"])


def test_a_masked_batch_keeps_each_sample_to_its_own_mask(invert, ours, clean, mask):
    other = clean["samples"].flip(-1)
    batch = {"samples": torch.cat([clean["samples"], other]), "noise_mask": torch.cat([mask, 1 - mask])}
    latent, *_ = invert(batch)
    assert relative(ours(latent)["samples"], batch["samples"]) < 1e-3


def test_a_batch_is_inverted_as_its_samples_alone(invert, clean):
    other = {"samples": 2 * clean["samples"].flip(-1)}
    batch = {"samples": torch.cat([clean["samples"], other["samples"]])}
    loose = {"tolerance": 1e-2}
    together = invert(batch, **loose)[0]["samples"]
    alone = torch.cat([invert(one, **loose)[0]["samples"] for one in (clean, other)])
    assert relative(together, alone) < 1e-5


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_every_scheduler_leads_back(invert, ours, clean, scheduler):
    for start in (0, 1):
        latent, *_ = invert(clean, scheduler=scheduler, start_at_step=start)
        assert relative(ours(latent, scheduler=scheduler)["samples"], clean["samples"]) < 1e-3


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 20, 30, 70])
def test_our_schedules_are_comfyuis(networks, name, steps):
    theirs = comfy.samplers.calculate_sigmas(networks["model"].get_model_object("model_sampling"), name, steps)
    torch.testing.assert_close(schedule(name, steps, SDXL), theirs, rtol=1e-4, atol=1e-6)


def test_a_flow_model_is_an_error(run, applied, clean):
    import comfy.model_sampling

    class Flow(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.CONST):
        pass

    model = applied[0].clone()
    model.add_object_patch("model_sampling", Flow(model.model.model_config))
    widgets = {"steps": STEPS, "scheduler": "normal", **EXACT}
    with pytest.raises(ValueError, match="flow model"):
        run(DDIMInvert, model=model, conditioning=applied[1], latent=clean, **widgets)
