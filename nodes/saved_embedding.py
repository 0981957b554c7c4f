"""One embedding on disk: a prediction, a refined or a mixed one, or <base_null>."""

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..stages.encode import check_finite
from .saved import LoadingNode, SavingNode, describe_file, describe_recipe
from .sockets import CATEGORY, ORIGINS, Embedding, EmbeddingSocket

VECTOR = "any2pix_embedding"
MOST_CANDIDATES = 10_000


class SaveEmbedding(SavingNode):
    KIND = "embedding"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.saver(
            EmbeddingSocket.Input("embedding", tooltip="The embedding to save; <base_null> can be saved too."),
            default="my embedding",
            search_aliases=["save embedding", "export embedding"],
            node_id="Any2PixSaveEmbedding",
            display_name="Save Embedding",
            category=CATEGORY,
            description="Saves a predicted, refined or mixed embedding, to paint it again without the networks that "
            "produced it.",
        )

    @classmethod
    def execute(cls, embedding: Embedding, name: str, overwrite: bool) -> io.NodeOutput:
        return cls.keep("embedding", *pack_embedding(embedding), name, overwrite, shown=_describe(embedding))


class LoadEmbedding(LoadingNode):
    KIND = "embedding"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.loader(
            "Save Embedding",
            outputs=[
                EmbeddingSocket.Output(
                    display_name="embedding",
                    tooltip="Connect it where the saved embedding was connected: to a mix, a sampler, Base Retrieval "
                    "...",
                )
            ],
            search_aliases=["load embedding", "import embedding"],
            node_id="Any2PixLoadEmbedding",
            display_name="Load Embedding",
            category=CATEGORY,
            description="Loads a saved embedding. ImageBind, LLM and prior are not needed.",
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        embedding, record, path = cls.read(name, unpack_embedding)
        shown = (_describe(embedding), describe_recipe(record.get("recipe")), describe_file(path, record))
        return io.NodeOutput(embedding, ui=ui.PreviewText("\n".join(filter(None, shown))))


def pack_embedding(embedding: Embedding) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """-> tensors, record; <base_null> is a vector without numbers."""
    vector = torch.zeros(0) if embedding.vector is None else embedding.vector
    if vector.ndim != 1:
        raise ValueError(f"Save Embedding saves one embedding of shape (D,), got {tuple(vector.shape)}.")
    check_finite(vector, "embedding to save")
    known = {name: value for name in ("origin", "blank") if (value := getattr(embedding, name))}
    return {VECTOR: vector}, {"dims": len(vector), "candidates": list(embedding.candidates), **known}


def unpack_embedding(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Embedding:
    """The reverse; ValueError where tensor and record do not fit together."""
    vector, candidates = tensors.get(VECTOR), record.get("candidates")
    if len(tensors) != 1 or vector is None or vector.ndim != 1 or not vector.is_floating_point():
        raise ValueError("it holds no embedding of shape (D,)")
    if record.get("dims") != len(vector):
        raise ValueError(f"its embedding has {len(vector)} numbers, its record has {record.get('dims')}")
    if (
        not isinstance(candidates, list)
        or len(candidates) > MOST_CANDIDATES
        or not all(_is_index(c) for c in candidates)
    ):
        raise ValueError("its list of references is damaged")
    origin, blank = record.get("origin", ""), record.get("blank", False)
    if origin not in ("", *ORIGINS) or not isinstance(blank, bool):
        raise ValueError("its origin is damaged")
    return Embedding(vector if len(vector) else None, tuple(candidates), origin=origin, blank=blank)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _describe(embedding: Embedding) -> str:
    if embedding.vector is None:
        return "<base_null>: no base picture"
    return f"{len(embedding.vector)} numbers, length {float(embedding.vector.norm()):.3g}"
