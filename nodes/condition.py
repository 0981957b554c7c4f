"""Apply Embedding: an embedding as ComfyUI's CONDITIONING, so that any sampler can paint it."""

from dataclasses import dataclass
from typing import Any

import comfy.supported_models
import torch
from comfy_api.latest import io
from torch import Tensor

from ..stages.edit import at_norm
from .networks import Network
from .sdxl import STOCK_TIME_WIDTH, TIME_IDS
from .sockets import CATEGORY, AdapterSocket, Embedding, EmbeddingSocket

Conditioning = list[list[Any]]


@dataclass(frozen=True)
class AdapterOptions:
    """``scale``: how strongly the embeddings are felt, 0 is the unconditional model. They are felt from ``start`` to ``end``
    (shares of the sampling), the unconditional token stands in before and after."""

    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise ValueError(
                f"start_percent {self.start} and end_percent {self.end} must rise and lie between 0 and 1. Swap them?"
            )


@dataclass(frozen=True)
class Token:
    """What the unCLIP UNet reads in the place of a text: ``context`` (1, 1, C) and ``pooled`` (1, P)."""

    context: Tensor
    pooled: Tensor

    def toward(self, other: "Token", share: float) -> "Token":
        return Token(torch.lerp(self.context, other.context, share), torch.lerp(self.pooled, other.pooled, share))


def apply_embedding(
    model: Any,
    adapter: Network,
    embedding: Embedding,
    positive: Conditioning | None,
    negative: Conditioning | None,
    negative_embedding: Embedding | None,
    options: AdapterOptions = AdapterOptions(),
) -> tuple[Any, Conditioning, Conditioning]:
    """MODEL, positive and negative conditioning that paint ``embedding``.

    <base_null> is the unconditional token. The negative embedding is brought to the length of the positive one: a raw picture
    embedding has length 1, and guidance compares the two.
    """
    require_fit(model, adapter)
    null = encode_token(adapter, Embedding(None), None)
    token = encode_token(adapter, embedding, None)
    length = None if embedding.is_null else float(embedding.vector.norm())
    away = null if negative_embedding is None else encode_token(adapter, negative_embedding, length)
    return (
        model,
        build_conditioning(positive, null, null.toward(token, options.scale), options),
        build_conditioning(negative, null, null.toward(away, options.scale), options),
    )


def encode_token(adapter: Network, embedding: Embedding, length: float | None) -> Token:
    """The adapter's token of an embedding, rescaled to ``length`` where that is given; of zeros for <base_null>."""
    dims = adapter.module.dims
    if embedding.is_null:
        vector = torch.zeros(1, dims.embed)
    else:
        vector = embedding.vector[None].float()
        vector = vector if length is None else at_norm(vector, length)
    with torch.no_grad():
        context, pooled = adapter.load()(vector.to(adapter.device))
    return Token(context.float().cpu(), pooled.float().cpu())


def build_conditioning(given: Conditioning | None, null: Token, token: Token, options: AdapterOptions) -> Conditioning:
    """CONDITIONING of the token. What ``given`` holds beside its text (ControlNets, areas, masks, time ranges, sizes) is kept;
    its text is not, for this UNet never saw any."""
    spans = [(0.0, options.start, null), (options.start, options.end, token), (options.end, 1.0, null)]
    whole = options.start == 0.0 and options.end == 1.0
    entries: Conditioning = []
    for extras in [entry[1] for entry in given] if given else [{}]:
        if whole:
            entries.append([token.context, {**extras, "pooled_output": token.pooled}])
            continue
        for start, end, part in spans:
            first, last = max(start, extras.get("start_percent", 0.0)), min(end, extras.get("end_percent", 1.0))
            if first < last:
                entries.append(
                    [
                        part.context,
                        {**extras, "pooled_output": part.pooled, "start_percent": first, "end_percent": last},
                    ]
                )
    return entries


def require_fit(model: Any, adapter: Network) -> None:
    """The adapter's token must be as wide as the UNet's cross attention."""
    config = model.model.model_config
    if not isinstance(config, comfy.supported_models.SDXL):
        raise ValueError(
            f"The embedding adapter is for SDXL, the connected model is {type(config).__name__}. Connect Load "
            "Embedding Diffusion."
        )
    dims = adapter.module.dims
    context, pooled = config.unet_config["context_dim"], _pooled_width(model)
    if (context, pooled) != (dims.context, dims.pooled):
        raise ValueError(
            f"The adapter gives tokens of {dims.context} and pooled vectors of {dims.pooled} numbers, the model "
            f"reads {context} and "
            f"{pooled}. Load the adapter and the diffusion model of one release (both miniature, or both published)."
        )


def _pooled_width(model: Any) -> int:
    time_width = getattr(model.model.embedder, "dim", STOCK_TIME_WIDTH)
    return model.model.model_config.unet_config["adm_in_channels"] - TIME_IDS * time_width


class ApplyEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def share(name: str, default: float, what: str) -> io.Float.Input:
            return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=what)

        return io.Schema(
            node_id="Any2PixApplyEmbedding",
            display_name="Apply Embedding",
            category=f"{CATEGORY}/sampling",
            description="Turns an embedding into conditioning for any sampler.",
            inputs=[
                io.Model.Input("model", tooltip="The model that will sample, from Load Embedding Diffusion."),
                AdapterSocket.Input("adapter", tooltip="From Load Embedding Adapter."),
                EmbeddingSocket.Input(
                    "embedding",
                    tooltip="What to paint: Embedding Mix, or any other embedding. <base_null> gives the "
                    "unconditional model.",
                ),
                *conditioning_inputs(),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    tooltip="How strongly the embeddings are felt; 0 not at all.",
                ),
                share("start_percent", 0.0, "From which share of the sampling on the embeddings are felt."),
                share(
                    "end_percent",
                    1.0,
                    "Up to which share of the sampling the embeddings are felt. Lower it to leave the fine detail "
                    "free.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler."),
                io.Conditioning.Output(display_name="positive", tooltip="For the sampler, or for DDIM Invert."),
                io.Conditioning.Output(display_name="negative", tooltip="For the sampler."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: Network,
        embedding: Embedding,
        scale: float,
        start_percent: float,
        end_percent: float,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        negative_embedding: Embedding | None = None,
    ) -> io.NodeOutput:
        options = AdapterOptions(scale, start_percent, end_percent)
        return io.NodeOutput(
            *apply_embedding(model, adapter, embedding, positive, negative, negative_embedding, options)
        )


def conditioning_inputs() -> list[io.Input]:
    """The optional inputs that Apply Embedding and the sampler share."""
    return [
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="Conditioning whose ControlNets, areas, masks and time ranges are kept. Its text is not used: "
            "this model reads no text.",
        ),
        io.Conditioning.Input("negative", optional=True, tooltip="The same for the negative side."),
        EmbeddingSocket.Input(
            "negative_embedding",
            optional=True,
            tooltip="Guide away from this embedding instead of from nothing. With the source picture's embedding an "
            "edit shows at a low cfg.",
        ),
    ]
