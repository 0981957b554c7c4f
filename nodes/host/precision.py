"""How weights are kept: full, half or 8-bit precision, by ComfyUI's rules or by the artist's choice."""

from typing import Any

import comfy.model_management as management
import torch
import torch.nn.functional as F
from comfy.cli_args import args
from torch import Tensor, nn

from .layers import Layers, cast_weights

FP8 = "fp8_e4m3fn"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, FP8: torch.float8_e4m3fn}
PRECISIONS = ["auto", *DTYPES]
# The artist's own word on text encoders when ComfyUI was started: our networks are loaded and freed as those are.
FLAGS = {f"{name}_text_enc": name for name in DTYPES}
FP8_MAX = torch.finfo(torch.float8_e4m3fn).max
# Layers through which tokens and embeddings enter and leave a network. They are a few per cent of the weights, and what
# 8 bits lose there nothing after them averages out.
KEPT_IN_HALF = (
    "lm_head", "vae_projector_image", "vae_predictor_image", "modality_heads", "input_sequence_embed_linear",
    "output_proj", "image_proj", "projector_unclip", "projector_unclip2",
)  # fmt: skip


class Fp8Layers(Layers):
    """A Linear can keep its weight as 8-bit floats with one scale a row, cast back where it is used."""

    class Linear(Layers.Linear):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.register_parameter("scale", None)  # not in the state dict until the weight is kept in 8 bits

        def keep_in_fp8(self) -> None:
            """Replace the weight (out, in). Each row is stretched to the whole range of the 8 bits: as they are,
            weights below 2^-6 would be e4m3's subnormals, whose steps do not shrink with them."""
            rows = self.weight.detach().float()
            scale = rows.abs().amax(dim=1).clamp_min(1e-12) / FP8_MAX  # a row may be all zeros
            self.weight = nn.Parameter((rows / scale[:, None]).to(torch.float8_e4m3fn), requires_grad=False)
            self.scale = nn.Parameter(scale, requires_grad=False)

        def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:
            if self.scale is None:
                return super().forward_comfy_cast_weights(input)
            with cast_weights(self, input) as (weight, bias):
                # on the weight and not on the result, which could overflow fp16 before it is scaled; the cast one is a
                # copy
                return F.linear(input, weight.mul_(self.scale.to(input)[:, None]), bias)


def choose_precision(precision: str = "auto") -> str:
    """A name of DTYPES. auto: ComfyUI's start option for text encoders; else fp16 where this device computes in it
    (finer than bf16), else bf16, else fp32. ValueError where the device cannot hold what was asked for."""
    device = management.get_torch_device()
    if precision == "auto":
        precision = next((name for flag, name in FLAGS.items() if getattr(args, flag, False)), None)
        precision = precision or _best_of(device)
    if not management.supports_cast(device, DTYPES[precision]):
        raise ValueError(
            f"precision is {precision}, which this device ({device}) cannot convert from. Choose fp16, or auto."
        )
    return precision


def choose_dtype(precision: str = "auto") -> torch.dtype:
    """The dtype weights are kept in."""
    return DTYPES[choose_precision(precision)]


def half_dtype() -> torch.dtype:
    """What stays beside 8-bit weights: the half precision that this device computes in; bf16 where it has no
    favourite."""
    best = _best_of(management.get_torch_device())
    return torch.bfloat16 if best == "fp32" else DTYPES[best]


def quantize(module: nn.Module) -> None:
    """Keep the large layers of a module built from Fp8Layers in 8 bits, one layer after the other, in place."""
    for name, layer in module.named_modules():
        if isinstance(layer, Fp8Layers.Linear) and not set(name.split(".")) & set(KEPT_IN_HALF):
            layer.keep_in_fp8()


def _best_of(device: torch.device) -> str:
    if management.should_use_fp16(device):
        return "fp16"
    return "bf16" if management.should_use_bf16(device) else "fp32"
