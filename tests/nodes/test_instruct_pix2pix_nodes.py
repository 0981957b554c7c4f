"""InstructPix2Pix Guidance in company: ComfyUI's own nodes, masks, LoRA, ControlNet, areas, other packs' patches, bad
input."""

import pytest
import torch
from any2pix.nodes import InstructPix2PixGuider
from harness.pix2pix_models import LATENT_SCALES, pix2pix_model, prompts, sample
from harness.unet_eps import relative, seeded
from torch.testing import assert_close

FAMILIES = ("sd15", "sdxl", "cosxl")
SIGMAS = torch.tensor([9.0, 4.0, 1.5, 0.5, 0.0])
SAME = 1e-5  # relative error of two ways to compute the same latents


@pytest.fixture(scope="module")
def models(tiny):
    return {family: pix2pix_model(family) for family in FAMILIES}


@pytest.fixture
def sdxl(models):
    return models["sdxl"]


@pytest.fixture
def source():
    return 5 * seeded(1, 4, 9, 14, seed=1)


@pytest.fixture
def guided(run, source):
    """The node on the small model -> (guider, LATENT)."""

    def node(model, family="sdxl", **changes):
        positive, negative = prompts(family)
        inputs = {"positive": positive, "negative": negative, "image": {"samples": source}, "text_guidance": 6.0,
                  "image_guidance": 1.7}  # fmt: skip
        return run(InstructPix2PixGuider, model=model, **{**inputs, **changes})

    return node


def record(model):
    """A clone of the MODEL that notes each call of the UNet: (its input, its cond_or_uncond)."""
    calls = []

    def wrapper(executor, x, *args, **kwargs):
        calls.append((x.clone(), args[4]["cond_or_uncond"]))  # args: timestep, context, y, control, transformer_options
        return executor(x, *args, **kwargs)

    from comfy.patcher_extension import WrappersMP

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "record", wrapper)
    return clone, calls


@pytest.mark.parametrize("family", FAMILIES)
def test_each_model_gets_the_picture_in_its_own_scale_and_zeros(models, guided, source, family):
    model, calls = record(models[family])
    sample(*guided(model, family), SIGMAS)
    rows = {}
    for x, kinds in calls[:1] if len(calls) == len(SIGMAS) - 1 else calls[:3]:
        for row, kind in zip(x, kinds, strict=True):
            rows.setdefault(kind, []).append(row[4:])
    expected = source[0] * (LATENT_SCALES[family] if family == "cosxl" else 1.0)
    assert_close(rows[0][0], expected)
    without_text = sorted(rows[1], key=lambda row: float(row.abs().sum()))
    assert_close(without_text[0], torch.zeros_like(expected))
    assert_close(without_text[1], expected)


def test_the_three_predictions_run_in_one_batch_and_two_without_image_guidance(sdxl, guided):
    for scales, rows in (((6.0, 1.7), 3), ((6.0, 1.0), 2), ((1.0, 1.0), 1), ((1.0, 1.7), 3)):
        model, calls = record(sdxl)
        sample(*guided(model, text_guidance=scales[0], image_guidance=scales[1]), SIGMAS)
        assert [len(x) for x, _ in calls] == [rows] * (len(SIGMAS) - 1)


def test_what_is_left_out_changes_nothing(sdxl, guided):
    whole = sdxl.clone()
    whole.model_options["disable_cfg1_optimization"] = True
    for scales in ((6.0, 1.0), (1.0, 1.0)):
        scales = dict(zip(("text_guidance", "image_guidance"), scales, strict=True))
        one, other = (sample(*guided(model, **scales), SIGMAS) for model in (sdxl, whole))
        assert relative(one, other) < SAME


def stock(model, source, text_guidance, image_guidance, picture_everywhere=False):
    """ComfyUI's own DualCFGGuider; the picture on the conditionings as InstructPixToPixConditioning puts it there."""
    from comfy_extras.nodes_custom_sampler import DualCFGGuider
    from comfy_extras.nodes_ip2p import InstructPixToPixConditioning

    class AsItIs:
        def encode(self, pixels):
            return source

    positive, negative = prompts("sdxl")
    pixels = torch.zeros(1, 8 * source.shape[2], 8 * source.shape[3], 3)
    cond1, cond2, latent = InstructPixToPixConditioning.execute(positive, negative, pixels, AsItIs()).result
    none = cond2 if picture_everywhere else negative
    guider = DualCFGGuider.execute(model, cond1, cond2, none, text_guidance, image_guidance, "regular").result[0]
    return guider, latent


def test_the_stock_dual_guider_with_the_right_conditionings_is_the_same(sdxl, guided, source):
    assert relative(sample(*guided(sdxl), SIGMAS), sample(*stock(sdxl, source, 6.0, 1.7), SIGMAS)) < SAME


def test_the_stock_conditionings_alone_leave_image_guidance_without_effect(sdxl, guided, source):
    import node_helpers
    from comfy.samplers import CFGGuider

    weak, strong = (stock(sdxl, source, 6.0, scale, picture_everywhere=True) for scale in (1.2, 3.0))
    ignored = sample(*weak, SIGMAS)
    assert relative(ignored, sample(*strong, SIGMAS)) < SAME
    ours = {scale: sample(*guided(sdxl, image_guidance=scale), SIGMAS) for scale in (1.0, 1.2, 3.0)}
    assert relative(ours[1.2], ours[3.0]) > 0.01
    assert relative(ignored, ours[1.0]) < SAME, "it is what image_guidance 1 is"
    plain = CFGGuider(sdxl)
    plain.set_conds(
        *(node_helpers.conditioning_set_values(c, {"concat_latent_image": source}) for c in prompts("sdxl"))
    )
    plain.set_cfg(6.0)
    assert relative(sample(plain, weak[1], SIGMAS), ours[1.0]) < SAME


def test_a_picture_that_is_already_on_the_conditionings_is_replaced(sdxl, guided, source):
    import node_helpers

    other = {"concat_latent_image": 5 * seeded(*source.shape, seed=8)}
    positive, negative = (node_helpers.conditioning_set_values(c, other) for c in prompts("sdxl"))
    found = sample(*guided(sdxl, positive=positive, negative=negative), SIGMAS)
    assert_close(found, sample(*guided(sdxl), SIGMAS), rtol=0, atol=0)
    assert positive[0][1]["concat_latent_image"] is other["concat_latent_image"], "the input stays as it is"


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (5, 21)])
def test_any_size_comes_back_at_its_size(sdxl, guided, size):
    guider, latent = guided(sdxl, image={"samples": 5 * seeded(1, 4, *size, seed=4)})
    assert not latent["samples"].any()
    assert sample(guider, latent, SIGMAS).shape == (1, 4, *size)


def test_outside_a_mask_the_picture_stays(sdxl, guided, source):
    mask = torch.zeros(1, 8 * 9, 8 * 14)
    mask[..., : 8 * 7] = 1.0
    guider, latent = guided(sdxl, image={"samples": source, "noise_mask": mask})
    assert latent["noise_mask"] is mask
    found = sample(guider, latent, SIGMAS)
    assert_close(found[..., 8:], source[..., 8:], rtol=1e-5, atol=1e-5)
    assert relative(found[..., :6], source[..., :6]) > 0.1


def test_a_mask_that_is_open_everywhere_changes_nothing(sdxl, guided, source):
    masked = guided(sdxl, image={"samples": source, "noise_mask": torch.ones(1, 72, 112)})
    assert relative(sample(*masked, SIGMAS), sample(*guided(sdxl), SIGMAS)) < SAME


def test_pictures_of_a_batch_are_edited_each_with_itself(sdxl, guided):
    two = 5 * seeded(2, 4, 6, 9, seed=5)
    noise = seeded(4, 4, 6, 9, seed=6)
    guider, latent = guided(sdxl, image={"samples": two})
    repeated = {"samples": latent["samples"].repeat(2, 1, 1, 1)}  # RepeatLatentBatch
    found = sample(guider, repeated, SIGMAS, noise)
    for row in range(4):
        alone = guided(sdxl, image={"samples": two[row % 2 : row % 2 + 1]})
        assert relative(found[row : row + 1], sample(*alone, SIGMAS, noise[row : row + 1])) < SAME


def test_a_lora_on_the_model_counts(sdxl, guided):
    key = "diffusion_model.out.2.weight"
    weight = sdxl.model.state_dict()[key]
    patched = sdxl.clone()
    patched.add_patches({key: ("diff", (seeded(*weight.shape, seed=7).to(weight) * 0.1,))})
    before = sample(*guided(sdxl), SIGMAS)
    assert relative(sample(*guided(patched), SIGMAS), before) > 0.01
    assert_close(sample(*guided(sdxl), SIGMAS), before, rtol=0, atol=0)
    assert not sdxl.wrappers, "the connected model is not touched"


class Control:
    """What ComfyUI's ControlBase does for sampling, with one residual of its own."""

    def __new__(cls, strength):
        from comfy.controlnet import ControlBase

        class Constant(ControlBase):
            def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
                self.rows = getattr(self, "rows", []) + [len(x_noisy)]
                return {"middle": [torch.full((len(x_noisy), 1, 1, 1), strength)], "output": []}

            def copy(self):
                return self

        return Constant()


def test_a_controlnet_acts_on_all_three(sdxl, guided):
    import node_helpers

    def with_control(strength):
        control = Control(strength)
        both = [node_helpers.conditioning_set_values(c, {"control": control, "control_apply_to_uncond": False})
                for c in prompts("sdxl")]  # fmt: skip
        return sample(*guided(sdxl, positive=both[0], negative=both[1]), SIGMAS), control.rows

    found, rows = with_control(2.0)
    assert rows == [3] * (len(SIGMAS) - 1)
    assert relative(found, sample(*guided(sdxl), SIGMAS)) > 1e-3
    assert relative(with_control(0.0)[0], sample(*guided(sdxl), SIGMAS)) < SAME


def test_a_text_for_one_area_sees_its_part_of_the_picture(sdxl, guided, source):
    import node_helpers

    area = {"area": (6, 8, 2, 3), "strength": 1.0, "set_area_to_bounds": False}  # height, width, y, x
    positive, negative = prompts("sdxl")
    model, calls = record(sdxl)
    both = positive + node_helpers.conditioning_set_values(negative, area)
    sample(*guided(model, positive=both), SIGMAS)
    parts = [
        row[4:] for x, kinds in calls for row, kind in zip(x, kinds, strict=True) if kind == 0 and x.shape[2:] == (6, 8)
    ]
    assert len(parts) == len(SIGMAS) - 1
    assert_close(parts[0], source[0, :, 2:8, 3:11])


def test_what_other_nodes_do_to_guidance_is_done(sdxl, guided):
    from comfy_extras.nodes_model_advanced import RescaleCFG

    before = sample(*guided(sdxl), SIGMAS)
    rescaled = {m: RescaleCFG().patch(sdxl, m)[0] for m in (0.0, 0.9)}
    assert relative(sample(*guided(rescaled[0.0]), SIGMAS), before) < 1e-4
    assert relative(sample(*guided(rescaled[0.9]), SIGMAS), before) > 1e-3
    seen = []
    hooked = sdxl.clone()
    hooked.set_model_sampler_pre_cfg_function(lambda args: seen.append(len(args["conds"])) or args["conds_out"])
    hooked.set_model_sampler_post_cfg_function(lambda args: seen.append(args["cond_scale"]) or args["denoised"])
    assert relative(sample(*guided(hooked), SIGMAS), before) < SAME
    assert seen == [2, 6.0] * (len(SIGMAS) - 1)


def test_patches_that_know_two_kinds_of_rows_work(sdxl, guided):
    def patch(q, k, v, extra):  # as packs do that keep a pair for positive and negative
        (positive, negative) = torch.zeros_like(k[:1]), torch.ones_like(k[:1])
        k = torch.cat([(positive, negative)[kind] for kind in extra["cond_or_uncond"]])
        return q, k.expand_as(v), v

    model = sdxl.clone()
    model.set_model_attn2_patch(patch)
    assert sample(*guided(model), SIGMAS).isfinite().all()


def test_a_model_for_four_channels_is_named(run, networks, guided):
    with pytest.raises(ValueError, match="The model has 4 input channels; InstructPix2Pix needs 8.*CosXL Edit"):
        guided(networks["model"])


def test_eight_channels_of_another_kind_are_named(sdxl, guided, monkeypatch):
    import comfy.model_base

    monkeypatch.setattr(sdxl.model, "__class__", comfy.model_base.SDXL)
    with pytest.raises(ValueError, match="8 input channels, but ComfyUI loaded it as SDXL"):
        guided(sdxl)


def test_the_empty_prompt_is_asked_for_where_it_is_needed(sdxl, guided):
    with pytest.raises(ValueError, match="no negative.*CLIP Text Encode, with no text in it, to negative"):
        guided(sdxl, negative=None)
    alone = {"text_guidance": 1.0, "image_guidance": 1.0}
    found = sample(*guided(sdxl, negative=None, **alone), SIGMAS)
    assert_close(found, sample(*guided(sdxl, **alone), SIGMAS), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(1, 4, 8, 8), "empty latent.*VAE Encode"),
        (torch.ones(1, 16, 8, 8), r"shape \(1, 16, 8, 8\); this model needs \(batch, 4, height, width\)"),
        (torch.ones(1, 4, 3, 8, 8), r"shape \(1, 4, 3, 8, 8\)"),
        (torch.full((1, 4, 8, 8), float("nan")), "image of InstructPix2Pix Guidance holds 256 values.*--fp32-vae"),
    ],
)
def test_a_latent_that_is_no_picture_is_named(sdxl, guided, samples, message):
    with pytest.raises(ValueError, match=message):
        guided(sdxl, image={"samples": samples})


def test_an_inverted_latent_is_refused(run, networks, texts, sdxl, guided):
    from any2pix.nodes import DDIMInvert

    inverted = run(
        DDIMInvert, model=networks["model"], conditioning=texts[0], latent={"samples": seeded(1, 4, 8, 8, seed=1)},
        steps=2,
        scheduler="normal", iterations=1, tolerance=0.1,
    )[0]  # fmt: skip
    with pytest.raises(ValueError, match="inverted latent, which is noise"):
        guided(sdxl, image=inverted)


def test_a_latent_of_another_size_or_number_is_refused(sdxl, guided, source):
    guider, _ = guided(sdxl)
    with pytest.raises(ValueError, match="14 x 10 with 4 channels, the picture of InstructPix2Pix Guidance 14 x 9"):
        sample(guider, {"samples": torch.zeros(1, 4, 10, 14)}, SIGMAS)
    guider, _ = guided(sdxl, image={"samples": source.repeat(2, 1, 1, 1)})
    with pytest.raises(ValueError, match="3 latents are to be sampled from 2 pictures"):
        sample(guider, {"samples": torch.zeros(3, 4, 9, 14)}, SIGMAS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_text_of_another_width_is_named(models, guided, family, side):
    narrow = [[text[..., 1:], extras] for text, extras in prompts(family)[0]]
    with pytest.raises(
        ValueError, match=f"{side} of InstructPix2Pix Guidance has .* numbers a token, this model reads"
    ):
        guided(models[family], family, **{side: narrow})
