"""What both adapters do to CONDITIONING: some of its entries' contents change, over a part of the sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.supported_models
import torch
from torch import Tensor

from ..models.two_view import RELEASED_LOCAL_STRENGTH, RELEASED_VIEW, VIEWS
from ..stages.length import to_length
from .choices import require_choice
from .sockets import Embedding

Entry = list[Any]  # [text (B, tokens, C), {ControlNets, areas, masks, time ranges, sizes, pooled_output, ...}]
Conditioning = list[Entry]


@dataclass(frozen=True)
class Painted:
    """What to paint: the embedding (a two-view adapter's global view), its local view, and what to guide away from."""

    embedding: Embedding
    local: Embedding | None = None
    negative: Embedding | None = None

    def away(self) -> Tensor | None:
        """The negative embedding (1, D) at the length of the positive one: a raw picture embedding has length 1, and
        guidance compares the two. None where there is none."""
        vector = row(self.negative, "negative_embedding")
        if vector is None or self.embedding.is_null:
            return vector
        return to_length(vector, float(self.embedding.vector.norm()), "negative_embedding")


@dataclass(frozen=True)
class AdapterOptions:
    """``scale``: how strongly the embeddings are felt, 0 is the unconditional model (unCLIP) or the text's alone (two
    views). They are felt from ``start`` to ``end`` (shares of the sampling). The last two are a two-view adapter's
    own."""

    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    view: str = RELEASED_VIEW
    local_strength: float = RELEASED_LOCAL_STRENGTH

    def __post_init__(self) -> None:
        require_choice("view of the two-view adapter", self.view, VIEWS)
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise ValueError(
                f"start_percent {self.start} and end_percent {self.end} must rise and lie between 0 and 1. Swap them?"
            )


def row(embedding: Embedding | None, what: str = "embedding") -> Tensor | None:
    """The vector (D,) as float32 (1, D); None for <base_null> and for what is not connected. ``what``: the input, for
    messages."""
    if embedding is None or embedding.is_null:
        return None
    if not embedding.vector.isfinite().all():
        raise ValueError(
            f"The {what} holds NaN or infinite numbers, so there is nothing to paint from. Look at the node it comes "
            "from: a network in fp16 may have overflowed; its loader's precision bf16 or fp32 helps."
        )
    return embedding.vector[None].float()


def require_width(vector: Tensor | None, width: int, what: str) -> None:
    """ValueError where an embedding (1, D) is not the one that the adapter was trained with."""
    if vector is not None and vector.shape[-1] != width:
        raise ValueError(
            f"The {what} has {vector.shape[-1]} numbers, the adapter reads {width}. ImageBind, LLM, prior and adapter "
            "must be of one family: all miniature, or all published."
        )


def require_conditioning(given: Conditioning, what: str) -> None:
    """ValueError where a CONDITIONING has nothing in it or holds numbers that are none. ``what``: the input, for
    messages."""
    if not given:
        raise ValueError(f"The {what} is empty: it asks for nothing. Connect Apply Embedding, or CLIP Text Encode.")
    for number, (text, extras) in enumerate(given, start=1):
        for part in (text, extras.get("pooled_output")):
            if torch.is_tensor(part) and not part.isfinite().all():
                entry = f"entry {number} of {len(given)} in the {what}" if len(given) > 1 else f"{what}"
                raise ValueError(
                    f"The {entry} holds NaN or infinite numbers. Look at the node it comes from: a text encoder in "
                    "fp16 may have overflowed; start ComfyUI with --bf16-text-enc or --fp32-text-enc."
                )


def require_pooled(model: Any, given: Conditioning, what: str) -> None:
    """ValueError where an SDXL model is asked with a text that was not encoded for it: it reads a pooled vector beside
    the text."""
    if isinstance(model.model, comfy.model_base.SDXL) and any(
        extras.get("pooled_output") is None for _, extras in given
    ):
        raise ValueError(
            f"The {what} has no pooled vector, which an SDXL model reads beside the text. Encode the text with the "
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

    ``sampling``: the model's model_sampling, which knows what a share of the sampling is as a noise level.
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
                f"At noise level {sigma:.4g} no entry of the {what} is felt: its time ranges (start_percent, "
                "end_percent) leave a gap. Widen one of them."
            )


def over_range(
    given: Conditioning, options: AdapterOptions, inside: Callable[[Entry], Entry], outside: Callable[[Entry], Entry]
) -> Conditioning:
    """``given`` with each entry changed by ``inside`` from start to end, and by ``outside`` before and after. An entry
    with a time range of its own keeps to it."""
    if options.start == 0.0 and options.end == 1.0:
        return [inside(entry) for entry in given]
    spans = [(0.0, options.start, outside), (options.start, options.end, inside), (options.end, 1.0, outside)]
    entries: Conditioning = []
    for entry in given:
        for start, end, change in spans:
            first = max(start, entry[1].get("start_percent", 0.0))
            last = min(end, entry[1].get("end_percent", 1.0))
            if first < last:
                text, extras = change(entry)
                entries.append([text, {**extras, "start_percent": first, "end_percent": last}])
    return entries


def require_sdxl(model: Any) -> None:
    config = model.model.model_config
    if not isinstance(config, comfy.supported_models.SDXL):
        raise ValueError(
            f"The embedding adapter is for SDXL, the connected model is {type(config).__name__}. Connect Load "
            "Embedding Diffusion, or an SDXL checkpoint for the two-view adapter."
        )
