"""One embedding on disk: a prediction, a refined or a mixed one, or <base_null>."""

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..stages.encode import check_finite
from .host_options import where_known
from .saved import (
    HIDDEN,
    check_new_name,
    check_saved,
    describe_file,
    describe_recipe,
    describe_saved,
    file_state,
    load,
    name_input,
    recipe_of,
    save,
    saving_inputs,
)
from .sockets import CATEGORY, Embedding, EmbeddingSocket

KIND, FOLDER = "embedding", "models/any2pix/embeddings"
VECTOR = "any2pix_embedding"
MOST_CANDIDATES = 10_000


class SaveEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixSaveEmbedding",
            display_name="Save Embedding",
            category=CATEGORY,
            description="Saves an embedding, predicted, refined or mixed, so that it can be painted again without the networks "
            "that made it.",
            **where_known(
                io.Schema, search_aliases=["save embedding", "export embedding"], has_intermediate_output=True
            ),
            is_output_node=True,
            hidden=HIDDEN,
            inputs=[
                EmbeddingSocket.Input("embedding", tooltip="What to save. <base_null> is saved as that."),
                *saving_inputs("my embedding", FOLDER),
            ],
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return check_new_name(name)

    @classmethod
    def execute(cls, embedding: Embedding, name: str, overwrite: bool) -> io.NodeOutput:
        tensors, record = pack_embedding(embedding)
        saved = save(KIND, name, tensors, {**record, "recipe": recipe_of(cls.hidden, "embedding")}, overwrite)
        return io.NodeOutput(ui=ui.PreviewText(f"{_describe(embedding)}\n{describe_saved(saved)}"))


class LoadEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadEmbedding",
            display_name="Load Embedding",
            category=CATEGORY,
            description="Loads an embedding that was saved. Neither ImageBind, nor the LLM, nor the prior is needed for it.",
            **where_known(
                io.Schema, search_aliases=["load embedding", "import embedding"], has_intermediate_output=True
            ),
            inputs=[name_input(KIND, FOLDER, "Save Embedding")],
            outputs=[
                EmbeddingSocket.Output(
                    display_name="embedding",
                    tooltip="Where the saved one came from: for a mix, a sampler, Base Retrieval ...",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return check_saved(KIND, name)

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: Any) -> str:
        return file_state(KIND, name)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        embedding, record, path = load(KIND, name, unpack_embedding)
        shown = (_describe(embedding), describe_recipe(record.get("recipe")), describe_file(path, record))
        return io.NodeOutput(embedding, ui=ui.PreviewText("\n".join(filter(None, shown))))


def pack_embedding(embedding: Embedding) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """-> tensors, record; <base_null> is a vector without numbers."""
    vector = torch.zeros(0) if embedding.vector is None else embedding.vector
    if vector.ndim != 1:
        raise ValueError(f"Save Embedding saves one embedding of shape (D,), got {tuple(vector.shape)}.")
    check_finite(vector, "embedding to save")
    return {VECTOR: vector}, {"dims": len(vector), "candidates": list(embedding.candidates)}


def unpack_embedding(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Embedding:
    """The reverse; ValueError where tensor and record do not fit together."""
    vector, candidates = tensors.get(VECTOR), record.get("candidates")
    if len(tensors) != 1 or vector is None or vector.ndim != 1 or not vector.is_floating_point():
        raise ValueError("it holds no embedding of shape (D,)")
    if record.get("dims") != len(vector):
        raise ValueError(f"its embedding has {len(vector)} numbers, its record says {record.get('dims')}")
    if (
        not isinstance(candidates, list)
        or len(candidates) > MOST_CANDIDATES
        or not all(_is_index(c) for c in candidates)
    ):
        raise ValueError("its list of references is damaged")
    return Embedding(vector if len(vector) else None, tuple(candidates))


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _describe(embedding: Embedding) -> str:
    if embedding.vector is None:
        return "<base_null>: no base picture"
    return f"{len(embedding.vector)} numbers, length {float(embedding.vector.norm()):.3g}"
