"""method O-BELM of DDIM Invert: our sampler node and the SAMPLER output lead back exactly, stock samplers refuse."""

import comfy.samplers
import pytest
import torch
from any2pix.nodes import DDIMInvert, EmbeddingSampler, LoadInversion, NoiseMix
from any2pix.nodes.host.inverted import inversion_of
from any2pix.nodes.sockets import Embedding
from harness.inverting import applied_fixture, clean_fixture, vector  # noqa: F401
from harness.saved_files import folders_fixture, keep  # noqa: F401
from harness.unet_eps import relative

STEPS = 6
EXACT = 3e-4  # 70 dB: the float32 of network and LATENT, amplified by the steps (most by linear_quadratic's last)


@pytest.fixture(scope="module")
def mask():
    return torch.zeros(1, 1, 6, 9).index_fill(3, torch.arange(5), 1.0)


@pytest.fixture(scope="module")
def invert(run, applied):
    """LATENT, NOISE, SIGMAS, SAMPLER."""

    def inverted(latent, scheduler="normal", **more):
        widgets = {"steps": STEPS, "scheduler": scheduler, "iterations": 10, "tolerance": 1e-3, "method": "O-BELM"}
        inputs = {"model": applied[0], "conditioning": applied[1], "latent": latent, **widgets, **more}
        return run(DDIMInvert, **inputs)

    return inverted


@pytest.fixture(scope="module")
def ours(run, networks):
    def sampled(latent, scheduler="normal", cfg=1.0, sampler_name="euler", embedding=1):
        widgets = {"seed": 5, "steps": STEPS, "cfg": cfg, "sampler_name": sampler_name, "scheduler": scheduler}
        inputs = {"embedding": vector(embedding), "negative_embedding": vector(2), "latent": latent}
        return run(EmbeddingSampler, model=networks["model"], adapter=networks["adapter"], **inputs, **widgets)[0]

    return sampled


def custom(applied, noise, sigmas, sampler, latent, cfg=1.0):
    """Stock SamplerCustomAdvanced."""
    from comfy_extras.nodes_custom_sampler import CFGGuider, SamplerCustomAdvanced

    with torch.inference_mode():
        guider = CFGGuider.execute(*applied, cfg).result[0]
        return SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_every_scheduler_leads_back(invert, ours, clean, scheduler):
    for start in (0, 1):
        latent, *_ = invert(clean, scheduler=scheduler, start_at_step=start)
        assert relative(ours(latent, scheduler=scheduler)["samples"], clean["samples"]) < EXACT


@pytest.mark.parametrize("cfg", [1.0, 5.0])
def test_both_samplers_lead_back_also_under_guidance(invert, ours, applied, clean, cfg):
    latent, noise, sigmas, sampler = invert(clean, cfg=cfg, negative=applied[2])
    assert relative(ours(latent, cfg=cfg)["samples"], clean["samples"]) < EXACT
    back = custom(applied, noise, sigmas, sampler, clean, cfg)["samples"]
    assert relative(back, clean["samples"]) < EXACT


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("soft", [False, True])
def test_under_a_mask_the_source_returns(invert, ours, applied, clean, mask, start, soft):
    mask = torch.where(torch.arange(9) == 4, 0.5, mask) if soft else mask
    masked = {**clean, "noise_mask": mask}
    latent, noise, sigmas, sampler = invert(masked, start_at_step=start)
    stock = custom(applied, noise, sigmas, sampler, masked)["samples"]
    assert relative(stock, clean["samples"]) < (5e-2 if soft else 1e-3)
    assert relative(ours(latent)["samples"], stock) < 1e-4


def test_outside_a_mask_that_came_after_the_inversion_the_picture_stays(invert, ours, applied, clean, mask):
    from nodes import SetLatentNoiseMask

    latent, noise, sigmas, sampler = invert(clean)
    masked = SetLatentNoiseMask().set_mask(latent, mask)[0]
    assert inversion_of(masked) is not None, "stock nodes that copy a LATENT keep its record"
    paints = {"guided": (applied, noise, sigmas, sampler, {**clean, "noise_mask": mask}, 3.0)}
    for painted in (ours(masked, cfg=3.0, embedding=3), custom(*paints["guided"])):
        torch.testing.assert_close(painted["samples"][..., 5:], clean["samples"][..., 5:], rtol=1e-5, atol=1e-4)
        assert relative(painted["samples"][..., :5], clean["samples"][..., :5]) > 1e-2


def test_the_noise_mix_moves_both_latents(run, invert, ours, applied, clean):
    latent, *_ = invert(clean)
    kept, *_ = run(NoiseMix, latent=latent, seed=5, alpha=1.0, mode="polar")
    assert relative(ours(kept)["samples"], clean["samples"]) < 1e-3
    half, noise, sampler = run(NoiseMix, latent=latent, seed=5, alpha=0.5, mode="polar")
    sigmas = inversion_of(half).sigmas
    painted = ours(half)["samples"]
    assert relative(custom(applied, noise, sigmas, sampler, clean)["samples"], painted) < 1e-4
    distances = [
        relative(ours(run(NoiseMix, latent=latent, seed=5, alpha=alpha, mode="polar")[0])["samples"], clean["samples"])
        for alpha in (1.0, 0.8, 0.0)
    ]
    assert distances == sorted(distances) and distances[-1] > 0.1


def test_a_batch_is_inverted_as_its_samples_alone(invert, ours, clean):
    other = {"samples": 2 * clean["samples"].flip(-1)}
    batch = {"samples": torch.cat([clean["samples"], other["samples"]])}
    together = invert(batch)[0]
    for row, one in enumerate((clean, other)):
        assert relative(inversion_of(together).below[row], inversion_of(invert(one)[0]).below[0]) < 1e-4
    assert relative(ours(together)["samples"], batch["samples"]) < EXACT


def test_one_inverted_picture_is_painted_as_often_as_the_latent_has_rows(invert, applied, clean):
    _, noise, sigmas, sampler = invert(clean)
    twice = {"samples": clean["samples"].repeat(2, 1, 1, 1)}
    assert relative(custom(applied, noise, sigmas, sampler, twice)["samples"], twice["samples"]) < EXACT


def test_stock_nodes_name_the_widget_instead_of_spoiling_the_picture(invert, applied, clean):
    from nodes import KSampler, KSamplerAdvanced, LatentUpscaleBy

    latent, *_ = invert(clean)
    advanced = ("disable", 5, STEPS, 1.0, "euler", "normal", *applied[1:], latent, 0, 10000, "disable")
    for use in (
        lambda: KSamplerAdvanced().sample(applied[0], *advanced),
        lambda: KSampler().sample(applied[0], 5, STEPS, 1.0, "euler", "normal", *applied[1:], latent.copy(), 1.0),
        lambda: LatentUpscaleBy().upscale(latent, "bilinear", 2.0),
    ):
        with pytest.raises(ValueError, match="set method of DDIM Invert to 'fixed point'"), torch.inference_mode():
            use()


def test_our_sampler_takes_no_other_stock_sampler(invert, ours, clean):
    latent, *_ = invert(clean)
    with pytest.raises(ValueError, match="sampler_name of SDXL Embedding Sampler is 'dpmpp_2m'.* to 'euler'"):
        ours(latent, sampler_name="dpmpp_2m")


def test_a_sampler_without_what_belongs_to_it_is_named(run, invert, applied, clean):
    latent, noise, sigmas, sampler = invert(clean)
    mixed, its_noise, _ = run(NoiseMix, latent=latent, seed=5, alpha=0.5, mode="paper")
    with pytest.raises(ValueError, match="belongs to another inversion than the noise"):
        custom(applied, its_noise, sigmas, sampler, clean)
    with pytest.raises(ValueError, match="an inversion with 6 steps, scheduler 'normal', from step 0"):
        custom(applied, noise, invert(clean, scheduler="karras")[2], sampler, clean)
    other = {"samples": torch.cat([clean["samples"], clean["samples"]], dim=-1)}
    with pytest.raises(ValueError, match="Connect the latent that went into DDIM Invert"):
        custom(applied, noise, sigmas, sampler, other)


def test_the_sampler_of_a_fixed_point_is_euler(invert, applied, clean):
    latent, noise, sigmas, sampler = invert(clean, method="fixed point", iterations=20, tolerance=1e-5)
    assert (
        type(latent) is dict
        and relative(custom(applied, noise, sigmas, sampler, clean)["samples"], clean["samples"]) < 1e-3
    )


@pytest.mark.parametrize("base", [Embedding(None), Embedding(torch.ones(64), blank=True)], ids=["null", "a sound"])
def test_without_a_base_picture_it_paints_from_noise_with_euler(invert, ours, clean, base):
    latent, *_ = invert(clean, base=base)
    blank, *_ = invert(clean, base=base, method="fixed point")
    assert torch.equal(ours(latent, cfg=2.0)["samples"], ours(blank, cfg=2.0)["samples"])


def test_too_few_steps_and_an_unknown_method_are_named(invert, clean):
    with pytest.raises(ValueError, match="at least 2 steps from the start on, got 1"):
        invert(clean, start_at_step=STEPS - 1)
    with pytest.raises(ValueError, match="method of DDIM Invert is 'belm', .* one of fixed point, O-BELM"):
        invert(clean, method="belm")


def test_a_saved_inversion_paints_the_same_picture(run, folders, invert, ours, clean):
    latent, noise, sigmas, _ = invert(clean)
    keep(run, "inversion", latent, "pair")
    again, its_noise, its_sigmas, its_sampler = run(LoadInversion, name="pair.safetensors")
    assert torch.equal(ours(again)["samples"], ours(latent)["samples"])
    assert "method O-BELM" in LoadInversion.execute(name="pair.safetensors").ui.as_dict()["text"][0]
    keep(run, "inversion", invert(clean, method="fixed point")[0], "one")
    assert "method fixed point" in LoadInversion.execute(name="one.safetensors").ui.as_dict()["text"][0]
