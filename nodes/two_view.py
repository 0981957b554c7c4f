"""The two-view adapter's conditioning: image tokens that travel beside the text."""

from typing import Any

import torch
from torch import Tensor

from .conditioning import AdapterOptions, Painted, over_range, row
from .host.attention import View, attach, cross_attentions, with_view
from .host.conditioning import Conditioning, Entry, require_readable, require_sdxl
from .host.networks import Network

RELEASED_TEXTS = {
    "positive": "best quality, high quality, and the caption",
    "negative": "monochrome, lowres, bad anatomy, worst quality, low quality",
}


def apply_two_view(
    model: Any,
    adapter: Network,
    painted: Painted,
    positive: Conditioning | None,
    negative: Conditioning | None,
    options: AdapterOptions,
) -> tuple[Any, Conditioning, Conditioning]:
    """MODEL, positive and negative conditioning that paint the text and the views beside it.

    At scale 0 everything comes back as it was. Views that are <base_null> or not connected are zeros; the negative
    side, where no negative embedding is given, has the unconditional tokens, those of two zero views.
    """
    _require_fit(model, adapter)
    texts = {"positive": positive, "negative": negative}
    for side, given in texts.items():
        if not given:
            raise ValueError(
                f"The two-view adapter needs a text, and {side} is not connected. Connect a CLIP Text Encode (the "
                f"release uses: {RELEASED_TEXTS[side]})."
            )
        require_readable(model, given, side)
    if options.scale == 0.0:
        return model, positive, negative
    tokens = {
        "positive": encode_tokens(adapter, row(painted.embedding), row(painted.local), options),
        "negative": encode_tokens(adapter, painted.away(), None, options),
    }
    sides = [add_view(texts[side], adapter, View(tokens[side], options.scale), options) for side in texts]
    return attach(model, adapter), *sides


def add_view(given: Conditioning, adapter: Network, view: View, options: AdapterOptions) -> Conditioning:
    """``given`` with the view's tokens beside its text, within the options' range."""

    def inside(entry: Entry) -> Entry:
        return [entry[0], with_view(entry[1], adapter, view)]

    return over_range(given, options, inside, outside=lambda entry: entry)


def encode_tokens(adapter: Network, whole: Tensor | None, local: Tensor | None, options: AdapterOptions) -> Tensor:
    """Global and local view (1, D), None for zeros -> tokens (1, T, C) on the CPU."""
    zeros = torch.zeros(1, adapter.module.dims.embed)
    views = [(zeros if view is None else view).to(adapter.device) for view in (whole, local)]
    with torch.no_grad():
        return adapter.load().tokens(*views, options.view, options.local_strength).float().cpu()


def _require_fit(model: Any, adapter: Network) -> None:
    """The adapter must have keys and values for exactly the UNet's cross attentions."""
    require_sdxl(model)
    dims = adapter.module.dims
    context = model.model.model_config.unet_config["context_dim"]
    widths = tuple(width for _, width in cross_attentions(model.get_model_object("diffusion_model")))
    if (context, widths) != (dims.context, dims.widths):
        raise ValueError(
            f"The adapter is for a UNet with {len(dims.widths)} cross attentions, {sum(dims.widths)} channels wide "
            f"together, on texts of {dims.context} numbers a token; the model has {len(widths)}, {sum(widths)} wide, "
            f"on {context}. The published adapter is for SDXL base; connect that, or a checkpoint derived from it."
        )
