"""Pictures, sounds and texts -> references. The nodes are chained: each puts its references behind those it is given."""

from collections.abc import Callable, Sequence
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..stages.encode import encode_audio, encode_image, encode_text
from ..stages.types import Reference, References
from .networks import Network, transformer_activations
from .sockets import CATEGORY, ImageBindSocket, ReferencesSocket

AUDIO_CLIPS = 3  # clips of one sound that ImageBind hears at a time
COMPUTE_DTYPE = (
    torch.float32
)  # whatever the weights are kept in: an embedding takes a moment and steers everything after it


def _references_input() -> io.Input:
    return ReferencesSocket.Input(
        "references",
        optional=True,
        tooltip="References that come before these. Chain the nodes to use several; the order gives the numbers in "
        "the instruction.",
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
            inputs=[
                ImageBindSocket.Input("imagebind", tooltip="From Load ImageBind."),
                io.Image.Input(
                    "image", tooltip="A picture of any size. Each picture of a batch becomes a reference of its own."
                ),
                _references_input(),
            ],
            outputs=[_references_output()],
        )

    @classmethod
    def execute(cls, imagebind: Network, image: Tensor, references: References = ()) -> io.NodeOutput:
        dims = imagebind.module.dims
        network = imagebind.load(transformer_activations(1 + dims.image_patches, dims.vision_width))

        def encode(picture: Tensor) -> Reference:
            embedding = encode_image(network, picture, imagebind.device, COMPUTE_DTYPE)
            return _reference(embedding, "image", image=_visible(picture))

        return io.NodeOutput(_append(references, image, encode))


class AudioEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixAudioEmbedding",
            display_name="Load Audio Embedding",
            category=f"{CATEGORY}/references",
            description="Adds sounds to the references. The instruction names them [audio1], [audio2], ... in the "
            "order of the chain.",
            inputs=[
                ImageBindSocket.Input("imagebind", tooltip="From Load ImageBind."),
                io.Audio.Input(
                    "audio",
                    tooltip="A sound of any length and rate, mono or stereo. Three clips of 2 seconds are heard: "
                    "its start, middle and end. "
                    "Each sound of a batch becomes a reference of its own.",
                ),
                _references_input(),
            ],
            outputs=[_references_output()],
        )

    @classmethod
    def execute(cls, imagebind: Network, audio: dict[str, Any], references: References = ()) -> io.NodeOutput:
        dims = imagebind.module.dims
        network = imagebind.load(transformer_activations(AUDIO_CLIPS * (1 + dims.audio_patches), dims.audio_width))
        rate = audio["sample_rate"]

        def encode(waveform: Tensor) -> Reference:
            return _reference(encode_audio(network, waveform, rate, imagebind.device, COMPUTE_DTYPE), "audio")

        return io.NodeOutput(_append(references, audio["waveform"], encode))


class TextEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixTextEmbedding",
            display_name="Load Text Embedding",
            category=f"{CATEGORY}/references",
            description="Adds a text to the references. The instruction names it [text1], [text2], ... in the order "
            "of the chain.",
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
        dims = imagebind.module.dims
        network = imagebind.load(transformer_activations(dims.text_context, dims.text_width))
        embedding = encode_text(network, text, imagebind.device, COMPUTE_DTYPE)
        return io.NodeOutput((*references, _reference(embedding, "text")))


def _append(references: References, batch: Sequence[Tensor], encode: Callable[[Tensor], Reference]) -> References:
    """``references`` and one more for each item of the batch, with a progress bar."""
    if len(batch) == 0:
        raise ValueError(
            "The batch is empty: there is nothing to turn into a reference. Connect at least one picture or sound."
        )
    progress = comfy.utils.ProgressBar(len(batch))
    added = []
    for item in batch:
        added.append(encode(item))
        progress.update(1)
    return (*references, *added)


def _reference(embedding: Tensor, modality: str, image: Tensor | None = None) -> Reference:
    return Reference(embedding.detach().float().cpu(), modality, image=image)


def _visible(picture: Tensor) -> Tensor:
    """(H, W, C) as connected -> (H, W, 3) RGB on the CPU, as it is seen: a grey one in three channels, a cut-out one on white."""
    picture = picture.float().cpu()
    if picture.shape[-1] == 1:
        return picture.expand(-1, -1, 3)
    if picture.shape[-1] == 4:
        return picture[..., :3] * picture[..., 3:] + (1 - picture[..., 3:])
    return picture
