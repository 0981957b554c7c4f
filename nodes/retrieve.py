"""Base Retrieval: which of the connected pictures is edited."""

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..models.mm_llm import scale_embedding
from ..stages.retrieve import Retrieval, retrieve_base
from ..stages.types import References
from .host_options import where_known
from .sockets import CATEGORY, Embedding, EmbeddingSocket, ReferencesSocket

SDXL_SIZE = 1024  # pixels a side that SDXL was trained at
BLANK_GREY = 0.5  # the blank picture only tells the later nodes a size; mid grey encodes to a harmless latent
NO_BASE = -1


class RetrieveBase(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixRetrieveBase",
            display_name="Base Retrieval",
            category=CATEGORY,
            description="Finds the picture that the LLM means to edit: the reference whose embedding is nearest to "
            "the predicted one.",
            **where_known(
                io.Schema,
                search_aliases=["pick reference", "nearest reference"],
                has_intermediate_output=True,
            ),
            is_output_node=True,  # so that its text is sent to the page again when the node itself is cached
            inputs=[
                ReferencesSocket.Input("references", tooltip="The same chain that the LLM got."),
                EmbeddingSocket.Input(
                    "base",
                    optional=True,
                    tooltip="The LLM's base output. Without it the first picture of the chain is taken, or the "
                    "first reference where there is no picture.",
                ),
                io.Int.Input(
                    "blank_size",
                    default=SDXL_SIZE,
                    min=64,
                    max=8192,
                    step=8,
                    tooltip="Side in pixels of the grey picture that comes out when no picture at all is connected. "
                    "1024 for SDXL, 128 for the miniature. Otherwise the first picture gives the size.",
                    **where_known(io.Int.Input, advanced=True),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The picture to edit, in its own size; a grey one when the answer is <base_null>.",
                ),
                EmbeddingSocket.Output(
                    display_name="embedding",
                    tooltip="Its embedding, or <base_null>. Connect it to DDIM Invert's base input too.",
                ),
                io.Int.Output(
                    display_name="index", tooltip="Its place in the chain, counted from 0; -1 for <base_null>."
                ),
            ],
        )

    @classmethod
    def execute(cls, references: References, blank_size: int, base: Embedding | None = None) -> io.NodeOutput:
        retrieval = (
            _first_picture(references) if base is None else retrieve_base(references, base.vector, base.candidates)
        )
        shown = ui.PreviewText(describe(references, retrieval))
        if retrieval.index is None:
            return io.NodeOutput(blank_picture(references, blank_size), Embedding(None), NO_BASE, ui=shown)
        found = references[retrieval.index]
        image = blank_picture(references, blank_size) if found.image is None else found.image[None]
        return io.NodeOutput(image, Embedding(scale_embedding(found.embedding)), retrieval.index, ui=shown)


def blank_picture(references: References, size: int) -> Tensor:
    """(1, H, W, 3) grey, as large as the first picture of the references, or ``size`` x ``size`` without one."""
    height, width = next((r.image.shape[:2] for r in references if r.image is not None), (size, size))
    return torch.full((1, height, width, 3), BLANK_GREY)


def describe(references: References, retrieval: Retrieval) -> str:
    """The similarities, one reference a line, the chosen one marked."""
    if retrieval.index is None:
        return "<base_null>: no base picture, painted from noise"
    counts: dict[str, int] = {}
    lines = []
    for index, (reference, similarity) in enumerate(zip(references, retrieval.similarities)):
        counts[reference.modality] = counts.get(reference.modality, 0) + 1
        mark = "→" if index == retrieval.index else "  "
        lines.append(f"{mark} [{reference.modality}{counts[reference.modality]}]  {float(similarity):.3f}")
    return "\n".join(lines)


def _first_picture(references: References) -> Retrieval:
    """Without a prediction there is nothing to compare with; the similarities are those to the chosen reference itself."""
    if not references:
        raise ValueError("Base Retrieval got no references. Connect a Load Image Embedding node.")
    index = next((i for i, reference in enumerate(references) if reference.modality == "image"), 0)
    return retrieve_base(references, references[index].embedding, (index,))
