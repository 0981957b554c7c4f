"""Base Retrieval: which of the connected pictures is edited."""

from dataclasses import replace

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..models.mm_llm import EMBED_NORM
from ..stages.any2pix.marks import marks_of
from ..stages.any2pix.retrieve import Retrieval, retrieve_base
from ..stages.length import to_length
from ..stages.types import Reference, References
from .host.host_options import where_known
from .sockets import CATEGORY, REFERENCE, Embedding, EmbeddingSocket, ReferencesSocket

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
            description="Finds the picture to edit: the reference whose embedding is nearest to the one that the LLM "
            "predicted.",
            **where_known(
                io.Schema,
                search_aliases=["pick reference", "nearest reference"],
                has_intermediate_output=True,
            ),
            is_output_node=True,  # so that its text is sent to the page again when the node itself is cached
            inputs=[
                ReferencesSocket.Input("references", tooltip="The same chain as on the LLM."),
                EmbeddingSocket.Input(
                    "base",
                    optional=True,
                    tooltip="The LLM's base output. Without it, the first picture of the chain is used, or the first "
                    "reference if there is no picture.",
                ),
                io.Int.Input(
                    "blank_size",
                    default=SDXL_SIZE,
                    min=64,
                    max=8192,
                    step=8,
                    tooltip="Side in pixels of the grey picture that is returned when no picture is connected. 1024 "
                    "for SDXL, 128 for the miniature. Otherwise the first picture sets the size.",
                    **where_known(io.Int.Input, advanced=True),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The picture to edit, in its original size; a grey picture when the answer is <base_null>.",
                ),
                EmbeddingSocket.Output(
                    display_name="embedding",
                    tooltip="Its embedding, or <base_null>. Connect it to DDIM Invert's base input too.",
                ),
                io.Int.Output(
                    display_name="index", tooltip="Its position in the chain, counted from 0; -1 for <base_null>."
                ),
            ],
        )

    @classmethod
    def execute(cls, references: References, blank_size: int, base: Embedding | None = None) -> io.NodeOutput:
        if base is not None:
            require_same_chain(base, references)
        retrieval = (
            _first_picture(references) if base is None else retrieve_base(references, base.vector, base.candidates)
        )
        shown = ui.PreviewText(describe(references, retrieval, base))
        if retrieval.index is None:
            return io.NodeOutput(blank_picture(references, blank_size), Embedding(None), NO_BASE, ui=shown)
        found = references[retrieval.index]
        embedding = replace(embedding_of(references, retrieval.index), blank=found.image is None)
        image = blank_picture(references, blank_size) if embedding.blank else found.image[None]
        return io.NodeOutput(image, embedding, retrieval.index, ui=shown)


def embedding_of(references: References, index: int) -> Embedding:
    """A reference's embedding as the nodes after it read it, of length EMBED_NORM."""
    reference, mark = references[index], marks_of(references)[index]
    vector = to_length(reference.embedding, EMBED_NORM, f"embedding of {mark}", "Check the node that made it.")
    return Embedding(vector, origin=REFERENCE)


def blank_picture(references: References, size: int) -> Tensor:
    """(1, H, W, 3) grey, as large as the first picture of the references, or ``size`` x ``size`` without one."""
    height, width = next((r.image.shape[:2] for r in references if r.image is not None), (size, size))
    return torch.full((1, height, width, 3), BLANK_GREY)


def describe(references: References, retrieval: Retrieval, base: Embedding | None = None) -> str:
    """The similarities, one reference a line, the chosen one marked."""
    if retrieval.index is None:
        null = base is None or base.is_null
        return f"{'<base_null>: no base picture' if null else 'no references are connected'}, painted from noise"
    lines = []
    for index, (mark, similarity) in enumerate(zip(marks_of(references), retrieval.similarities, strict=True)):
        lines.append(f"{'→' if index == retrieval.index else '  '} {mark}  {float(similarity):.3f}")
    return "\n".join(lines)


def require_same_chain(base: Embedding, references: References) -> None:
    """ValueError where the LLM got other references: its choice is a place in its own chain. Further ones behind them
    are fine."""
    if base.is_null or base.chain is None:
        return
    if references and not base.chain:
        raise ValueError(f"Base Retrieval got {_counted(len(references))}, the LLM none. Connect the chain to both.")
    for place, seen in enumerate(base.chain):
        if place < len(references) and _same(seen, references[place]):
            continue
        theirs = marks_of(base.chain)
        here = marks_of(references)[place] if place < len(references) else "nothing"
        other = f"another {here}" if here == theirs[place] else here
        raise ValueError(
            f"Base Retrieval got other references than the LLM: {_counted(len(references))}, the LLM "
            f"{_counted(len(base.chain))}; number {place + 1} is {other} here and {theirs[place]} there. Connect the "
            "same chain to both."
        )


def _same(one: Reference, other: Reference) -> bool:
    return one is other or (one.modality == other.modality and torch.equal(one.embedding, other.embedding))


def _counted(references: int) -> str:
    return f"{references} reference{'' if references == 1 else 's'}"


def _first_picture(references: References) -> Retrieval:
    """Without a prediction there is nothing to compare with; the similarities are those to the chosen reference
    itself."""
    if not references:
        raise ValueError("Base Retrieval got no references. Connect a Load Image Embedding node.")
    index = next((i for i, reference in enumerate(references) if reference.modality == "image"), 0)
    return retrieve_base(references, references[index].embedding, (index,))
