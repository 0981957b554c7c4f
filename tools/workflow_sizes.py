"""How much room a node takes on the page: it draws nodes in two ways, and they differ. All numbers are pixels at zoom
1."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

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
WIDTHS |= dict.fromkeys(("CheckpointLoaderSimple", "LoraLoaderModelOnly", "Any2PixPickReference"), 300)
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
# What a node grows to when it is drawn with Vue nodes (front ends 1.45.21, where most are largest, and 1.58.1), with the
# pack's badge below it, and a loader with the line that says that its file is missing.
VUE_HEIGHTS = {
    "Any2PixApplyEmbedding": 318,
    "Any2PixAudioEmbedding": 120,
    "Any2PixDDIMInvert": 306,
    "Any2PixGridValues": 312,
    "Any2PixImageEmbedding": 120,
    "Any2PixInstruct": 428,
    "Any2PixInstructPix2PixGuider": 208,
    "Any2PixLabelledGrid": 96,
    "Any2PixLoadAdapter": 264,
    "Any2PixLoadDiffusion": 260,
    "Any2PixLoadImageBind": 264,
    "Any2PixLoadInstructPix2Pix": 284,
    "Any2PixLoadLLM": 266,
    "Any2PixLoadPrior": 264,
    "Any2PixMixEmbeddings": 276,
    "Any2PixNoiseMix": 192,
    "Any2PixPickReference": 232,
    "Any2PixRefine": 228,
    "Any2PixRetrieveBase": 248,
    "Any2PixSampler": 460,
    "Any2PixTextEmbedding": 164,
    "BasicScheduler": 144,
    "CLIPTextEncode": 116,
    "Canny": 112,
    "CheckpointLoaderSimple": 156,
    "ControlNetApplyAdvanced": 240,
    "ControlNetLoader": 108,
    "EmptyLatentImage": 144,
    "ImageCompositeMasked": 188,
    "ImageScaleToTotalPixels": 140,  # with resolution_steps, which newer hosts have
    "ImageStitch": 166,
    "InstructAny2Pix Edit": 340,
    "KSampler": 312,
    "KSamplerAdvanced": 346,
    "KSamplerSelect": 80,
    "LoadAudio": 152,
    "LoadImage": 436,
    "LoraLoaderModelOnly": 140,
    "ModelSamplingDiscrete": 108,
    "PreviewAny": 152,
    "PrimitiveStringMultiline": 116,
    "SamplerCustomAdvanced": 144,
    "SetLatentNoiseMask": 72,
    "StringConcatenate": 220,
    "StringReplace": 252,
    "VAEDecode": 72,
    "VAEEncode": 72,
}
NOTE_WIDTH = 500
# A note as its file has it, so that front end 1.58.1 shows all of its text: letters to a line, the height of a line, and
# what else takes height.
NOTE_LETTERS, NOTE_LINE, NOTE_MARGIN = 96, 13, 44
NOTE_EMPTY, NOTE_HEADING, NOTE_ITEM, NOTE_INDENT = 7, 12, 12, 6
# The same note with the Vue nodes of front end 1.45.21, which set its text in larger type than any other: what stands
# beside the lines and above and below all of them, and the blocks of text.
NOTE_SIDES, NOTE_FRAME = 32, 28
UNSEEN = re.compile(r"\]\([^)]*\)|[*\[]|^#+ |^- |^\d+\. ")  # Markdown that the page does not write
ITEM = re.compile(r"- |\d+\. ")


@dataclass(frozen=True)
class Block:
    """Height of a line, width of a letter; `above`, `below`: the least distance to the blocks beside it; `indent`: left
    of it."""

    line: float
    letter: float
    above: float
    below: float
    indent: float = 0.0


TITLE, HEADING = Block(35.2, 11.05, 32, 16), Block(25.6, 8.04, 32, 16)
PARAGRAPH, LISTED = Block(22.4, 7.03, 0, 7), Block(22.4, 7.03, 8, 8, indent=32)


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


def note_room(text: str) -> int:
    """What a note takes at most, however it is drawn."""
    total, below = float(NOTE_FRAME), 0.0
    for place, (block, words) in enumerate(blocks(text)):
        lines = math.ceil(len(words) * block.letter / (NOTE_WIDTH - NOTE_SIDES - block.indent))
        total += max(below, block.above if place else 0) + lines * block.line
        below = block.below
    return max(math.ceil(total), note_height(text))


def blocks(text: str) -> Iterator[tuple[Block, str]]:
    """Headings, items of lists and paragraphs, without their marks; lines that follow each other run on."""
    open_block, words = None, ""
    for line in [*text.strip().splitlines(), ""]:
        marked = line.startswith("#") or ITEM.match(line)
        if open_block and (marked or not line or open_block in (TITLE, HEADING)):
            yield open_block, words
            open_block, words = None, ""
        if line:
            open_block = open_block or block_of(line)
            words = f"{words} {UNSEEN.sub('', line)}".strip()


def block_of(line: str) -> Block:
    if line.startswith("#"):
        return TITLE if line.startswith("# ") else HEADING
    return LISTED if ITEM.match(line) else PARAGRAPH
