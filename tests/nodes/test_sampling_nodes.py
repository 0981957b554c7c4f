"""Inversion, noise mix, conditioning and sampling, against ComfyUI's own nodes."""

import pytest
import torch
from any2pix.models.backbone import SDXL
from any2pix.nodes import ApplyEmbedding, DDIMInvert, EmbeddingSampler, NoiseMix
from any2pix.nodes.host.inverted import INVERSION_KEY, inversion_of
from any2pix.nodes.sockets import Embedding
from harness.unet_eps import relative

STEPS = 4
ITERATIONS = 12  # the small network of the tests needs no more
WIDGETS = {"steps": STEPS, "scheduler": "normal"}


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(7)
    return [
        Embedding(20 * torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0)) for _ in range(3)
    ]


@pytest.fixture(scope="module")
def clean(networks):
    generator = torch.Generator().manual_seed(8)
    return {"samples": torch.randn(1, 4, 6, 9, generator=generator) / 0.13025}


@pytest.fixture(scope="module")
def applied(run, networks, vectors):
    """MODEL, positive and negative for the first vector."""
    return run(
        ApplyEmbedding,
        model=networks["model"],
        adapter=networks["adapter"],
        embedding=vectors[0],
        scale=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )


@pytest.fixture(scope="module")
def inverted(run, networks, applied, clean):
    """LATENT, NOISE, SIGMAS, SAMPLER."""
    return run(
        DDIMInvert,
        model=networks["model"],
        conditioning=applied[1],
        latent=clean,
        iterations=ITERATIONS,
        tolerance=0.0,
        **WIDGETS,
    )


def advanced(model, positive, negative, latent, cfg=1.0, add_noise="disable", steps=STEPS, scheduler="normal"):
    """Stock KSampler (Advanced)."""
    from nodes import KSamplerAdvanced

    with torch.inference_mode():
        return KSamplerAdvanced().sample(
            model, add_noise, 5, steps, cfg, "euler", scheduler, positive, negative, latent, 0, 10000, "disable"
        )[0]


def custom_advanced(model, positive, negative, noise, sigmas, latent, cfg=1.0):
    """Stock SamplerCustomAdvanced with CFGGuider and euler."""
    from comfy_extras.nodes_custom_sampler import CFGGuider, KSamplerSelect, SamplerCustomAdvanced

    with torch.inference_mode():
        guider = CFGGuider.execute(model, positive, negative, cfg).result[0]
        sampler = KSamplerSelect.execute("euler").result[0]
        return SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]


def our_sampler(run, networks, embedding, latent, cfg=1.0, **more):
    widgets = {"seed": 5, "cfg": cfg, "sampler_name": "euler", **WIDGETS, **more}
    return run(
        EmbeddingSampler,
        model=networks["model"],
        adapter=networks["adapter"],
        embedding=embedding,
        latent=latent,
        **widgets,
    )[0]


def test_inverting_then_sampling_returns_the_source(run, networks, applied, clean, inverted):
    back = advanced(networks["model"], applied[1], applied[2], inverted[0])
    assert relative(back["samples"], clean["samples"]) < 1e-3


def test_a_mixed_latent_has_the_length_of_comfyui_noise(run, inverted):
    mixed = run(NoiseMix, latent=inverted[0], seed=1, alpha=0.0, mode="polar")[0]
    sigma = float(inverted[2][0])
    assert float(mixed["samples"].std()) == pytest.approx(sigma / 0.13025, rel=0.2)


def test_noise_route_gives_the_same_picture(networks, applied, clean, inverted):
    latent, noise, sigmas, *_ = inverted
    one = advanced(networks["model"], applied[1], applied[2], latent, cfg=2.0)
    other = custom_advanced(networks["model"], applied[1], applied[2], noise, sigmas, clean, cfg=2.0)
    assert relative(one["samples"], other["samples"]) < 1e-5


def test_our_sampler_paints_the_pixels_of_the_stock_sampler(run, networks, vectors, inverted):
    mixed = run(NoiseMix, latent=inverted[0], seed=3, alpha=0.6, mode="paper")
    applied = run(
        ApplyEmbedding,
        model=networks["model"],
        adapter=networks["adapter"],
        embedding=vectors[1],
        negative_embedding=vectors[2],
        scale=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    ours = our_sampler(run, networks, vectors[1], mixed[0], cfg=2.0, negative_embedding=vectors[2])
    assert torch.equal(ours["samples"], advanced(*applied, mixed[0], cfg=2.0)["samples"])
    assert INVERSION_KEY not in ours


def test_our_sampler_paints_the_pixels_of_the_stock_sampler_from_noise(run, networks, applied, vectors):
    empty = {"samples": torch.zeros(2, 4, 4, 4)}
    ours = our_sampler(run, networks, vectors[0], empty, cfg=3.0)
    assert torch.equal(ours["samples"], advanced(*applied, empty, cfg=3.0, add_noise="enable")["samples"])


@pytest.mark.parametrize("scheduler", ["karras", "ddim_uniform"])
def test_outside_the_mask_the_clean_latent_stays_exactly(run, networks, applied, vectors, clean, scheduler):
    mask = torch.zeros(1, 1, 6, 9)
    mask[..., :5] = 1.0
    widgets = {"steps": STEPS, "scheduler": scheduler}
    latent, noise, sigmas, *_ = run(
        DDIMInvert,
        model=networks["model"],
        conditioning=applied[1],
        latent=clean,
        iterations=1,
        tolerance=0.0,
        **widgets,
    )
    stock = custom_advanced(
        networks["model"], applied[1], applied[2], noise, sigmas, {**clean, "noise_mask": mask}, cfg=2.0
    )
    ours = our_sampler(run, networks, vectors[0], {**latent, "noise_mask": mask}, cfg=2.0, scheduler=scheduler)
    for painted in (stock["samples"], ours["samples"]):
        torch.testing.assert_close(painted[..., 5:], clean["samples"][..., 5:], rtol=1e-6, atol=1e-6)
    assert relative(ours["samples"], stock["samples"]) < 1e-5


def test_noise_with_the_inverted_latent_and_a_mask_is_refused(networks, applied, inverted):
    latent, noise, sigmas, *_ = inverted
    masked = {**latent, "noise_mask": torch.ones(1, 1, 6, 9)}
    with pytest.raises(ValueError, match="Connect the clean latent instead"):
        custom_advanced(networks["model"], applied[1], applied[2], noise, sigmas, masked)


def test_noise_for_another_size_is_refused(inverted):
    with pytest.raises(ValueError, match=r"\(1, 4, 6, 9\), the sampler's latent is \(1, 4, 4, 4\)"):
        inverted[1].generate_noise({"samples": torch.zeros(1, 4, 4, 4)})


def test_mix_of_alpha_one_is_the_inverted_latent(run, inverted):
    mixed = run(NoiseMix, latent=inverted[0], seed=1, alpha=1.0, mode="paper")[0]
    torch.testing.assert_close(mixed["samples"], inverted[0]["samples"], rtol=1e-6, atol=1e-5)


def test_mix_of_alpha_zero_starts_where_txt2img_starts(run, networks, applied, inverted):
    mixed = run(NoiseMix, latent=inverted[0], seed=5, alpha=0.0, mode="polar")[0]
    empty = {"samples": torch.zeros_like(mixed["samples"])}
    from_noise = advanced(*applied, empty, add_noise="enable")
    assert relative(advanced(*applied, mixed)["samples"], from_noise["samples"]) < 1e-5


def test_base_null_inverts_nothing_and_paints_from_the_mixers_noise(run, networks, applied, clean):
    latent, *_ = run(
        DDIMInvert,
        model=networks["model"],
        conditioning=applied[1],
        latent=clean,
        iterations=1,
        tolerance=0.0,
        base=Embedding(None),
        **WIDGETS,
    )
    mixed = run(NoiseMix, latent=latent, seed=5, alpha=0.9, mode="paper")[0]
    empty = {"samples": torch.zeros_like(clean["samples"])}
    from_noise = advanced(*applied, empty, add_noise="enable")["samples"]
    assert relative(advanced(*applied, mixed)["samples"], from_noise) < 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": STEPS + 1}, "Set steps to 4 on both"),
        ({"scheduler": "karras"}, "Set scheduler to 'normal' on both"),
        ({"sampler_name": "dpm_2"}, "Set sampler_name to 'euler'"),
    ],
)
def test_another_schedule_than_the_inversions_is_an_error(run, networks, vectors, inverted, change, message):
    with pytest.raises(ValueError, match=message):
        our_sampler(run, networks, vectors[0], inverted[0], **change)


def test_a_changed_inverted_latent_is_an_error(run, networks, vectors, inverted):
    mixed = run(NoiseMix, latent=inverted[0], seed=1, alpha=0.0, mode="polar")[0]
    flipped = {**mixed, "samples": mixed["samples"].flip(-1)}
    with pytest.raises(ValueError, match="Put that node before DDIM Invert"):
        our_sampler(run, networks, vectors[0], flipped)


def test_what_a_stock_sampler_made_of_it_is_an_ordinary_latent(networks, applied, inverted):
    assert inversion_of(advanced(networks["model"], applied[1], applied[2], inverted[0])) is None


def test_a_picture_that_was_not_inverted_is_an_error_unless_it_is_masked(run, networks, vectors, clean):
    with pytest.raises(ValueError, match="would paint over it from noise"):
        our_sampler(run, networks, vectors[0], clean)
    mask = torch.zeros(1, 1, 6, 9)
    inpainted = our_sampler(run, networks, vectors[0], {**clean, "noise_mask": mask})
    torch.testing.assert_close(inpainted["samples"], clean["samples"], rtol=1e-6, atol=1e-6)


def test_mixing_a_latent_that_was_not_inverted_is_an_error(run, clean):
    with pytest.raises(ValueError, match="Put DDIM Invert in between"):
        run(NoiseMix, latent=clean, seed=0, alpha=0.5, mode="paper")


def test_inverting_twice_and_inverting_nothing_are_errors(run, networks, applied, inverted):
    options = {"model": networks["model"], "conditioning": applied[1], "iterations": 1, "tolerance": 0.0, **WIDGETS}
    with pytest.raises(ValueError, match="inverted latent, which is noise"):
        run(DDIMInvert, latent=inverted[0], **options)
    with pytest.raises(ValueError, match="empty latent"):
        run(DDIMInvert, latent={"samples": torch.zeros(1, 4, 4, 4)}, **options)
    with pytest.raises(ValueError, match="latent of DDIM Invert holds 64 values"):
        run(DDIMInvert, latent={"samples": torch.full((1, 4, 4, 4), float("inf"))}, **options)


def test_a_batch_of_latents_takes_one_embedding(run, networks, applied, vectors, clean):
    batch = {"samples": torch.cat([clean["samples"], clean["samples"].flip(-1)])}
    latent, *_ = run(
        DDIMInvert,
        model=networks["model"],
        conditioning=applied[1],
        latent=batch,
        iterations=ITERATIONS,
        tolerance=0.0,
        **WIDGETS,
    )
    back = our_sampler(run, networks, vectors[0], latent)
    assert relative(back["samples"], batch["samples"]) < 1e-3


def test_cancel_stops_the_inversion(run, networks, applied, clean):
    import comfy.model_management as management

    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        run(
            DDIMInvert,
            model=networks["model"],
            conditioning=applied[1],
            latent=clean,
            iterations=1,
            tolerance=0.0,
            **WIDGETS,
        )


def apply(run, networks, embedding, **more):
    widgets = {"scale": 1.0, "start_percent": 0.0, "end_percent": 1.0, **more}
    return run(ApplyEmbedding, model=networks["model"], adapter=networks["adapter"], embedding=embedding, **widgets)


def test_scale_zero_and_base_null_are_the_unconditional_model(run, networks, vectors):
    _, null, _ = apply(run, networks, Embedding(None))
    _, weak, _ = apply(run, networks, vectors[0], scale=0.0)
    _, _, negative = apply(run, networks, vectors[0])
    for conditioning in (weak, negative):
        assert torch.equal(conditioning[0][0], null[0][0])


def test_scale_leads_from_the_null_token_to_the_embeddings(run, networks, vectors):
    null, half, full = (apply(run, networks, vectors[0], scale=scale)[1][0][0] for scale in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (null + full) / 2)


def test_outside_the_range_the_null_token_stands_in(run, networks, vectors):
    _, positive, _ = apply(run, networks, vectors[0], start_percent=0.2, end_percent=0.7)
    null = apply(run, networks, Embedding(None))[1][0][0]
    full = apply(run, networks, vectors[0])[1][0][0]
    spans = [(extras["start_percent"], extras["end_percent"]) for _, extras in positive]
    assert spans == [(0.0, 0.2), (0.2, 0.7), (0.7, 1.0)]
    assert [torch.equal(context, full) for context, _ in positive] == [False, True, False]
    assert torch.equal(positive[0][0], null)


def test_a_range_of_no_length_paints_like_the_null_token(run, networks, vectors):
    from_null = our_sampler(run, networks, Embedding(None), {"samples": torch.zeros(1, 4, 4, 4)}, cfg=1.0)
    applied = apply(run, networks, vectors[0], start_percent=1.0, end_percent=1.0)
    painted = advanced(*applied, {"samples": torch.zeros(1, 4, 4, 4)}, add_noise="enable")
    torch.testing.assert_close(painted["samples"], from_null["samples"])


def test_what_came_with_the_conditioning_stays_and_its_text_goes(run, networks, vectors):
    text = torch.randn(1, 77, 48)
    given = [
        [
            text,
            {
                "control": "a net",
                "area": (4, 4, 0, 0),
                "pooled_output": torch.zeros(1, 32),
                "start_percent": 0.1,
                "end_percent": 0.5,
            },
        ]
    ]
    _, positive, _ = apply(run, networks, vectors[0], positive=given, end_percent=0.3)
    assert [(extras["start_percent"], extras["end_percent"]) for _, extras in positive] == [(0.1, 0.3), (0.3, 0.5)]
    for context, extras in positive:
        assert context.shape == (1, 1, 48) and extras["control"] == "a net" and extras["area"] == (4, 4, 0, 0)
        assert not torch.equal(extras["pooled_output"], torch.zeros(1, 32))


def test_a_negative_embedding_is_brought_to_the_length_of_the_positive(run, networks, vectors):
    long = Embedding(5 * vectors[1].vector)
    one, other = (apply(run, networks, vectors[0], negative_embedding=e)[2][0][0] for e in (vectors[1], long))
    torch.testing.assert_close(one, other)


def test_crossed_percentages_are_an_error(run, networks, vectors):
    with pytest.raises(ValueError, match="start_percent 0.8 and end_percent 0.2"):
        apply(run, networks, vectors[0], start_percent=0.8, end_percent=0.2)


@pytest.mark.parametrize("scheduler", ["normal", "karras", "ddim_uniform"])
def test_the_graph_paints_what_the_stages_paint_without_comfyui(run, networks, tiny, vectors, clean, scheduler):
    from any2pix.loading.diffusion import load_embedding_diffusion
    from any2pix.nodes.host.folders import find_weights
    from any2pix.stages.denoiser import GuidedDenoiser
    from any2pix.stages.invert import ddim_invert
    from any2pix.stages.sample import sample_euler, schedule

    diffusion = load_embedding_diffusion(find_weights("unet", tiny), find_weights("adapter", tiny))
    source, edit = (vector.vector[None] for vector in vectors[:2])
    sigmas = schedule(scheduler, STEPS, SDXL)
    with torch.inference_mode():
        x = ddim_invert(
            GuidedDenoiser(diffusion, source),
            clean["samples"] * SDXL.latent.scale,
            sigmas.flip(0),
            iterations=2,
            tolerance=0.0,
        )
        expected = sample_euler(GuidedDenoiser(diffusion, edit, source, 2.0), x, sigmas) / SDXL.latent.scale
    widgets = {"steps": STEPS, "scheduler": scheduler}
    _, positive, _ = apply(run, networks, vectors[0])
    latent, *_ = run(
        DDIMInvert, model=networks["model"], conditioning=positive, latent=clean, iterations=2, tolerance=0.0, **widgets
    )
    painted = our_sampler(
        run, networks, vectors[1], latent, cfg=2.0, scheduler=scheduler, negative_embedding=vectors[0]
    )
    assert relative(painted["samples"], expected) < 1e-4
