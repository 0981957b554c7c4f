"""The loaders of our own networks."""

from pathlib import Path

import comfy.sd1_clip
from comfy_api.latest import io
from tokenizers import Tokenizer
from transformers import CLIPTokenizerFast

from ..loading.adapter import load_adapter
from ..loading.imagebind import load_imagebind
from ..loading.llm import load_llm
from ..loading.prior import load_prior
from .folders import MINIATURE, check_name, find_weights, list_names
from .networks import OPERATIONS, choose_dtype, wrap_network
from .sockets import CATEGORY, AdapterSocket, ImageBindSocket, LLMSocket, PriorSocket

LOADERS = f"{CATEGORY}/loaders"
PRECISIONS = ["auto", "fp32", "bf16", "fp16"]


def _name_input(kind: str, where: str) -> io.Combo.Input:
    return io.Combo.Input(
        "name",
        options=list_names(kind),
        tooltip=f"'miniature' is the small network that comes with the pack and runs anywhere. Others lie in {where}.",
    )


def clip_tokenizer() -> Tokenizer:
    """CLIP's tokenizer, which ComfyUI ships for Stable Diffusion: the published ImageBind and prior come without one."""
    folder = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
    return CLIPTokenizerFast.from_pretrained(folder).backend_tokenizer


class LoadImageBind(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadImageBind",
            display_name="Load ImageBind",
            category=LOADERS,
            description="Loads ImageBind, which turns pictures, sounds and texts into embeddings of one shared space.",
            inputs=[_name_input("imagebind", "models/any2pix/imagebind (imagebind_huge.pth)")],
            outputs=[ImageBindSocket.Output(display_name="imagebind", tooltip="For the Load ... Embedding nodes.")],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("imagebind", name)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        path = find_weights("imagebind", name)
        tokenizer = None if name == MINIATURE else clip_tokenizer()
        network = load_imagebind(path, OPERATIONS, dtype=choose_dtype(), tokenizer=tokenizer)
        return io.NodeOutput(wrap_network(network))


class LoadLLM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadLLM",
            display_name="Load Multimodal LLM",
            category=LOADERS,
            description="Loads the language model that reads an instruction with pictures and sounds in it.",
            inputs=[
                _name_input("llm", "models/any2pix/llm (the folder llm-retrained)"),
                io.Combo.Input(
                    "precision",
                    options=PRECISIONS,
                    default="auto",
                    tooltip="How the weights are kept. auto: half precision on a GPU that computes in it, else fp32. "
                    "The published 7B model takes 13 GB in bf16 or fp16 and 27 GB in fp32.",
                ),
            ],
            outputs=[LLMSocket.Output(display_name="llm", tooltip="For Multimodal Instruction LLM.")],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("llm", name)

    @classmethod
    def execute(cls, name: str, precision: str) -> io.NodeOutput:
        return io.NodeOutput(
            wrap_network(load_llm(find_weights("llm", name), OPERATIONS, dtype=choose_dtype(precision)))
        )


class LoadPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadPrior",
            display_name="Load Refinement Prior",
            category=LOADERS,
            description="Loads the prior that turns a predicted or heard embedding into that of a clean picture.",
            inputs=[_name_input("prior", "models/any2pix/prior (prior/model.bin of the release)")],
            outputs=[PriorSocket.Output(display_name="prior", tooltip="For Refinement Prior.")],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("prior", name)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        path = find_weights("prior", name)
        tokenizer = None if name == MINIATURE else clip_tokenizer()
        return io.NodeOutput(wrap_network(load_prior(path, OPERATIONS, dtype=choose_dtype(), tokenizer=tokenizer)))


class LoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadAdapter",
            display_name="Load Embedding Adapter",
            category=LOADERS,
            description="Loads the adapter that turns an embedding into the conditioning of the diffusion model.",
            inputs=[_name_input("adapter", "models/any2pix/adapter")],
            outputs=[
                AdapterSocket.Output(display_name="adapter", tooltip="For Apply Embedding and SDXL Embedding Sampler.")
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("adapter", name)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        return io.NodeOutput(
            wrap_network(load_adapter(find_weights("adapter", name), OPERATIONS))
        )  # small: kept in fp32
