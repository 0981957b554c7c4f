"""The unCLIP adapter's conditioning: one token instead of the text, for a UNet that was trained without texts."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.diffusion import TIME_IDS
from .conditioning import AdapterOptions, Painted, over_range, row
from .host.conditioning import Conditioning, Entry, require_sdxl
from .host.networks import Network
from .host.sdxl import STOCK_TIME_WIDTH

NO_TEXT: Conditioning = [[None, {}]]


@dataclass(frozen=True)
class Token:
    """What the unCLIP UNet reads instead of a text: ``context`` (1, 1, C) and ``pooled`` (1, P)."""

    context: Tensor
    pooled: Tensor

    def toward(self, other: "Token", share: float) -> "Token":
        return Token(torch.lerp(self.context, other.context, share), torch.lerp(self.pooled, other.pooled, share))

    def instead_of_text(self, entry: Entry) -> Entry:
        return [self.context, {**entry[1], "pooled_output": self.pooled}]


def apply_unclip(
    model: Any,
    adapter: Network,
    painted: Painted,
    positive: Conditioning | None,
    negative: Conditioning | None,
    options: AdapterOptions,
) -> tuple[Any, Conditioning, Conditioning]:
    """MODEL, positive and negative conditioning that paint the embedding. What the given conditioning holds beside its
    text is kept. <base_null> is the unconditional token, which also stands before the range and after it."""
    if painted.local is not None:
        raise ValueError(
            "local is connected, but the unCLIP adapter has one view only. Disconnect local, or choose a two-view "
            "adapter in Load Embedding Adapter."
        )
    _require_fit(model, adapter)
    null = encode_token(adapter, None)
    sides = []
    for given, vector in ((positive, row(painted.embedding)), (negative, painted.away())):
        token = null if vector is None else null.toward(encode_token(adapter, vector), options.scale)
        sides.append(over_range(given or NO_TEXT, options, token.instead_of_text, null.instead_of_text))
    return model, *sides


def encode_token(adapter: Network, vector: Tensor | None) -> Token:
    """The adapter's token of an embedding (1, D); of zeros where there is none."""
    vector = torch.zeros(1, adapter.module.dims.embed) if vector is None else vector
    with torch.no_grad():
        context, pooled = adapter.load()(vector.to(adapter.device))
    return Token(context.float().cpu(), pooled.float().cpu())


def _require_fit(model: Any, adapter: Network) -> None:
    """The adapter's token must be as wide as the UNet's cross attention."""
    require_sdxl(model)
    dims = adapter.module.dims
    context, pooled = model.model.model_config.unet_config["context_dim"], _pooled_width(model)
    if (context, pooled) != (dims.context, dims.pooled):
        raise ValueError(
            f"The adapter gives tokens of {dims.context} and pooled vectors of {dims.pooled} numbers, the model reads "
            f"{context} and {pooled}. Load the adapter and the diffusion model of one release (both miniature, or both "
            "published)."
        )


def _pooled_width(model: Any) -> int:
    time_width = getattr(model.model.embedder, "dim", STOCK_TIME_WIDTH)
    return model.model.model_config.unet_config["adm_in_channels"] - TIME_IDS * time_width
