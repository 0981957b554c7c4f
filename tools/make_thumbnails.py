"""Draws workflows/*.jpg from real results of the workflows: source, result, references, instruction. Workflows for the
published weights are not run: instead of a result, their thumbnails name the networks.

Run it after the miniature or a workflow has changed: python tools/make_thumbnails.py [NAME ...]
"""

import sys
import tempfile
import textwrap
from pathlib import Path

import comfy_server
import matplotlib
import numpy as np
import workspace
from cli_runner import api_format
from comfyui_client.client import Client
from comfyui_client.graphs import nodes_of, workflow_files
from contact_sheet import FLOOR_DB, read_sound, spectrogram
from PIL import Image, ImageDraw, ImageFont

INPUTS = workspace.ROOT / "workflows" / "inputs"
SIDE, GAP, QUALITY = 512, 12, 90  # the page shows thumbnails as squares
HALF = (SIDE - 3 * GAP) // 2
STRIP = 150  # height of the row with sounds, further pictures and texts
CAPTION = 44  # height of the instruction below a grid
SYSTEMS = ("InstructAny2Pix", "InstructPix2Pix")  # in the order in which the workflow of both saves its results
GROUND, INK, LINE = "#262229", "#f4efe6", 34  # LINE: letters
PROMISES = {  # what a workflow that needs downloads says in the place of a result
    "published_edit": "SDXL with the published weights",
    "published_edit_lcm": "SDXL with the published weights, in 8 steps: LCM",
    "published_edit_refiner": "SDXL with the published weights, then its refiner",
}
FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def picture_tile(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture as large as it fits, on the ground. Scaled smoothly: a picture's pixels rarely go evenly into the
    tile."""
    picture = show_mask(picture)
    scale = min(width / picture.width, height / picture.height)
    tile = Image.new("RGB", (width, height), GROUND)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    tile.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return tile


def show_mask(picture: Image.Image) -> Image.Image:
    """What is see-through, and so under the mask, hatched."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    rows, columns = np.indices((picture.height, picture.width))
    colors = np.asarray(picture, dtype=np.float32)
    hatched = (colors[..., 3] < 128) & ((rows + columns) % 8 < 3)
    return Image.fromarray(np.where(hatched[..., None], 0.35 * colors[..., :3] + 160, colors[..., :3]).astype(np.uint8))


def sound_tile(path: Path, width: int, height: int) -> Image.Image:
    """The sound's spectrogram, low frequencies below."""
    loudness = 1 - spectrogram(read_sound(path))[::-1] / FLOOR_DB
    return Image.fromarray(matplotlib.colormaps["magma"](loudness, bytes=True)).convert("RGB").resize((width, height))


def text_tile(text: str, width: int, height: int, letters: int, size: int) -> Image.Image:
    tile = Image.new("RGB", (width, height), GROUND)
    lines = "\n".join(textwrap.wrap(text, letters))
    font = ImageFont.truetype(FONT, size)
    ImageDraw.Draw(tile).multiline_text(
        (width / 2, height / 2), lines, INK, font, anchor="mm", align="center", spacing=6
    )
    return tile


def reference_tile(kind: str, content: str, width: int) -> Image.Image:
    if kind == "image":
        return picture_tile(Image.open(INPUTS / content), width, STRIP)
    if kind == "audio":
        return sound_tile(INPUTS / content, width, STRIP)
    return text_tile(f"“{content}”", width, STRIP, LINE // 2, 22)


def references(graph: dict) -> list[tuple[str, str]]:
    """(kind, file or text) of every reference, in the order of the nodes; words that come from another node are asked
    for."""
    kinds = (("LoadImage", "image"), ("LoadAudio", "audio"), ("Any2PixTextEmbedding", "text"))
    found = [(kind, graph[node]["inputs"][kind]) for class_type, kind in kinds for node in nodes_of(graph, class_type)]
    return [(kind, content) for kind, content in found if isinstance(content, str)]


def promise_tile(text: str) -> Image.Image:
    """An empty frame with the text in it, where a result would be."""
    tile = text_tile(text, HALF, HALF, LINE // 2 - 3, 24)
    ImageDraw.Draw(tile).rounded_rectangle((1, 1, HALF - 2, HALF - 2), radius=16, outline=INK, width=3)
    return tile


def as_pictures(results: list[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray((result * 255).round().astype(np.uint8)) for result in results]


def instruction_of(graph: dict) -> str | None:
    """What is asked for, in the words that the artist writes; None where nothing is."""
    widgets = (("PrimitiveStringMultiline", "value"), ("Any2PixInstruct", "instruction"), ("CLIPTextEncode", "text"))
    texts = (graph[node]["inputs"][widget] for kind, widget in widgets for node in nodes_of(graph, kind))
    return next((text for text in texts if text and isinstance(text, str)), None)


def thumbnail(graph: dict, pictures: list[Image.Image]) -> Image.Image:
    """graph: what ran, API format. pictures: what it gave; where no picture is edited, two of them are shown."""
    brought, asked = references(graph), instruction_of(graph)
    sheet = Image.new("RGB", (SIDE, SIDE), GROUND)
    top = GAP
    if nodes_of(graph, "Any2PixLabelledGrid"):
        sheet.paste(picture_tile(pictures[0], SIDE - 2 * GAP, SIDE - 2 * GAP - CAPTION), (GAP, top))
        top = SIDE - GAP - CAPTION
    else:
        two_results = len(pictures) == 2 and asked
        if brought[0][0] == "image" and not two_results:
            pictures = [Image.open(INPUTS / brought.pop(0)[1]), pictures[0]]
        for index, picture in enumerate(pictures[:2]):
            sheet.paste(picture_tile(picture, HALF, HALF), (GAP + index * (HALF + GAP), top))
        top += HALF + GAP
        strip = [(reference_tile, reference) for reference in brought]
        if two_results:
            strip = [(name_tile, (SYSTEMS[0],)), *strip, (name_tile, (SYSTEMS[1],))]
        width = (SIDE - (len(strip) + 1) * GAP) // max(len(strip), 1)
        for index, (draw, content) in enumerate(strip):
            sheet.paste(draw(*content, width), (GAP + index * (width + GAP), top))
        top += (STRIP + GAP) if strip else 0
        if asked and not two_results:
            draw_arrow(sheet)
    size = 22 if SIDE - top < STRIP else 34
    sheet.paste(text_tile(asked or "from a sound to pictures", SIDE, SIDE - top, LINE * 22 // size, size), (0, top))
    return sheet


def name_tile(name: str, width: int) -> Image.Image:
    """Whose result stands above."""
    return text_tile(name, width, STRIP, LINE, 16)


def draw_arrow(sheet: Image.Image) -> None:
    """From the source to the result."""
    x, y, reach = SIDE / 2, GAP + HALF / 2, 16
    draw = ImageDraw.Draw(sheet)
    draw.ellipse((x - reach - 6, y - reach - 6, x + reach + 6, y + reach + 6), fill=GROUND)
    draw.polygon([(x - reach / 2, y - reach), (x + reach, y), (x - reach / 2, y + reach)], fill=INK)


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, comfy_server.ComfyServer(workspace.make_base(Path(folder))) as server:
        client = Client(server.url)
        for path in workflow_files():
            if wanted and path.stem not in wanted:
                continue
            graph = api_format(server, path)
            if path.stem in PROMISES:
                pictures = [promise_tile(PROMISES[path.stem])]
            else:
                pictures = as_pictures(client.pictures(client.run(graph)))
            thumbnail(graph, pictures).save(path.with_suffix(".jpg"), quality=QUALITY)


if __name__ == "__main__":
    main(sys.argv[1:])
