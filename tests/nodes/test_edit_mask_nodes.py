"""Edit Mask on the host: as the pipeline finds it, with both adapters and InstructPix2Pix, and bad input."""

import comfy.model_management as management
import pytest
import torch
from any2pix.loading.diffusion import load_embedding_diffusion
from any2pix.loading.kinds import KINDS
from any2pix.nodes import ApplyEmbedding, DDIMInvert
from any2pix.nodes.edit_mask import EditMask
from any2pix.nodes.host.run_edit_mask import run_edit_mask
from any2pix.nodes.sockets import Embedding
from any2pix.stages.denoiser import GuidedDenoiser
from any2pix.stages.edit_mask import MaskOptions, edit_difference, pair_of, sigma_of_level
from any2pix.stages.latents import draw_noise
from comfy.patcher_extension import WrappersMP
from harness.pix2pix_models import pix2pix_model, prompts
from harness.unet_eps import relative, seeded

SCALE = 0.13025
SHAPE = (1, 4, 6, 9)
SIZE = (1, 48, 72)
WIDGETS = {"strength": 0.8, "softness": 4.0, "seed": 3, "noises": 2}
SAME = 1e-4  # relative error of the pipeline's UNet and ComfyUI's


@pytest.fixture(scope="module")
def clean():
    return {"samples": seeded(*SHAPE, seed=8) / SCALE}


@pytest.fixture(scope="module")
def vectors():
    return [20 * torch.nn.functional.normalize(seeded(64, seed=seed), dim=0) for seed in (1, 2)]


@pytest.fixture(scope="module")
def sides(run, networks, vectors):
    """MODEL, source and edit of the unCLIP adapter."""
    widgets = {"scale": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    inputs = {"model": networks["model"], "adapter": networks["adapter"], **widgets}
    found = [run(ApplyEmbedding, **inputs, embedding=Embedding(vector)) for vector in vectors]
    return found[0][0], found[0][1], found[1][1]


@pytest.fixture(scope="module")
def local(sides):
    """MODEL, source, and an edit that is another one in the upper left part only."""
    model, source, edit = sides
    area = {"area": (3, 4, 0, 0), "strength": 50.0, "set_area_to_bounds": False}
    return model, source, [*source, [edit[0][0], {**edit[0][1], **area}]]


@pytest.fixture
def find(run, sides, clean):
    def found(model=None, source=None, edit=None, latent=None, **widgets):
        given = [part or own for part, own in zip((model, source, edit), sides, strict=True)]
        inputs = dict(zip(("model", "source", "edit"), given, strict=True))
        return run(EditMask, **inputs, latent=latent or clean, **{**WIDGETS, **widgets})[0]

    return found


def difference(model, source, edit, latent, noises=2, seed=3, **options):
    with torch.inference_mode():
        fresh = draw_noise((noises, *latent["samples"].shape[1:]), seed)
        return run_edit_mask(model, source, edit, latent["samples"], fresh, MaskOptions(noises=noises, **options))


@pytest.mark.parametrize("level", [0.2, 0.32, 0.7])
def test_the_difference_is_that_of_the_pipelines_networks(sides, clean, vectors, level):
    import folder_paths

    files = (f"{folder_paths.models_dir}/{KINDS[kind].folder}/tiny.safetensors" for kind in ("unet", "adapter"))
    diffusion = load_embedding_diffusion(*files)
    pair = pair_of(*(GuidedDenoiser(diffusion, vector[None]) for vector in vectors))
    sigma, noises = sigma_of_level(level, diffusion.backbone), list(draw_noise((2, *SHAPE[1:]), 3))
    expected = edit_difference(pair, clean["samples"] * SCALE, sigma, noises)
    assert relative(difference(*sides, clean, level=level), expected) < SAME


def test_the_two_view_adapter(apply, vectors, clean):
    found = [apply(Embedding(vector)) for vector in vectors]
    model, source, edit = found[0][0], found[0][1], found[1][1]
    assert difference(model, source, edit, clean).min() > 0
    assert difference(model, source, source, clean).max() < 1e-5


def test_a_difference_in_an_area_gets_a_mask_there(find, local):
    mask = find(*local)
    assert mask.shape == SIZE and mask[0, 12, 16] == 1 and mask[0, -8:, -8:].max() == 0 and 0 < mask.mean() < 0.8


def test_the_same_on_both_sides_is_an_empty_mask_and_is_said(sides, clean):
    with torch.inference_mode():
        output = EditMask.execute(model=sides[0], source=sides[1], edit=sides[1], latent=clean, **WIDGETS)
    assert output.result[0].shape == SIZE and output.result[0].max() == 0
    assert "Nothing differs between source and edit" in str(output.ui.as_dict())


def test_a_seed_gives_one_mask_and_each_of_a_batch_its_own(find, local, clean):
    other = {"samples": seeded(*SHAPE, seed=9) / SCALE}
    both = {"samples": torch.cat([clean["samples"], other["samples"]])}
    alone = [find(*local, latent=latent) for latent in (clean, other)]
    assert torch.equal(find(*local), alone[0]) and not torch.equal(find(*local, seed=4), alone[0])
    torch.testing.assert_close(find(*local, latent=both), torch.cat(alone), atol=1e-3, rtol=0)


def test_a_noise_mask_on_the_latent_and_an_inversion_change_nothing(run, find, local, clean):
    mask = find(*local)
    assert torch.equal(find(*local, latent={**clean, "noise_mask": torch.zeros(1, 48, 72)}), mask)
    widgets = {"steps": 2, "scheduler": "normal", "iterations": 1, "tolerance": 0.0}
    inverted = run(DDIMInvert, model=local[0], conditioning=local[1], latent=clean, **widgets)[0]
    assert torch.equal(find(*local, latent=inverted), mask)


@pytest.mark.parametrize("base", [Embedding(None), Embedding(torch.ones(64), blank=True)], ids=["null", "a sound"])
def test_without_a_base_picture_the_mask_is_whole(run, find, local, clean, base):
    assert torch.equal(find(*local, base=base), torch.ones(SIZE))
    widgets = {"steps": 2, "scheduler": "normal", "iterations": 1, "tolerance": 0.0, "base": base}
    inverted = run(DDIMInvert, model=local[0], conditioning=local[1], latent=clean, **widgets)[0]
    assert torch.equal(find(*local, latent=inverted), torch.ones(SIZE))


@pytest.mark.parametrize("family", ["sd15", "sdxl", "cosxl"])
def test_instruct_pix2pix_sees_the_picture(tiny, clean, family):
    """With the stock conditioning that brings it, and with texts alone."""
    model, (instruction, empty) = pix2pix_model(family), prompts(family)
    alone = difference(model, empty, instruction, clean)

    def beside(picture):
        return [[[text, {**more, "concat_latent_image": picture}] for text, more in side] for side in
                (empty, instruction)]  # fmt: skip

    assert alone.isfinite().all() and alone.min() > 0
    assert torch.equal(difference(model, *beside(clean["samples"]), clean), alone)
    assert not torch.equal(difference(model, *beside(0 * clean["samples"]), clean), alone)


def test_caches_are_left_out(sides, clean):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model = EasyCacheNode.execute(
        sides[0], reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False
    ).result[0]
    assert torch.equal(difference(model, *sides[1:], clean, noises=4), difference(*sides, clean, noises=4))


def test_it_can_be_cancelled_between_two_noises(sides, clean):
    calls, model = [], sides[0].clone()

    def wrapper(executor, *args, **kwargs):
        calls.append(1)
        management.interrupt_current_processing()
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "stops", wrapper)
    with pytest.raises(management.InterruptProcessingException):
        difference(model, *sides[1:], clean, noises=8)
    management.interrupt_current_processing(False)
    assert len(calls) == 1


def test_a_model_of_blends_gets_noise_as_its_own_sampler_adds_it(sides, clean, monkeypatch):
    """A flow model's noise is blended with the picture; the node asks the model's own scaling."""
    seen, model = [], sides[0].clone()
    sampling = model.get_model_object("model_sampling")
    monkeypatch.setattr(type(sampling), "noise_scaling", blended(seen), raising=True)
    difference(model, *sides[1:], clean)
    assert len(seen) == 2


def blended(seen):
    def scaling(self, sigma, noise, latent, max_denoise=False):
        seen.append(sigma)
        return 0.5 * noise + 0.5 * latent

    return scaling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": {"samples": torch.zeros(SHAPE)}}, "latent of Edit Mask is an empty latent"),
        ({"latent": {"samples": torch.ones(1, 16, 6, 9)}}, r"latent of Edit Mask .*needs \(batch, 4, height, width\)"),
        ({"latent": {"samples": torch.full(SHAPE, float("nan"))}}, "latent of Edit Mask holds 216 values that are NaN"),
        ({"strength": 2.0}, "strength of Edit Mask"),
        ({"noises": 0}, "noises of Edit Mask"),
    ],
)
def test_bad_input_is_named(find, change, message):
    with pytest.raises(ValueError, match=message):
        find(**change)


def test_bad_conditioning_is_named(run, sides, clean):
    model, source, edit = sides
    for given, message in (
        ({"source": [], "edit": edit}, "source of Edit Mask is empty"),
        ({"source": source, "edit": [[edit[0][0], {}]]}, "edit of Edit Mask has no pooled vector"),
        ({"source": source, "edit": [[edit[0][0], {**edit[0][1], "start_percent": 0.5}]]}, "At noise level .* edit"),
    ):
        with pytest.raises(ValueError, match=message):
            run(EditMask, model=model, latent=clean, **given, **WIDGETS)


def test_the_text_counts_pictures_of_a_batch():
    from any2pix.nodes.edit_mask import describe

    masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    assert describe(masks).startswith("picture 1: nothing differs") and "picture 2: the mask covers 100%" in describe(
        masks
    )
    assert describe(masks[1:] / 4) == "The mask covers 25% of the picture"
