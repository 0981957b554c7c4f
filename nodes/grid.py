"""Grid Values and Labelled Grid: a picture for every combination of two values in one run, shown on labelled axes."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .host.host_options import where_known
from .pictures import read_pictures
from .reading import described, require
from .sockets import CATEGORY, Axes, AxesSocket

MAX_CELLS = 100  # pictures of one run; a typed 1000 steps would hold the queue for a day
LONGEST_NAME = 200  # letters of a label; each makes the picture larger
LARGEST = 1e30  # of a number; no widget goes further, and its label would fill the picture
SMALLEST_LETTERS, CELL_TO_LETTERS = 14, 14  # pixels; how many times the letters' size goes into a cell
GROUND, INK = "white", "black"


class GridValues(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixGridValues",
            display_name="Grid Values",
            category=f"{CATEGORY}/grid",
            description="Runs the connected nodes once for every combination of two lists of numbers.",
            **where_known(io.Schema, search_aliases=["xy plot", "x/y plot", "sweep", "parameter grid"]),
            inputs=[
                io.String.Input(
                    "x_name",
                    default="text_guidance",
                    tooltip="Label above the columns. It has no other effect: connect x to the widget that should "
                    "vary.",
                ),
                io.String.Input(
                    "x_values", default="3, 7.5, 12", tooltip="Numbers separated by commas, one for each column."
                ),
                io.String.Input("y_name", default="image_guidance", tooltip="Label beside the rows."),
                io.String.Input(
                    "y_values", default="1, 1.5, 2", tooltip="Numbers separated by commas, one for each row."
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="x",
                    is_output_list=True,
                    tooltip="For the widget that changes from column to column, such as text_guidance.",
                ),
                io.Float.Output(
                    display_name="y",
                    is_output_list=True,
                    tooltip="For the widget that changes from row to row, such as image_guidance.",
                ),
                AxesSocket.Output(display_name="axes", tooltip="For Labelled Grid."),
                io.Int.Output(
                    display_name="x_int",
                    is_output_list=True,
                    tooltip="The same as x, for an integer widget: seed, steps, width.",
                ),
                io.Int.Output(
                    display_name="y_int",
                    is_output_list=True,
                    tooltip="The same as y, for an integer widget: seed, steps, height.",
                ),
            ],
        )

    @classmethod
    def execute(cls, x_name: str, x_values: str, y_name: str, y_values: str) -> io.NodeOutput:
        axes = read_axes(x_name, x_values, y_name, y_values)
        rows, columns = range(len(axes.y_values)), range(len(axes.x_values))
        x = [float(axes.x_values[column]) for _ in rows for column in columns]
        y = [float(axes.y_values[row]) for row in rows for _ in columns]
        x_int, y_int = (whole_or_blocked(name, row) for name, row in (("x", axes.x_values), ("y", axes.y_values)))
        return io.NodeOutput(
            x,
            y,
            axes,
            [x_int[column] for _ in rows for column in columns],
            [y_int[row] for row in rows for _ in columns],
        )


class LabelledGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLabelledGrid",
            display_name="Labelled Grid",
            category=f"{CATEGORY}/grid",
            description="Puts the pictures of a Grid Values run into one picture with labelled axes.",
            **where_known(io.Schema, search_aliases=["xy plot", "x/y plot", "contact sheet", "image grid"]),
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="The pictures that result from x and y of Grid Values, for example from VAE Decode.",
                ),
                AxesSocket.Input("axes", tooltip="From the same Grid Values."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="One picture; the cells are not scaled. A batch gives one grid for each of its pictures.",
                )
            ],
        )

    @classmethod
    def execute(cls, images: list[Tensor], axes: list[Axes]) -> io.NodeOutput:
        if not axes:
            raise ValueError("The axes input of Labelled Grid is empty. Connect axes of Grid Values.")
        first = require(axes[0], Axes, "axes input of Labelled Grid", "axes of Grid Values")
        return io.NodeOutput(draw_grid(read_cells(images), first))


def read_cells(images: Any) -> list[Tensor]:
    """What came for each cell -> (B, H, W, 3) float32 each; an error names the cell's number."""
    cells = images if isinstance(images, (list, tuple)) else [images]
    pictures = []
    for number, cell in enumerate(cells, start=1):
        rows = read_pictures(cell, f"cell {number} of {len(cells)} of Labelled Grid", on_white=False)
        other = next((row for row in rows if row.shape != rows[0].shape), None)
        if other is not None:
            raise ValueError(
                f"Cell {number} of {len(cells)} of Labelled Grid has pictures of {_sides(rows[0])} and "
                f"{_sides(other)}. All need one size."
            )
        pictures.append(torch.stack(rows))
    return pictures


def read_axes(x_name: str, x_values: str, y_name: str, y_values: str) -> Axes:
    """The widgets as Axes; an error names the widget and the text that does not fit."""
    axes = Axes(
        _label("x_name", x_name),
        parse_values("x_values", x_values),
        _label("y_name", y_name),
        parse_values("y_values", y_values),
    )
    if axes.cells > MAX_CELLS:
        raise ValueError(
            f"x_values has {len(axes.x_values)} numbers and y_values {len(axes.y_values)}: that is {axes.cells} "
            f"pictures in one run; the maximum is {MAX_CELLS}. Remove some numbers."
        )
    return axes


def parse_values(widget: str, text: str) -> tuple[float, ...]:
    """ "3, 7.5, 12" -> (3, 7.5, 12). Whole numbers are kept to their last digit, as seeds need it."""
    values = []
    for part in re.split("[,，]", text):
        try:
            value = int(part)
        except ValueError:
            value = _float(part)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"{widget} holds {described(part.strip())}, which is not a number. Write numbers separated by commas: "
                "3, 7.5, 12"
            )
        if abs(value) > LARGEST:
            raise ValueError(
                f"{widget} holds {described(part.strip())}; the largest number is {LARGEST:g}. Write a smaller one."
            )
        values.append(value)
    return tuple(values)


def whole_or_blocked(axis: str, values: Sequence[float]) -> list[Any]:
    """The numbers as whole ones; where one of them is none, ComfyUI is told to stop each node that would take them, and
    why."""
    for value in values:
        if value != int(value):
            message = (
                f"{axis}_values of Grid Values holds {value:g}, but {axis}_int is for integers. Connect {axis}, or "
                "round it."
            )
            return [ExecutionBlocker(message)] * len(values)
    return [int(value) for value in values]


def _label(widget: str, name: str) -> str:
    """A name as it can be drawn, in one line."""
    text = " ".join(name.split())
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{widget} is {described(text)}; the labels have plain Latin letters only. Use these.")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"{widget} has {len(text)} letters; the maximum is {LONGEST_NAME}. Shorten it.")
    return text


def number_label(value: float) -> str:
    """As short as tells it from its neighbours: 7.5, 3, 18446744073709551615."""
    short = f"{value:g}"
    return short if float(short) == value and "e" not in short else str(value)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def draw_grid(pictures: Sequence[Tensor], axes: Axes) -> Tensor:
    """Pictures (B, H, W, 3) in [0, 1], row by row -> (B, height, width, 3): one grid for each picture of the batch.

    The cells hold the pictures as they are; letters grow with the cells, so that they can be read at any size.
    """
    _require_cells(pictures, axes)
    height, width = pictures[0].shape[1:3]
    sheet, corners = draw_axes(axes, width, height)
    grid = torch.from_numpy(np.array(sheet)).to(pictures[0]) / 255
    grid = grid.repeat(len(pictures[0]), 1, 1, 1)
    for picture, (x, y) in zip(pictures, corners, strict=True):
        grid[:, y : y + height, x : x + width] = picture
    return grid


def draw_axes(axes: Axes, width: int, height: int) -> tuple[Image.Image, list[tuple[int, int]]]:
    """Size of a cell in pixels -> names and numbers around empty cells, and the cells' upper left corners row by
    row."""
    size = max(SMALLEST_LETTERS, min(height, width) // CELL_TO_LETTERS)
    font = _font(size)
    gap, line = size // 2, size + size // 2
    columns, rows = ([number_label(value) for value in values] for values in (axes.x_values, axes.y_values))
    step_x = max(width, _widest(font, columns)) + gap
    step_y = max(height, size) + gap
    top = gap + line * (2 if axes.x_name else 1)
    left = gap + _widest(font, rows) + gap + (line if axes.y_name else 0)
    # A name longer than its side makes the picture larger.
    across = max(step_x * len(columns), _widest(font, [axes.x_name]) + gap)
    down = max(step_y * len(rows), _widest(font, [axes.y_name]) + gap)

    sheet = Image.new("RGB", (left + across, top + down), GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((left + across / 2, gap + size / 2), axes.x_name, INK, font, anchor="mm")
    sheet.paste(_upwards(axes.y_name, down, size, font), (gap, top))
    for column, label in enumerate(columns):
        draw.text((left + column * step_x + width / 2, top - gap - size / 2), label, INK, font, anchor="mm")
    for row, label in enumerate(rows):
        draw.text((left - gap, top + row * step_y + height / 2), label, INK, font, anchor="rm")
    return sheet, [(left + x * step_x, top + y * step_y) for y in range(len(rows)) for x in range(len(columns))]


def _font(size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size)
    except TypeError as error:
        raise RuntimeError(
            f"The labels need Pillow 10.1 or newer; this is {PIL.__version__}. Run, with the Python of ComfyUI: "
            "python -m pip install -U Pillow"
        ) from error


def _widest(font: ImageFont.FreeTypeFont, texts: Sequence[str]) -> int:
    """Pixels that the longest of the texts takes."""
    return max(math.ceil(font.getlength(text)) for text in texts)


def _upwards(text: str, length: int, size: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The text in the middle of a strip as high as ``length``, to be read from below."""
    strip = Image.new("RGB", (length, size), GROUND)
    ImageDraw.Draw(strip).text((length / 2, size / 2), text, INK, font, anchor="mm")
    return strip.transpose(Image.Transpose.ROTATE_90)


def _require_cells(pictures: Sequence[Tensor], axes: Axes) -> None:
    columns, rows = len(axes.x_values), len(axes.y_values)
    if len(pictures) != axes.cells:
        raise ValueError(
            f"Labelled Grid has {columns} x {rows} = {axes.cells} cells and got {len(pictures)} pictures. Connect x "
            "and y of Grid Values to the widgets that vary, and the resulting pictures to images, one by one and not "
            "as a batch."
        )
    for number, picture in enumerate(pictures, start=1):
        if picture.shape != pictures[0].shape:
            raise ValueError(
                f"Picture {number} of Labelled Grid is {_size(picture)}, the first one {_size(pictures[0])}. All cells "
                "need one size: put the same size on everything that Grid Values runs."
            )


def _size(picture: Tensor) -> str:
    batch = len(picture)
    return _sides(picture[0]) + (f" in a batch of {batch}" if batch > 1 else "")


def _sides(picture: Tensor) -> str:
    """Of (H, W, C): width x height."""
    return f"{picture.shape[1]} x {picture.shape[0]}"
