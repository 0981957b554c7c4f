"""What a CONDITIONING must be for a model to read it."""

from typing import Any

import comfy.model_base
import comfy.supported_models
import torch
from torch import Tensor

Entry = list[Any]  # [text (B, tokens, C), {ControlNets, areas, masks, time ranges, sizes, pooled_output, ...}]
Conditioning = list[Entry]


def require_conditioning(given: Conditioning, what: str) -> None:
    """ValueError where a CONDITIONING has nothing in it or holds numbers that are none. ``what``: the input, for
    messages."""
    if not given:
        raise ValueError(f"The {what} is empty. Connect Apply Embedding, or CLIP Text Encode.")
    for number, (text, extras) in enumerate(given, start=1):
        for part in (text, extras.get("pooled_output")):
            if torch.is_tensor(part) and not part.isfinite().all():
                entry = f"entry {number} of {len(given)} in the {what}" if len(given) > 1 else f"{what}"
                raise ValueError(
                    f"The {entry} holds NaN or infinite numbers. Check the node it comes from: a text encoder in fp16 "
                    "may have overflowed; start ComfyUI with --bf16-text-enc or --fp32-text-enc."
                )


def require_pooled(model: Any, given: Conditioning, what: str) -> None:
    """ValueError where an SDXL model is asked with a text that was not encoded for it: it reads a pooled vector beside
    the text."""
    if isinstance(model.model, comfy.model_base.SDXL) and any(
        extras.get("pooled_output") is None for _, extras in given
    ):
        raise ValueError(
            f"The {what} has no pooled vector, which an SDXL model needs beside the text. Encode the text with the "
            "CLIP of an SDXL checkpoint (DualCLIPLoader of type sdxl), or connect Apply Embedding."
        )


def require_context(model: Any, given: Conditioning, what: str) -> None:
    """ValueError where a text has another width than the UNet's cross attentions read."""
    width = model.model.model_config.unet_config.get("context_dim")
    for text, _ in given:
        if isinstance(width, int) and torch.is_tensor(text) and text.ndim == 3 and text.shape[-1] != width:
            raise ValueError(
                f"The {what} has {text.shape[-1]} numbers a token, this model reads {width}. Encode the text with the "
                "CLIP that belongs to the model, or connect Apply Embedding."
            )


def require_readable(model: Any, given: Conditioning, what: str) -> None:
    """ValueError where the model cannot read a CONDITIONING: nothing in it, numbers that are none, or a text for
    another model."""
    require_conditioning(given, what)
    require_pooled(model, given, what)
    require_context(model, given, what)


def require_cover(given: Conditioning, sampling: Any, sigmas: Tensor, what: str) -> None:
    """ValueError where at one of the noise levels no entry is felt: ComfyUI then predicts zeros, without asking the
    network.

    ``sampling``: the model's model_sampling, which converts a share of the sampling to a noise level.
    """
    spans = [
        [
            float(sampling.percent_to_sigma(extras.get(name, share)))
            for name, share in (("start_percent", 0.0), ("end_percent", 1.0))
        ]
        for _, extras in given
    ]
    for sigma in sigmas.tolist():
        if not any(end <= sigma <= start for start, end in spans):
            raise ValueError(
                f"At noise level {sigma:.4g} no entry of the {what} applies: its time ranges (start_percent, "
                "end_percent) leave a gap. Widen one of them."
            )


def require_sdxl(model: Any) -> None:
    config = model.model.model_config
    if not isinstance(config, comfy.supported_models.SDXL):
        raise ValueError(
            f"The embedding adapter is for SDXL, the connected model is {type(config).__name__}. Connect Load "
            "Embedding Diffusion, or an SDXL checkpoint for the two-view adapter."
        )
