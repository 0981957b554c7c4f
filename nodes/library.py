"""A reference library on disk, and one reference chosen by hand."""

from comfy_api.latest import io, ui

from ..stages.any2pix.marks import marks_of
from ..stages.any2pix.pick import pick_reference
from ..stages.library import pack_references, require_one_size, unpack_references
from ..stages.types import References
from .host.host_options import where_known
from .retrieve import SDXL_SIZE, blank_picture, embedding_of
from .saved import LoadingNode, SavingNode, describe_file
from .sockets import CATEGORY, EmbeddingSocket, ReferencesSocket

MOST_SHOWN = 40  # references on a node


class SaveReferences(SavingNode):
    KIND = "references"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.saver(
            ReferencesSocket.Input("references", tooltip="The chain to save: from the last Load ... Embedding node."),
            default="my references",
            search_aliases=["reference library", "save embedding", "export references"],
            node_id="Any2PixSaveReferences",
            display_name="Save References",
            category=f"{CATEGORY}/references",
            description="Saves a chain of references with their pictures, so that another workflow can use them "
            "without ImageBind.",
        )

    @classmethod
    def execute(cls, references: References, name: str, overwrite: bool) -> io.NodeOutput:
        return cls.keep("references", *pack_references(references), name, overwrite, shown=_describe(references))


class LoadReferences(LoadingNode):
    KIND = "references"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.loader(
            "Save References",
            inputs=[
                ReferencesSocket.Input(
                    "references",
                    optional=True,
                    tooltip="Earlier references. The order sets the numbers in the instruction.",
                ),
            ],
            outputs=[
                ReferencesSocket.Output(
                    display_name="references",
                    tooltip="All references so far. For the LLM, Base Retrieval, Pick Reference, or the next node of "
                    "the chain.",
                )
            ],
            search_aliases=["reference library", "load embedding", "import references"],
            node_id="Any2PixLoadReferences",
            display_name="Load References",
            category=f"{CATEGORY}/references",
            description="Loads saved references with their pictures. ImageBind is not needed.",
        )

    @classmethod
    def execute(cls, name: str, references: References = ()) -> io.NodeOutput:
        loaded, record, path = cls.read(name, unpack_references)
        chain = (*references, *loaded)
        require_one_size(chain, f"The references of {path.name} and those before them")
        origins = dict.fromkeys(reference.origin for reference in loaded if reference.origin)
        shown = [_describe(chain, first=len(references)), *origins, describe_file(path, record)]
        return io.NodeOutput(chain, ui=ui.PreviewText("\n".join(shown)))


class PickReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixPickReference",
            display_name="Pick Reference",
            category=f"{CATEGORY}/references",
            description="Picks one reference by hand, as the picture to edit or the content to paint, without a "
            "language model.",
            **where_known(
                io.Schema,
                search_aliases=["choose reference", "edit without llm", "select embedding"],
                has_intermediate_output=True,
            ),
            is_output_node=True,  # so that its text is sent to the page again when the node itself is cached
            inputs=[
                ReferencesSocket.Input("references", tooltip="A chain of references."),
                io.String.Input(
                    "mark",
                    default="image1",
                    tooltip="Which one: image1 is the first picture of the chain, audio2 the second sound, text1 the "
                    "first text. With brackets or without.",
                ),
            ],
            outputs=[
                EmbeddingSocket.Output(
                    display_name="embedding",
                    tooltip="Its embedding: for Refinement Prior, Embedding Mix, Apply Embedding or DDIM Invert's "
                    "base.",
                ),
                io.Image.Output(
                    display_name="image",
                    tooltip="Its picture, in its original size; a grey one if the reference is a sound or a text.",
                ),
            ],
        )

    @classmethod
    def execute(cls, references: References, mark: str) -> io.NodeOutput:
        index = pick_reference(references, mark)
        picked = references[index]
        image = blank_picture(references, SDXL_SIZE) if picked.image is None else picked.image[None]
        shown = ui.PreviewText(_describe(references, picked=index))
        return io.NodeOutput(embedding_of(references, index), image, ui=shown)


def _describe(references: References, first: int = 0, picked: int | None = None) -> str:
    """One reference a line, from ``first`` on: its mark, what it is, its label; an arrow at the ``picked`` one."""
    lines = []
    for index, (mark, reference) in enumerate(zip(marks_of(references), references, strict=True)):
        if index < first:
            continue
        size = "" if reference.image is None else "{1} x {0}".format(*reference.image.shape)
        arrow = "" if picked is None else "→ " if index == picked else "   "
        lines.append(f"{arrow}{'  '.join(word for word in (mark, size, reference.label) if word)}")
    more = len(lines) - MOST_SHOWN
    return "\n".join(lines[:MOST_SHOWN] + ([f"and {more} more"] if more > 0 else []))
