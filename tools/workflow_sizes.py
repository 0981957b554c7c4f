"""How much room a node takes on the page: it draws nodes in two ways, and they differ. All numbers are pixels at zoom
1."""

import math
import re

NODE_TITLE = 30
WIDTH = 260
WIDTHS = {
    "Any2PixInstruct": 380,
    "Any2PixLoadLLM": 380,
    "PreviewImage": 520,
    "CLIPTextEncode": 300,
    "StringConcatenate": 300,
    "StringReplace": 300,
    "PrimitiveStringMultiline": 300,
}
WIDTHS |= {"InstructAny2Pix Edit": 340}
WIDTHS |= {"CheckpointLoaderSimple": 300, "LoraLoaderModelOnly": 300}
WIDTHS |= dict.fromkeys(("Any2PixImageEmbedding", "Any2PixAudioEmbedding", "Any2PixTextEmbedding"), 300)
# Nodes that show a picture, a player or a text need more room than their widgets; at least what the page will ask for
# once they show it, or a building would depend on how fast a picture came.
HEIGHTS = {
    "LoadImage": 322,
    "LoadAudio": 140,
    "SaveImage": 302,
    "PreviewImage": 320,
    "PreviewAny": 120,
    "CLIPTextEncode": 102,
    "PrimitiveStringMultiline": 102,
    "Any2PixInstruct": 400,
    "Any2PixRetrieveBase": 240,
    "Any2PixPickReference": 200,
    "Any2PixTextEmbedding": 146,
}
# What a node grows to when it is drawn with Vue nodes (front end 1.58.1), with the pack's badge below it, and a loader
# with the line that says that its file is missing.
VUE_HEIGHTS = {
    "Any2PixApplyEmbedding": 318,
    "Any2PixAudioEmbedding": 98,
    "Any2PixDDIMInvert": 306,
    "Any2PixGridValues": 282,
    "Any2PixImageEmbedding": 98,
    "Any2PixInstruct": 400,
    "Any2PixInstructPix2PixGuider": 174,
    "Any2PixLabelledGrid": 78,
    "Any2PixLoadAdapter": 238,
    "Any2PixLoadDiffusion": 258,
    "Any2PixLoadImageBind": 238,
    "Any2PixLoadInstructPix2Pix": 278,
    "Any2PixLoadLLM": 266,
    "Any2PixLoadPrior": 238,
    "Any2PixMixEmbeddings": 238,
    "Any2PixNoiseMix": 162,
    "Any2PixRefine": 198,
    "Any2PixRetrieveBase": 240,
    "Any2PixSampler": 422,
    "BasicScheduler": 118,
    "Canny": 90,
    "CheckpointLoaderSimple": 126,
    "ControlNetApplyAdvanced": 198,
    "ControlNetLoader": 90,
    "EmptyLatentImage": 118,
    "InstructAny2Pix Edit": 340,
    "ImageCompositeMasked": 158,
    "ImageScaleToTotalPixels": 122,  # with resolution_steps, which newer hosts have
    "ImageStitch": 166,
    "KSampler": 290,
    "KSamplerAdvanced": 346,
    "KSamplerSelect": 62,
    "LoadImage": 436,
    "LoraLoaderModelOnly": 114,
    "ModelSamplingDiscrete": 90,
    "SamplerCustomAdvanced": 114,
    "SetLatentNoiseMask": 54,
    "StringConcatenate": 180,
    "StringReplace": 210,
    "VAEDecode": 54,
    "VAEEncode": 54,
}
# A note drawn with Vue nodes, where it is taller: letters to a line, the height of a line, and what else takes height.
NOTE_WIDTH, NOTE_LETTERS, NOTE_LINE, NOTE_MARGIN = 440, 84, 13, 44
NOTE_GROWTH = 1.37  # other front ends set it with wider lines
NOTE_EMPTY, NOTE_HEADING, NOTE_ITEM, NOTE_INDENT = 7, 12, 12, 6
UNSEEN = re.compile(r"\]\([^)]*\)|[*\[]|^#+ |^- |^\d+\. ")  # Markdown that the page does not write
ITEM = re.compile(r"- |\d+\. ")


def width(class_type: str) -> int:
    return WIDTHS.get(class_type, WIDTH)


def height(class_type: str, asked: float) -> float:
    """What the file gives the node. `asked`: what the page asks for its widgets."""
    return max(asked, HEIGHTS.get(class_type, 0))


def room(class_type: str, asked: float) -> float:
    """What the node takes at most, drawn either way."""
    return max(height(class_type, asked), VUE_HEIGHTS.get(class_type, 0))


def note_height(text: str) -> int:
    """As tall as its text."""
    total = NOTE_MARGIN
    for line in text.strip().splitlines():
        item = bool(ITEM.match(line))
        lines = math.ceil(len(UNSEEN.sub("", line)) / (NOTE_LETTERS - NOTE_INDENT * item))
        total += NOTE_LINE * lines + NOTE_ITEM * item + NOTE_HEADING * line.startswith("#") + NOTE_EMPTY * (not lines)
    return total
