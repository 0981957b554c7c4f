"""InstructPix2Pix Guidance beside diffusers' pipelines: the same small random weights give the same latents."""

import warnings

import pytest
import torch
from any2pix.nodes import InstructPix2PixGuider
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EDMEulerScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
)
from harness.pix2pix_models import LATENT_SCALES, pix2pix_model, pix2pix_unet, prompts, sample
from harness.unet_eps import relative, seeded

STEPS = 6
SHAPE = (1, 4, 12, 20)
EXACT = 1e-4  # relative error of the latents after all steps


def scheduler(family: str):
    """DDIM to the very end, which is Euler in sigma; CosXL has levels and Euler steps of its own."""
    if family == "cosxl":
        return EDMEulerScheduler(
            sigma_min=0.002,
            sigma_max=120.0,
            sigma_data=1.0,
            prediction_type="v_prediction",
            sigma_schedule="exponential",
        )
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        set_alpha_to_one=True,
    )  # fmt: skip


def sigmas_of(schedule) -> torch.Tensor:
    schedule.set_timesteps(STEPS)
    if isinstance(schedule, EDMEulerScheduler):
        return schedule.sigmas
    alphas = schedule.alphas_cumprod[schedule.timesteps]
    return torch.cat([((1 - alphas) / alphas).sqrt(), torch.zeros(1)])


@torch.inference_mode()
def diffusers_latents(family, source, noise, conditioning, scales):
    """The pipeline's own loop, in its unit-variance space."""
    vae = AutoencoderKL(block_out_channels=(32,), norm_num_groups=32, scaling_factor=LATENT_SCALES[family])
    vae.register_to_config(block_out_channels=(32, 32, 32, 32))  # 8 pixels a latent, as the pipelines read it
    parts = {
        "vae": vae,
        "tokenizer": None,
        "text_encoder": None,
        "unet": pix2pix_unet(family),
        "scheduler": scheduler(family),
    }
    (text, pooled), (empty, no_pooled) = [(entry[0], entry[1].get("pooled_output")) for (entry,) in conditioning]
    inputs = {
        "image": source, "latents": noise, "num_inference_steps": STEPS, "guidance_scale": scales[0],
        "output_type": "latent",
        "image_guidance_scale": scales[1], "prompt_embeds": text, "negative_prompt_embeds": empty,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if family == "sd15":
            pipeline = StableDiffusionInstructPix2PixPipeline(
                **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        else:
            pipeline = StableDiffusionXLInstructPix2PixPipeline(
                **parts, text_encoder_2=None, tokenizer_2=None, add_watermarker=False, is_cosxl_edit=family == "cosxl"
            )
            size = {"height": 8 * SHAPE[2], "width": 8 * SHAPE[3]}
            inputs |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": no_pooled, **size}
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(**inputs).images


@pytest.mark.parametrize("scales", [(7.5, 1.5), (5.0, 2.25)])
@pytest.mark.parametrize("family", ["sd15", "sdxl", "cosxl"])
def test_the_same_latents_as_diffusers(tiny, run, family, scales):
    source, noise = 5 * seeded(*SHAPE, seed=1), seeded(*SHAPE, seed=2)
    conditioning = prompts(family)
    expected = diffusers_latents(family, source, noise, conditioning, scales)
    guider, latent = run(
        InstructPix2PixGuider, model=pix2pix_model(family), positive=conditioning[0], negative=conditioning[1],
        image={"samples": source}, text_guidance=scales[0], image_guidance=scales[1],
    )  # fmt: skip
    sigmas = sigmas_of(scheduler(family))
    # below the model's top level ComfyUI starts from sigma times the noise
    scaled = noise if family == "cosxl" else noise * (1 + sigmas[0] ** 2).sqrt() / sigmas[0]
    found = sample(guider, latent, sigmas, scaled) * LATENT_SCALES[family]
    assert relative(found, expected) < EXACT
    assert relative(noise, expected) > 0.1, "several steps did something"
