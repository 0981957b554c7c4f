"""A diffusers SDXL UNet of any size as a genuine ComfyUI MODEL, so that every stock sampler, LoRA and ControlNet takes
it.

An InstructPix2Pix may also be of Stable Diffusion 1's build, which ComfyUI itself loads in its own layout only."""

from fractions import Fraction
from typing import Any

import comfy.model_management as management
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...loading.strict import EmptyWeights
from ...loading.unet_layout import FIXED
from .layers import Layers
from .patchers import is_dynamic, new_patcher

STOCK_TIME_WIDTH = 256  # what comfy's SDXL encodes each of the TIME_IDS in


class ChannelMultiple(Fraction):
    """A level's width over the first level's where that is no whole number, 128/96. comfy's UNetModel knows widths only
    as multiples of the first and does nothing with them but multiply; times the first width this is the exact
    integer."""

    def __mul__(self, channels: int) -> int:
        return int(Fraction.__mul__(self, channels))

    __rmul__ = __mul__


def build_model(
    state_dict: dict[str, Tensor],
    config: dict[str, Any],
    source: str,
    dtype: torch.dtype | None = None,
    disable_dynamic: bool = False,
    family: type[comfy.supported_models_base.BASE] | None = None,
) -> ModelPatcher:
    """Weights and config of diffusers' UNet2DConditionModel -> MODEL. ``source`` is named in errors.

    ``family``: the entry of comfy.supported_models that it belongs to (its latents, its noise levels, what it
    predicts); None: SDXL, or the InstructPix2Pix that the config describes.

    ``dtype`` the weights are kept in; None: ComfyUI chooses, as for any diffusion model. ``disable_dynamic``: a plain
    ModelPatcher where the host would stream the weights.
    """
    unet_config = comfy_unet_config(config, source)
    model_config = _model_config(unet_config, family)
    parameters = comfy.utils.calculate_parameters(state_dict)
    device, offload = management.get_torch_device(), management.unet_offload_device()
    if dtype is None:
        dtype = management.unet_dtype(
            model_params=parameters,
            supported_dtypes=model_config.supported_inference_dtypes,
            weight_dtype=comfy.utils.weight_dtype(state_dict),
        )
    model_config.set_inference_dtype(
        dtype, management.unet_manual_cast(dtype, device, model_config.supported_inference_dtypes)
    )
    model = model_config.get_model({}, "", device=offload)
    time_width = config.get("addition_time_embed_dim", STOCK_TIME_WIDTH)
    if is_sdxl(config) and time_width != STOCK_TIME_WIDTH:
        model.embedder = Timestep(time_width)
    weights = convert_keys(state_dict, model_config.unet_config, source)
    layout = _layout(model.diffusion_model, model_config.unet_config)
    _require_fit(layout, weights, source)
    patcher = new_patcher(model.to(offload), device, offload, disable_dynamic)
    assign = is_dynamic(patcher)
    if assign or layout.keys() != model.diffusion_model.state_dict().keys():
        # Assigned, or into empty layers, tensors stay as they are instead of being cast to the layer's own type. From
        # 0.16 to 0.32 only Windows has empty layers.
        weights = {key: value.to(dtype) for key, value in weights.items()}
    model.load_model_weights(weights, "", **({"assign": True} if assign else {}))
    return patcher


def comfy_unet_config(config: dict[str, Any], source: str) -> dict[str, Any]:
    """diffusers' config.json -> the arguments of comfy's UNetModel."""
    widths = list(config["block_out_channels"])
    levels = len(widths)
    resnets = _per_level(config.get("layers_per_block", 2), levels)
    attention = [kind.startswith("CrossAttn") for kind in config["down_block_types"]]
    depths = [
        d if has else 0
        for d, has in zip(_per_level(config.get("transformer_layers_per_block", 1), levels), attention, strict=True)
    ]
    _require_known(config, source)
    sdxl = is_sdxl(config)
    return {
        "use_checkpoint": False,
        "image_size": 32,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "use_spatial_transformer": True,
        "legacy": False,
        "num_classes": "sequential" if sdxl else None,
        "adm_in_channels": config["projection_class_embeddings_input_dim"] if sdxl else None,
        "model_channels": widths[0],
        "channel_mult": [
            width // widths[0] if width % widths[0] == 0 else ChannelMultiple(width, widths[0]) for width in widths
        ],
        "num_res_blocks": resnets,
        "transformer_depth": [d for d, n in zip(depths, resnets, strict=True) for _ in range(n)],
        "transformer_depth_output": [d for d, n in zip(depths, resnets, strict=True) for _ in range(n + 1)],
        "transformer_depth_middle": _per_level(config.get("transformer_layers_per_block", 1), levels)[-1],
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "context_dim": config["cross_attention_dim"],
        **_heads(config, widths, source),
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
    }


def is_sdxl(config: dict[str, Any]) -> bool:
    """Whether the UNet reads a pooled text and sizes beside its context, as SDXL's does and Stable Diffusion 1's does
    not."""
    return config.get("addition_embed_type") == "text_time"


def convert_keys(state_dict: dict[str, Tensor], unet_config: dict[str, Any], source: str) -> dict[str, Tensor]:
    """diffusers' keys -> comfy's; every key must have a place."""
    names = comfy.utils.unet_to_diffusers(unet_config)
    unknown = [key for key in state_dict if key not in names]
    if unknown:
        raise ValueError(
            f"{source} has {len(unknown)} weights that its config does not describe, {unknown[0]} first. Use the "
            "config.json it came with."
        )
    return {names[key]: value for key, value in state_dict.items()}


def _model_config(
    unet_config: dict[str, Any], family: type[comfy.supported_models_base.BASE] | None
) -> comfy.supported_models_base.BASE:
    if family is None:
        family = comfy.supported_models.SDXL
        if _takes_source(unet_config):
            family = comfy.supported_models.SDXL_instructpix2pix
        if unet_config["adm_in_channels"] is None:
            family = comfy.supported_models.SD15_instructpix2pix

    class AnySize(family):
        # the base class would force heads of 64 channels
        unet_extra_config = {key: unet_config[key] for key in ("num_heads", "num_head_channels")}

    return AnySize(unet_config)


def _takes_source(config: dict[str, Any]) -> bool:
    """Whether it is an InstructPix2Pix, which reads the latent of the source picture beside the noisy one."""
    return config["in_channels"] == 2 * config["out_channels"]


def _require_known(config: dict[str, Any], source: str) -> None:
    kind = config.get("addition_embed_type")
    if not is_sdxl(config) and (kind is not None or not _takes_source(config)):
        raise ValueError(
            f"{source} is not an SDXL UNet: its addition_embed_type is {kind!r}, not 'text_time'. Load it with "
            "ComfyUI's own Load Diffusion Model."
        )
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"{source} has {name} {config[name]!r}; ComfyUI's UNet has {value!r} and would compute a different "
                "result. Use a UNet of the usual build, or the miniature."
            )


def _heads(config: dict[str, Any], widths: list[int], source: str) -> dict[str, int]:
    """comfy's two ways to say it: one width for all heads, as SDXL has, or one number of heads at all levels, as Stable
    Diffusion 1. diffusers' ``attention_head_dim`` holds the number of heads, a misnomer it keeps for old files."""
    heads = _per_level(config.get("num_attention_heads") or config.get("attention_head_dim", 8), len(widths))
    head_widths = {width // count for width, count in zip(widths, heads, strict=True)}
    if len(head_widths) == 1:
        return {"num_heads": -1, "num_head_channels": head_widths.pop()}
    if len(set(heads)) == 1:
        return {"num_heads": heads[0], "num_head_channels": -1}
    raise ValueError(
        f"{source} has heads of different widths, {sorted(head_widths)}, and {heads} of them; ComfyUI's UNet takes one "
        "width or one number for all levels."
    )


def _per_level(value: Any, levels: int) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * levels


def _layout(unet: torch.nn.Module, unet_config: dict[str, Any]) -> dict[str, Tensor]:
    """Every key of a UNet of this build and its shape, as meta tensors. With dynamic VRAM ``unet`` itself has empty
    layers."""
    options = {key: value for key, value in unet_config.items() if key not in ("device", "dtype")}
    with EmptyWeights():
        return type(unet)(**options, device="meta", operations=Layers).state_dict()


def _require_fit(expected: dict[str, Tensor], weights: dict[str, Tensor], source: str) -> None:
    """ComfyUI itself would only log what is missing, and then sample from uninitialised memory."""
    missing = [key for key in expected if key not in weights]
    wrong = [key for key, value in expected.items() if key in weights and weights[key].shape != value.shape]
    if missing or wrong:
        raise ValueError(
            f"{source} does not fit its config: {len(missing)} weights are missing and {len(wrong)} have another "
            f"shape, {(missing + wrong)[0]} first. Download both again."
        )
