"""Small 8-channel UNets with random weights as ComfyUI's own InstructPix2Pix models. For tests with ComfyUI in their
process."""

import torch
from any2pix.models.diffusion import DiffusionDims
from diffusers import UNet2DConditionModel

from .unet_eps import seeded

CONTEXT, POOLED, TOKENS = 48, 32, 7
LATENT_SCALES = {"sd15": 0.18215, "sdxl": 0.13025, "cosxl": 0.13025}


def pix2pix_unet(family: str, channels: int = 8) -> UNet2DConditionModel:
    """diffusers' UNet of SD 1.5's or SDXL's build; the same weights each time."""
    torch.manual_seed(21)
    if family != "sd15":
        dims = DiffusionDims(
            widths=(32, 64, 64), transformers=(0, 1, 1), resnets=1, head_width=16, context=CONTEXT, pooled=POOLED
        )
        return UNet2DConditionModel(**{**dims.unet_config(), "in_channels": channels}).eval()
    return UNet2DConditionModel(
        in_channels=channels,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,  # the number of heads, whatever diffusers calls it
        cross_attention_dim=CONTEXT,
    ).eval()


def pix2pix_model(family: str, channels: int = 8):
    """The same as a MODEL, of the class that ComfyUI finds for a checkpoint of this family."""
    import comfy.supported_models
    import comfy.utils
    from any2pix.nodes.host.sdxl import build_model, comfy_unet_config, convert_keys
    from comfy.model_patcher import ModelPatcher

    unet = pix2pix_unet(family, channels)
    state, config = unet.state_dict(), dict(unet.config)
    if family == "sdxl":
        return build_model(state, config, "small")
    if family == "sd15":
        base, marks = comfy.supported_models.SD15_instructpix2pix, {}
        arguments = {
            "image_size": 32, "in_channels": channels, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2],
            "num_res_blocks": [1, 1], "transformer_depth": [1, 0], "transformer_depth_output": [1, 1, 0, 0],
            "transformer_depth_middle": 1, "use_linear_in_transformer": False, "context_dim": CONTEXT, "num_heads": 4,
            "num_head_channels": -1, "use_spatial_transformer": True, "legacy": False, "adm_in_channels": None,
            "use_temporal_attention": False,
        }  # fmt: skip
    else:
        base, arguments = comfy.supported_models.SDXL_instructpix2pix, comfy_unet_config(config, "small")
        marks = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}

    class Small(base):
        unet_extra_config = {key: arguments[key] for key in ("num_heads", "num_head_channels")}

    small = Small(arguments)
    small.set_inference_dtype(torch.float32, None)
    model = small.get_model(marks, "", device="cpu")
    model.load_model_weights(convert_keys(state, small.unet_config, "small"), "")
    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def prompts(family: str):
    """(instruction, empty prompt) as CONDITIONING; random numbers stand for both."""
    return [
        [[seeded(1, TOKENS, CONTEXT, seed=seed), {} if family == "sd15" else {"pooled_output": seeded(1, POOLED,
        seed=seed + 5)}]]
        for seed in (30, 31)
    ]  # fmt: skip


def sample(guider, latent, sigmas, noise=None, seed: int = 3, sampler: str = "euler"):
    """SamplerCustomAdvanced's sampling: the LATENT's samples, with ``noise`` for the drawn one."""
    import comfy.sample
    import comfy.samplers

    samples = latent["samples"]
    noise = comfy.sample.prepare_noise(samples, seed) if noise is None else noise
    with torch.inference_mode():
        return guider.sample(
            noise, samples, comfy.samplers.sampler_object(sampler), sigmas, denoise_mask=latent.get("noise_mask"),
            disable_pbar=True, seed=seed,
        )  # fmt: skip
