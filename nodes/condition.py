"""Apply Embedding: an embedding as ComfyUI's CONDITIONING, so that any sampler can paint it."""

from typing import Any

from comfy_api.latest import io

from ..models.two_view import RELEASED_LOCAL_STRENGTH, RELEASED_VIEW, VIEWS, TwoViewAdapter
from .conditioning import AdapterOptions, Painted, require_width, row
from .host.choices import ChoiceInput, check_choices
from .host.conditioning import Conditioning, require_conditioning
from .host.host_options import where_known
from .host.networks import Network
from .sockets import CATEGORY, AdapterSocket, Embedding, EmbeddingSocket
from .two_view import apply_two_view
from .unclip import apply_unclip

DEFAULTS = AdapterOptions()


def apply_embedding(
    model: Any,
    adapter: Network,
    painted: Painted,
    positive: Conditioning | None,
    negative: Conditioning | None,
    options: AdapterOptions = DEFAULTS,
) -> tuple[Any, Conditioning, Conditioning]:
    """MODEL, positive and negative conditioning that paint the embedding with either adapter."""
    for name, given in (("positive", positive), ("negative", negative)):
        if given:
            require_conditioning(given, name)
    inputs = {"embedding": painted.embedding, "local": painted.local, "negative_embedding": painted.negative}
    for name, embedding in inputs.items():
        require_width(row(embedding, name), adapter.module.dims.embed, name)
    apply = apply_two_view if isinstance(adapter.module, TwoViewAdapter) else apply_unclip
    return apply(model, adapter, painted, positive, negative, options)


class ApplyEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def share(name: str, default: float, what: str) -> io.Float.Input:
            return io.Float.Input(
                name,
                default=default,
                min=0.0,
                max=1.0,
                step=0.001,
                tooltip=what,
                **where_known(io.Float.Input, advanced=True),
            )

        return io.Schema(
            node_id="Any2PixApplyEmbedding",
            display_name="Apply Embedding",
            category=f"{CATEGORY}/sampling",
            description="Turns an embedding into conditioning for any sampler.",
            **where_known(
                io.Schema, search_aliases=["embedding to conditioning", "ip adapter apply", "unclip conditioning"]
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model for sampling, from Load Embedding Diffusion."),
                AdapterSocket.Input("adapter", tooltip="From Load Embedding Adapter."),
                EmbeddingSocket.Input(
                    "embedding",
                    optional=True,
                    tooltip="What to paint: Embedding Mix, or any other embedding. <base_null> gives the "
                    "unconditional model. Two-view adapter: the global view; optional if local is connected.",
                ),
                *conditioning_inputs(),
                scale_input(),
                share("start_percent", 0.0, "The embeddings apply from this share of the sampling on."),
                share(
                    "end_percent",
                    1.0,
                    "The embeddings apply up to this share of the sampling. Lower it to leave fine detail to the "
                    "model.",
                ),
                *view_inputs(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler."),
                io.Conditioning.Output(display_name="positive", tooltip="For the sampler, or for DDIM Invert."),
                io.Conditioning.Output(display_name="negative", tooltip="For the sampler."),
            ],
        )

    @classmethod
    def validate_inputs(cls, view: str | None = None) -> bool | str:
        return check_choices("Apply Embedding", view=(view, VIEWS))

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: Network,
        scale: float,
        start_percent: float,
        end_percent: float,
        embedding: Embedding | None = None,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        negative_embedding: Embedding | None = None,
        local: Embedding | None = None,
        view: str = RELEASED_VIEW,
        local_strength: float = RELEASED_LOCAL_STRENGTH,
    ) -> io.NodeOutput:
        if embedding is None and local is None:
            raise ValueError("There is nothing to paint: connect embedding, or, with a two-view adapter, local.")
        painted = Painted(embedding or Embedding(None), local, negative_embedding)
        options = AdapterOptions(scale, start_percent, end_percent, view, local_strength)
        return io.NodeOutput(*apply_embedding(model, adapter, painted, positive, negative, options))


def conditioning_inputs() -> list[io.Input]:
    """The optional sockets that Apply Embedding and the sampler share."""
    return [
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="Two-view adapter: the text to paint, from CLIP Text Encode; the release uses 'best quality, high "
            "quality' and the caption. unCLIP adapter: the text is ignored, because this model reads none. "
            "ControlNets, areas, masks and time ranges are kept with both.",
        ),
        io.Conditioning.Input(
            "negative",
            optional=True,
            tooltip="The same for the negative conditioning; the two-view adapter requires it too.",
        ),
        EmbeddingSocket.Input(
            "negative_embedding",
            optional=True,
            tooltip="Guidance leads away from this embedding instead of the unconditional one. With the source "
            "picture's embedding, an edit is visible at a low cfg.",
        ),
        EmbeddingSocket.Input(
            "local",
            optional=True,
            tooltip="Two-view adapter only: the local view, for example the subject's embedding. If not connected, it "
            "is zeros. The view 'global' does not use it.",
        ),
    ]


def scale_input(optional: bool = False) -> io.Input:
    return io.Float.Input(
        "scale",
        default=DEFAULTS.scale,
        min=0.0,
        max=3.0,
        step=0.05,
        optional=optional,
        tooltip="Strength of the embeddings; 0 switches them off.",
    )


def view_inputs() -> list[io.Input]:
    """The two-view adapter's widgets. Optional, so that graphs made before there was one still run."""
    return [
        ChoiceInput(
            "view",
            options=list(VIEWS),
            default=RELEASED_VIEW,
            optional=True,
            tooltip="Two-view adapter only: which views the model uses. The release paints with 'global' and places a "
            "subject with 'local'.",
            **where_known(io.Combo.Input, advanced=True),
        ),
        io.Float.Input(
            "local_strength",
            default=RELEASED_LOCAL_STRENGTH,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="Two-view adapter only: at 0 the local view is a copy of the global one, at 1 it is independent. "
            "The release uses 0.5.",
            **where_known(io.Float.Input, advanced=True),
        ),
    ]
