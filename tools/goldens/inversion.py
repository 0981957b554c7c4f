"""DDIM inversion by the released SDXLDDIMPipeline.inverse on a small diffusers UNet."""

import types

from golden_inputs import seeded, unet
from golden_inputs.inversion import SEED, STEPS, quieten, start
from torch import Tensor

from . import authors

SCHEDULE = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False,
    set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading", prediction_type="epsilon",
)  # fmt: skip


def make(options) -> None:
    """Write inversion.safetensors: "inverted/steps" (1, 4, 8, 8) in VP scale, "timesteps/steps", rising."""
    authors.package("instructany2pix", options.instructany2pix / "instructany2pix")
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from instructany2pix.ddim.pnp_pipeline import SDXLDDIMPipeline

    network = UNet2DConditionModel(**unet.config("small")).eval()
    seeded.fill(network, unet.SEED)
    quieten(network)
    given, outputs = unet.inputs("small"), {}
    for steps in STEPS:
        host = _host(network, DDIMScheduler(**SCHEDULE), given)
        found = SDXLDDIMPipeline.inverse(host, prompt="", image=None, num_inference_steps=steps)
        outputs |= {f"inverted/{steps}": found.images, f"timesteps/{steps}": host.scheduler.timesteps.flip(0)}
    seeded.save("inversion", outputs, {"seed": SEED, **options.notes("instructany2pix")})


def _host(network, scheduler, given: dict[str, Tensor]):
    """The pipeline without VAE and text encoders: what these would make is handed over."""
    space = types.SimpleNamespace
    return space(
        scheduler=scheduler,
        unet=network,
        config=space(requires_aesthetics_score=False),
        text_encoder_2=space(config=space(projection_dim=unet.SIZES["small"]["pooled"])),
        vae_scale_factor=8,
        _execution_device="cpu",
        check_inputs=lambda *_: None,
        encode_prompt=lambda **_: (given["text"], None, given["pooled"], None),
        image_processor=space(preprocess=lambda image: image),
        prepare_latents=lambda *_: start(),
    )
