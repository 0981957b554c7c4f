"""Nodes that change a guidance, in front of InstructPix2Pix Guidance: what they add is theirs alone, whatever the
picture's guidance.

One Euler step from a noise level to 0 gives what the guider makes of it. The expected numbers come from predictions
that ComfyUI's BasicGuider makes one by one, put together by the paper's formula.
"""

import comfy.samplers
import node_helpers
import pytest
import torch
from any2pix.nodes import InstructPix2PixGuider
from harness.pix2pix_models import pix2pix_model, prompts, sample
from harness.unet_eps import relative, seeded

pytestmark = pytest.mark.one_host

ONE_STEP = torch.tensor([6.0, 0.0])
EXACT, FELT = 5e-6, 2e-4  # of the length of the whole latent: rounding in float32, and the least that a patch does here
TEXT, PICTURE = 6.0, 1.7
PICTURE_GUIDANCES = [1.0, PICTURE, 3.0]


@pytest.fixture(scope="module")
def model(tiny):
    return pix2pix_model("sdxl")


@pytest.fixture(scope="module")
def source():
    return 5 * seeded(1, 4, 16, 16, seed=1)


@pytest.fixture(scope="module")
def empty(source):
    return {"samples": torch.zeros_like(source)}


@pytest.fixture(scope="module")
def ours(run, source):
    def denoised(model, picture=PICTURE, text=TEXT):
        positive, negative = prompts("sdxl")
        widgets = {"text_guidance": text, "image_guidance": picture}
        inputs = {"positive": positive, "negative": negative, "image": {"samples": source}}
        return sample(*run(InstructPix2PixGuider, model=model, **inputs, **widgets), ONE_STEP)

    return denoised


@pytest.fixture(scope="module")
def alone(model, source, empty):
    """The model's own predictions: (without picture and text, with the picture, with both)."""

    def predicted(model=model):
        found = []
        positive, negative = prompts("sdxl")
        for conditioning, picture in ((negative, None), (negative, source), (positive, source)):
            from comfy_extras.nodes_custom_sampler import Guider_Basic

            guider = Guider_Basic(model)
            guider.set_conds(node_helpers.conditioning_set_values(conditioning, {"concat_latent_image": picture}))
            found.append(sample(guider, empty, ONE_STEP))
        return found

    return predicted


@pytest.fixture(scope="module")
def stock(source, empty):
    """ComfyUI's own guider of two, which is ours at a picture's guidance of 1."""

    def denoised(model, text=TEXT):
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(
            *(node_helpers.conditioning_set_values(c, {"concat_latent_image": source}) for c in prompts("sdxl"))
        )
        guider.set_cfg(text)
        return sample(guider, empty, ONE_STEP)

    return denoised


def share(part, whole):
    """Length of a difference over that of the latents it is one of."""
    return float(part.norm() / whole.norm())


def formula(plain, image, text, picture=PICTURE, scale=TEXT):
    """Brooks et al., arXiv 2211.09800, eq. 3."""
    return plain + picture * (image - plain) + scale * (text - image)


def test_without_patches_it_is_the_papers_formula(ours, model, alone):
    for picture in PICTURE_GUIDANCES:
        assert relative(ours(model, picture), formula(*alone(), picture)) < 1e-5


@pytest.mark.parametrize("picture", PICTURE_GUIDANCES)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_perturbed_attention_adds_its_own_term(ours, model, alone, scale, picture):
    """scale (e(I,T) - perturbed e(I,T)), Ahn et al., arXiv 2403.17377, and nothing of the picture's guidance."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    perturbed = model.clone()
    perturbed.set_model_attn1_replace(lambda q, k, v, extra, mask=None: v, "middle", 0)
    plain, image, text = alone()
    term = scale * (text - alone(perturbed)[2])
    patched = PerturbedAttentionGuidance.execute(model, scale).result[0]
    whole = formula(plain, image, text, picture)
    assert share(ours(patched, picture) - (whole + term), whole) < EXACT
    assert share(term, whole) > FELT * scale / 3.0


def patches():
    from comfy_extras.nodes_apg import APG
    from comfy_extras.nodes_cfg import CFGZeroStar
    from comfy_extras.nodes_fresca import FreSca
    from comfy_extras.nodes_model_advanced import RescaleCFG
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance
    from comfy_extras.nodes_sag import SelfAttentionGuidance
    from comfy_extras.nodes_tcfg import TCFG

    return {
        "perturbed attention": lambda model: PerturbedAttentionGuidance.execute(model, 3.0).result[0],
        "self-attention": lambda model: SelfAttentionGuidance.execute(model, 0.5, 2.0).result[0],
        "rescaled": lambda model: RescaleCFG().patch(model, 0.7)[0],
        "thresholding": threshold,
        "CFG-Zero*": lambda model: CFGZeroStar.execute(model).result[0],
        "projected": lambda model: APG.execute(model, 0.0, 5.0, 0.0).result[0],
        "tangential": lambda model: TCFG.execute(model).result[0],
        "frequencies": lambda model: FreSca.execute(model, 1.0, 1.5, 4).result[0],
    }


PATCHES = [
    "perturbed attention",
    "self-attention",
    "rescaled",
    "thresholding",
    "CFG-Zero*",
    "projected",
    "tangential",
    "frequencies",
]


def threshold(model):
    """As Dynamic Thresholding does: a sampler_cfg_function that clamps a strong guidance to the range of a weak one."""

    def clamp(args):
        x, cond, uncond, scale = (args[name] for name in ("input", "cond_denoised", "uncond_denoised", "cond_scale"))
        strong, weak = (uncond + s * (cond - uncond) for s in (scale, scale / 2))
        return x - strong * (weak.std() / strong.std())

    clone = model.clone()
    clone.set_model_sampler_cfg_function(clamp)
    return clone


@pytest.mark.parametrize("picture", PICTURE_GUIDANCES)
@pytest.mark.parametrize("patch", PATCHES)
def test_what_a_patch_changes_is_what_it_changes_in_the_stock_guider(ours, stock, model, patch, picture):
    """There the picture's guidance is 1; here it may be any."""
    patched = patches()[patch](model)
    theirs = stock(patched) - stock(model)
    found = ours(patched, picture) - ours(model, picture)
    assert share(found - theirs, stock(model)) < EXACT
    assert share(theirs, stock(model)) > FELT


@pytest.mark.parametrize("picture", PICTURE_GUIDANCES)
def test_patches_see_the_models_own_predictions(ours, model, alone, picture):
    plain, image, text = alone()
    seen = {}
    watched = model.clone()
    watched.set_model_sampler_pre_cfg_function(lambda args: seen.update(pre=args) or args["conds_out"])
    watched.set_model_sampler_post_cfg_function(lambda args: seen.update(post=args) or args["denoised"])
    watched.model_options["sampler_cfg_function"] = lambda args: (
        seen.update(cfg=args)
        or args["input"]
        - (args["uncond_denoised"] + args["cond_scale"] * (args["cond_denoised"] - args["uncond_denoised"]))
    )
    found = ours(watched, picture)
    scale = 0.13025  # of SDXL's latents
    for args in (seen["cfg"], seen["post"]):
        assert relative(args["cond_denoised"] / scale, text) < 1e-5
        assert relative(args["uncond_denoised"] / scale, image) < 1e-5
    assert relative(seen["pre"]["conds_out"][0] / scale, text) < 1e-5
    assert relative(seen["post"]["denoised"] / scale, formula(plain, image, text, picture)) < 1e-5
    assert relative(found, formula(plain, image, text, picture)) < 1e-5
    # what they ask the model again with gives the same predictions
    assert seen["post"]["cond"] is seen["pre"]["conds"][0] and seen["post"]["uncond"] is seen["pre"]["conds"][1]


def test_a_pack_that_predicts_two_by_itself_is_asked(ours, model, alone):
    def batch(args):
        assert len(args["conds"]) == 2
        found = comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )
        return [found[0], 0.9 * found[1]]

    patched = model.clone()
    patched.set_model_sampler_calc_cond_batch_function(batch)
    plain, image, text = alone()
    assert relative(ours(patched), formula(plain, 0.9 * image, text)) < 1e-5


def test_predictions_that_are_left_out_change_no_patch(ours, stock, model):
    """Where the text's guidance is 1 too, only one prediction is made."""
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    patched = PerturbedAttentionGuidance.execute(model, 3.0).result[0]
    assert relative(ours(patched, 1.0, 1.0), stock(patched, 1.0)) < 1e-5
