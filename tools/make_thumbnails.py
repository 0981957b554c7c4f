"""Draws workflows/*.jpg from what the workflows really give: source, result, what it was made with, instruction. Those for the
published weights cannot run here: in the place of their result stands what paints it.

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
from contact_sheet import FLOOR_DB, read_sound, spectrogram
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(workspace.ROOT / "tests" / "comfyui"))
from harness.client import Client
from harness.graphs import nodes_of, workflow_files

INPUTS = workspace.ROOT / "workflows" / "inputs"
SIDE, GAP, QUALITY = 512, 12, 90  # the page shows thumbnails as squares
HALF = (SIDE - 3 * GAP) // 2
STRIP = 150  # height of the row with sounds, further pictures and texts
GROUND, INK, LINE = "#262229", "#f4efe6", 34  # LINE: letters
PROMISES = {  # what a workflow that needs downloads says in the place of a result
    "published_edit": "SDXL with the published weights",
    "published_edit_lcm": "SDXL with the published weights, in 8 steps: LCM",
    "published_edit_refiner": "SDXL with the published weights, then its refiner",
}
FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def picture_tile(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture as large as it fits, its pixels kept crisp, on the ground."""
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
    """(kind, file or text) of every reference, in the order of the nodes."""
    kinds = (("LoadImage", "image"), ("LoadAudio", "audio"), ("Any2PixTextEmbedding", "text"))
    return [(kind, graph[node]["inputs"][kind]) for class_type, kind in kinds for node in nodes_of(graph, class_type)]


def promise_tile(text: str) -> Image.Image:
    """An empty frame with the text in it, where a result would be."""
    tile = text_tile(text, HALF, HALF, LINE // 2 - 3, 24)
    ImageDraw.Draw(tile).rounded_rectangle((1, 1, HALF - 2, HALF - 2), radius=16, outline=INK, width=3)
    return tile


def as_pictures(results: list[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray((result * 255).round().astype(np.uint8)) for result in results]


def thumbnail(graph: dict, pictures: list[Image.Image]) -> Image.Image:
    """graph: what ran, API format. pictures: what it gave; where no picture is edited, two of them are shown."""
    brought = references(graph)
    if brought[0][0] == "image":
        pictures = [Image.open(INPUTS / brought.pop(0)[1]), pictures[0]]
    sheet = Image.new("RGB", (SIDE, SIDE), GROUND)
    for index, picture in enumerate(pictures[:2]):
        sheet.paste(picture_tile(picture, HALF, HALF), (GAP + index * (HALF + GAP), GAP))
    width = (SIDE - (len(brought) + 1) * GAP) // len(brought)
    for index, (kind, content) in enumerate(brought):
        tile = reference_tile(kind, content, width)
        sheet.paste(tile, (GAP + index * (width + GAP), 2 * GAP + HALF))
    top = 3 * GAP + HALF + STRIP
    asked = [graph[node]["inputs"]["instruction"] for node in nodes_of(graph, "Any2PixInstruct")]
    sheet.paste(text_tile(asked[0] if asked else "from a sound to pictures", SIDE, SIDE - top, LINE, 22), (0, top))
    if asked:
        draw_arrow(sheet)
    return sheet


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
