"""Pictures, sounds and texts -> references. The nodes are chained: each puts its references behind those it is
given."""

from collections.abc import Mapping
from typing import Any

import comfy.model_management as management
import torch
from comfy_api.latest import io
from torch import Tensor

from ..stages.encode import encode_audios, encode_images, encode_text, items_at_once, require_text
from ..stages.preprocess import CLIPS
from ..stages.types import Reference, References
from .host.host_options import where_known
from .host.identity import describe_origin
from .host.networks import Network, cancellable_progress, transformer_activations
from .pictures import read_pictures
from .sockets import CATEGORY, ImageBindSocket, ReferencesSocket
from .sound import read_audio

MEMORY_SHARE = 4  # a batch is encoded in passes that take at most one such part of the device's memory
# Whatever the weights are kept in: an embedding takes a moment and steers everything after it.
COMPUTE_DTYPE = torch.float32
UNCONNECTED: Any = object()  # not None: that is what a film without a sound track gives, and an error


def _references_input() -> io.Input:
    return ReferencesSocket.Input(
        "references",
        optional=True,
        tooltip="Earlier references. Chain the nodes to use several; their order sets the numbers in the instruction.",
    )


def _references_output() -> io.Output:
    return ReferencesSocket.Output(
        display_name="references",
        tooltip="All references so far. For the LLM, for Base Retrieval, or for the next node of the chain.",
    )


class ImageEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixImageEmbedding",
            display_name="Load Image Embedding",
            category=f"{CATEGORY}/references",
            description="Adds pictures to the references. The instruction names them [image1], [image2], ... in the "
            "order of the chain.",
            **where_known(io.Schema, search_aliases=["image reference", "image prompt"]),
            inputs=[
                ImageBindSocket.Input("imagebind", tooltip="From Load ImageBind."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="A picture of any size. Each picture of a batch becomes one reference. If not connected, "
                    "the references pass through unchanged.",
                ),
                _references_input(),
            ],
            outputs=[_references_output()],
        )

    @classmethod
    def execute(cls, imagebind: Network, image: Tensor = UNCONNECTED, references: References = ()) -> io.NodeOutput:
        if image is UNCONNECTED:
            return _passed_on(references, "picture to image of Load Image Embedding")
        pictures = read_pictures(image, "image of Load Image Embedding")
        dims = imagebind.module.dims
        network, at_once = _load(imagebind, len(pictures), 1 + dims.image_patches, dims.vision_width)
        embeddings = encode_images(network, pictures, imagebind.device, COMPUTE_DTYPE, at_once, cancellable_progress())
        origin = describe_origin(network)
        added = (
            _reference(embedding, "image", origin, picture)
            for embedding, picture in zip(embeddings, pictures, strict=True)
        )
        return io.NodeOutput((*references, *added))


class AudioEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixAudioEmbedding",
            display_name="Load Audio Embedding",
            category=f"{CATEGORY}/references",
            description="Adds sounds to the references. The instruction names them [audio1], [audio2], ... in the "
            "order of the chain.",
            **where_known(
                io.Schema, search_aliases=["audio reference", "sound reference", "sound to image", "audio edit"]
            ),
            inputs=[
                ImageBindSocket.Input("imagebind", tooltip="From Load ImageBind."),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="A sound of any length and rate, mono or stereo. Three clips of 2 seconds are used: from "
                    "its start, middle and end. Each sound of a batch becomes one reference. If not connected, the "
                    "references pass through unchanged.",
                ),
                _references_input(),
            ],
            outputs=[_references_output()],
        )

    @classmethod
    def execute(
        cls, imagebind: Network, audio: Mapping[str, Any] | None = UNCONNECTED, references: References = ()
    ) -> io.NodeOutput:
        if audio is UNCONNECTED:
            return _passed_on(references, "sound to audio of Load Audio Embedding")
        sounds, rate = read_audio(audio)
        dims = imagebind.module.dims
        network, at_once = _load(imagebind, len(sounds), CLIPS * (1 + dims.audio_patches), dims.audio_width)
        where = (imagebind.device, COMPUTE_DTYPE)
        embeddings = encode_audios(network, sounds, rate, *where, at_once, cancellable_progress())
        origin = describe_origin(network)
        return io.NodeOutput((*references, *(_reference(embedding, "audio", origin) for embedding in embeddings)))


class TextEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixTextEmbedding",
            display_name="Load Text Embedding",
            category=f"{CATEGORY}/references",
            description="Adds a text to the references. The instruction names it [text1], [text2], ... in the order "
            "of the chain.",
            **where_known(io.Schema, search_aliases=["text reference", "text embedding"]),
            inputs=[
                ImageBindSocket.Input("imagebind", tooltip="From Load ImageBind."),
                io.String.Input(
                    "text", multiline=True, default="", tooltip="What to refer to, in a few words: a red balloon."
                ),
                _references_input(),
            ],
            outputs=[_references_output()],
        )

    @classmethod
    def execute(cls, imagebind: Network, text: str, references: References = ()) -> io.NodeOutput:
        require_text(text)
        dims = imagebind.module.dims
        network = imagebind.load(transformer_activations(dims.text_context, dims.text_width))
        embedding = encode_text(network, text, imagebind.device, COMPUTE_DTYPE)
        return io.NodeOutput((*references, _reference(embedding, "text", describe_origin(network))))


def _passed_on(references: References, wanted: str) -> io.NodeOutput:
    """What a node gives that nothing is connected to, as inside a blueprint with a free socket. ValueError where there
    is nothing."""
    if not references:
        raise ValueError(f"There is no reference yet. Connect a {wanted}.")
    return io.NodeOutput(tuple(references))


def _load(imagebind: Network, items: int, tokens: int, width: int) -> tuple[Any, int]:
    """The network, with room made for the items of one pass, ``tokens`` each; and how many that are."""
    each = transformer_activations(tokens, width)
    room = management.get_total_memory(imagebind.device) // MEMORY_SHARE
    at_once = max(1, min(items, items_at_once(imagebind.device), room // each))
    return imagebind.load(at_once * each), at_once


def _reference(embedding: Tensor, modality: str, origin: str, image: Tensor | None = None) -> Reference:
    return Reference(embedding.detach().float().cpu(), modality, image=image, origin=origin)
