"""The loaders of our own networks."""

from pathlib import Path

import comfy.sd1_clip
from comfy_api.latest import io, ui
from tokenizers import Tokenizer

from ..loading.adapter import load_adapter
from ..loading.imagebind import load_imagebind
from ..loading.llm import load_llm
from ..loading.prior import load_prior
from ..loading.text_encoder import load_clip_tokenizer
from .host.choices import require_choice
from .host.folders import MINIATURE, check_name, find_weights, list_names
from .host.host_options import where_known
from .host.networks import cancellable_progress, describe, read_network
from .host.precision import PRECISIONS
from .sockets import CATEGORY, AdapterSocket, ImageBindSocket, LLMSocket, PriorSocket

LOADERS = f"{CATEGORY}/loaders"
AS_TRAINED = "auto"
MERGES = [AS_TRAINED, "add", "substitute"]


def _name_input(kind: str, where: str) -> io.Combo.Input:
    return io.Combo.Input(
        "name",
        options=list_names(kind),
        tooltip="'miniature' is the small network included in the pack; it runs on any computer. Put others in "
        f"{where}.",
    )


def _precision_input(sizes: str) -> io.Combo.Input:
    return io.Combo.Input(
        "precision",
        options=PRECISIONS,
        default="auto",
        optional=True,  # graphs in API format made before there was this widget still run
        tooltip="Precision in which the weights are stored. auto: half precision on a GPU that supports it, "
        f"otherwise fp32. fp8 needs half the memory of half precision, with a small loss of accuracy. {sizes}",
    )


def clip_tokenizer() -> Tokenizer:
    """CLIP's tokenizer, which ComfyUI ships for Stable Diffusion: the published ImageBind and prior come without
    one."""
    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return load_clip_tokenizer(folder)


def _tokenizer_for(name: str) -> Tokenizer | None:
    """What is handed to a loader for files that bring no tokenizer; the miniature brings its own."""
    return None if name == MINIATURE else clip_tokenizer()


class LoadImageBind(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadImageBind",
            display_name="Load ImageBind",
            category=LOADERS,
            description="Loads ImageBind, which turns pictures, sounds and texts into embeddings of one shared space.",
            **where_known(
                io.Schema,
                search_aliases=["imagebind", "sound to image", "audio encoder"],
                has_intermediate_output=True,
            ),
            inputs=[
                _name_input("imagebind", "models/any2pix/imagebind (imagebind_huge.pth)"),
                _precision_input("The published ImageBind takes 2.1 GB in half precision."),
            ],
            outputs=[ImageBindSocket.Output(display_name="imagebind", tooltip="For the Load ... Embedding nodes.")],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("imagebind", name)

    @classmethod
    def execute(cls, name: str, precision: str = "auto") -> io.NodeOutput:
        require_choice("precision of Load ImageBind", precision, PRECISIONS)
        path = find_weights("imagebind", name)
        network = read_network(
            load_imagebind, path, precision, tokenizer=_tokenizer_for(name), progress=cancellable_progress()
        )
        return io.NodeOutput(network, ui=ui.PreviewText(describe(network, path)))


class LoadLLM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadLLM",
            display_name="Load Multimodal LLM",
            category=LOADERS,
            description="Loads the language model for instructions that contain pictures and sounds.",
            **where_known(
                io.Schema,
                search_aliases=["multimodal llm", "vicuna", "instruction model"],
                has_intermediate_output=True,
            ),
            inputs=[
                _name_input("llm", "models/any2pix/llm (the folder llm-retrained)"),
                _precision_input("The published 7B model takes 27 GB in fp32, 13.6 GB in bf16 or fp16, 7.1 GB in fp8."),
                io.Combo.Input(
                    "merge",
                    options=MERGES,
                    default=AS_TRAINED,
                    optional=True,
                    tooltip="How the embedding of a reference enters the sentence. auto: as these weights were "
                    "trained. add: added to the embedding of its word, as in the released code. substitute: replaces "
                    "the embedding of its word, as in the paper.",
                    **where_known(io.Combo.Input, advanced=True),
                ),
            ],
            outputs=[LLMSocket.Output(display_name="llm", tooltip="For Multimodal Instruction LLM.")],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("llm", name)

    @classmethod
    def execute(cls, name: str, precision: str = "auto", merge: str = AS_TRAINED) -> io.NodeOutput:
        require_choice("precision of Load Multimodal LLM", precision, PRECISIONS)
        require_choice("merge of Load Multimodal LLM", merge, MERGES)
        path = find_weights("llm", name)
        network = read_network(
            load_llm, path, precision, merge=None if merge == AS_TRAINED else merge, progress=cancellable_progress()
        )
        shown = describe(network, path, f"merge: {network.module.dims.merge}")
        return io.NodeOutput(network, ui=ui.PreviewText(shown))


class LoadPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadPrior",
            display_name="Load Refinement Prior",
            category=LOADERS,
            description="Loads the prior that turns a predicted embedding, or that of a sound, into the embedding of "
            "a clean picture.",
            **where_known(io.Schema, search_aliases=["diffusion prior", "unclip prior"], has_intermediate_output=True),
            inputs=[
                _name_input("prior", "models/any2pix/prior (prior/model.bin of the release)"),
                _precision_input("The published prior takes 1.4 GB in half precision."),
            ],
            outputs=[PriorSocket.Output(display_name="prior", tooltip="For Refinement Prior.")],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("prior", name)

    @classmethod
    def execute(cls, name: str, precision: str = "auto") -> io.NodeOutput:
        require_choice("precision of Load Refinement Prior", precision, PRECISIONS)
        path = find_weights("prior", name)
        network = read_network(
            load_prior, path, precision, tokenizer=_tokenizer_for(name), progress=cancellable_progress()
        )
        return io.NodeOutput(network, ui=ui.PreviewText(describe(network, path)))


class LoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadAdapter",
            display_name="Load Embedding Adapter",
            category=LOADERS,
            description="Loads the adapter that turns an embedding into the conditioning of the diffusion model.",
            **where_known(
                io.Schema,
                search_aliases=["ip adapter", "image prompt adapter", "unclip"],
                has_intermediate_output=True,
            ),
            inputs=[
                _name_input("adapter", "models/any2pix/adapter"),
                _precision_input("The published two-view adapter takes 0.7 GB in half precision."),
            ],
            outputs=[
                AdapterSocket.Output(display_name="adapter", tooltip="For Apply Embedding and SDXL Embedding Sampler.")
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("adapter", name)

    @classmethod
    def execute(cls, name: str, precision: str = "auto") -> io.NodeOutput:
        require_choice("precision of Load Embedding Adapter", precision, PRECISIONS)
        path = find_weights("adapter", name)
        network = read_network(load_adapter, path, precision)
        return io.NodeOutput(network, ui=ui.PreviewText(describe(network, path)))
