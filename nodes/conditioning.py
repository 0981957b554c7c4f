"""What both adapters do to CONDITIONING: some of its entries' contents change, over a part of the sampling."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..models.two_view import RELEASED_LOCAL_STRENGTH, RELEASED_VIEW, VIEWS
from ..stages.length import to_length
from .host.choices import require_choice
from .host.conditioning import Conditioning, Entry
from .sockets import Embedding


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
                f"start_percent {self.start} and end_percent {self.end} must rise and be between 0 and 1. Swap them?"
            )


def row(embedding: Embedding | None, what: str = "embedding") -> Tensor | None:
    """The vector (D,) as float32 (1, D); None for <base_null> and for what is not connected. ``what``: the input, for
    messages."""
    if embedding is None or embedding.is_null:
        return None
    if not embedding.vector.isfinite().all():
        raise ValueError(
            f"The {what} holds NaN or infinite numbers. Check the node it comes from: a network in fp16 may have "
            "overflowed; set precision of its loader to bf16 or fp32."
        )
    return embedding.vector[None].float()


def require_width(vector: Tensor | None, width: int, what: str) -> None:
    """ValueError where an embedding (1, D) is not the one that the adapter was trained with."""
    if vector is not None and vector.shape[-1] != width:
        raise ValueError(
            f"The {what} has {vector.shape[-1]} numbers, the adapter reads {width}. ImageBind, LLM, prior and adapter "
            "must be of one family: all miniature, or all published."
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
