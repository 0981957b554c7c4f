"""Contact sheets: edits side by side, to be looked at by a person."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

PICTURE = 160  # side of the source and of the result on the sheet, pixels
THUMBNAIL = 76
TEXT_WIDTH = 250
MARGIN = 8
CELL = (2 * PICTURE + THUMBNAIL + TEXT_WIDTH + 5 * MARGIN, PICTURE + 2 * MARGIN)
INK, FAINT, GOOD, BAD = (30, 30, 34), (120, 120, 126), (20, 120, 50), (170, 40, 30)
HEAT = ((10, 8, 30), (70, 20, 100), (180, 50, 90), (245, 140, 50), (255, 245, 190))  # quiet .. loud


@dataclass(frozen=True)
class SheetEntry:
    """One edit on the sheet. `thumbnails`: (mark, picture) of the references beside the source; `good` colours the
    verdict."""

    source: Image.Image
    source_mark: str
    thumbnails: tuple[tuple[str, Image.Image], ...]
    instruction: str
    result: Image.Image
    verdict: str
    good: bool
    detail: str = ""


def to_picture(pixels: Tensor) -> Image.Image:
    """(H, W, 3) in [0, 1] -> a PIL image."""
    return Image.fromarray(pixels.detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy())


def spectrogram(waveform: Tensor, sample_rate: int, size: int = THUMBNAIL, highest: float = 8000.0) -> Image.Image:
    """(C, T) -> a square picture of the sound, low notes below, up to `highest` Hz, 60 dB deep."""
    mono = waveform.float().mean(0)
    window = max(256, sample_rate // 40)  # 25 ms
    mono = F.pad(mono, (0, max(0, 2 * window - len(mono))))
    power = (
        torch.stft(mono, window, hop_length=window // 2, window=torch.hann_window(window), return_complex=True)
        .abs()
        .square()
    )
    power = power[: max(2, int(len(power) * min(1.0, 2 * highest / sample_rate)))]
    level = (10 * power.clamp_min(1e-12).log10() - 10 * power.max().clamp_min(1e-12).log10()) / 60 + 1
    level = F.interpolate(level.clamp(0, 1)[None, None], (size, size), mode="bilinear", antialias=True)[0, 0].flip(0)
    anchors = torch.tensor(HEAT, dtype=torch.float32) / 255
    place = level * (len(HEAT) - 1)
    lower = place.floor().long().clamp(0, len(HEAT) - 2)
    share = (place - lower)[..., None]
    return to_picture(anchors[lower] * (1 - share) + anchors[lower + 1] * share)


def word_card(text: str, size: int = THUMBNAIL) -> Image.Image:
    """A reference that was given as words."""
    card = Image.new("RGB", (size, size), (236, 232, 220))
    lines = textwrap.wrap(text, 11)[:5]
    ImageDraw.Draw(card).multiline_text((5, 5), "\n".join(lines), fill=INK, font=ImageFont.load_default(11), spacing=2)
    return card


def contact_sheet(entries: Sequence[SheetEntry], columns: int = 2) -> Image.Image:
    """All entries in rows of `columns`, each: source, references, result, words."""
    rows = -(-len(entries) // columns)
    sheet = Image.new("RGB", (columns * CELL[0], rows * CELL[1]), (255, 255, 255))
    for number, entry in enumerate(entries):
        left, top = (number % columns) * CELL[0], (number // columns) * CELL[1]
        sheet.paste(_cell(entry, number), (left, top))
    return sheet


def _cell(entry: SheetEntry, number: int) -> Image.Image:
    cell = Image.new("RGB", CELL, (255, 255, 255))
    draw = ImageDraw.Draw(cell)
    x = MARGIN
    _paste(cell, entry.source, PICTURE, (x, MARGIN), entry.source_mark)
    x += PICTURE + MARGIN
    for place, (mark, thumbnail) in enumerate(entry.thumbnails[:2]):
        _paste(cell, thumbnail, THUMBNAIL, (x, MARGIN + place * (THUMBNAIL + MARGIN)), mark)
    x += THUMBNAIL + MARGIN
    _paste(cell, entry.result, PICTURE, (x, MARGIN))
    x += PICTURE + MARGIN
    y = MARGIN
    for text, colour in (
        (f"{number + 1}. {entry.instruction}", INK),
        (entry.verdict, GOOD if entry.good else BAD),
        (entry.detail, FAINT),
    ):
        block = "\n".join(textwrap.wrap(text, 42))
        draw.multiline_text((x, y), block, fill=colour, font=ImageFont.load_default(12), spacing=2)
        y += 16 * (block.count("\n") + 1) + 4
    return cell


def _paste(cell: Image.Image, picture: Image.Image, side: int, corner: tuple[int, int], mark: str = ""):
    """A picture with its mark in a small tag at the lower left."""
    cell.paste(picture.convert("RGB").resize((side, side), Image.LANCZOS), corner)
    if mark:
        draw, font = ImageDraw.Draw(cell), ImageFont.load_default(10)
        place = (corner[0] + 3, corner[1] + side - 14)
        draw.rectangle(draw.textbbox(place, mark, font=font, spacing=2), fill=(255, 255, 255))
        draw.text(place, mark, fill=INK, font=font)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """As a small file: the sheets travel with the weights."""
    sheet.save(path, quality=30, optimize=True, progressive=True)  # PNG takes no quality, and keeps every pixel


def comparison_sheet(lines: Sequence[tuple[str, Sequence[tuple[str, Tensor | None, str]]]]) -> Image.Image:
    """A line for each case: its title above its pictures (name, (H, W, 3) in [0, 1] or None, what is written below)."""
    columns = max(len(pictures) for _, pictures in lines)
    height = PICTURE + 7 * MARGIN + 12 * max(text.count("\n") + 1 for _, row in lines for _, _, text in row)
    sheet = Image.new("RGB", (MARGIN + columns * (PICTURE + MARGIN), len(lines) * height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (title, pictures) in enumerate(lines):
        top = number * height + MARGIN
        draw.text((MARGIN, top), title, fill=INK, font=font)
        for column, (name, picture, text) in enumerate(pictures):
            left = MARGIN + column * (PICTURE + MARGIN)
            if picture is not None:
                _paste(sheet, to_picture(picture), PICTURE, (left, top + 2 * MARGIN), name)
            draw.multiline_text((left, top + PICTURE + 3 * MARGIN), text, fill=FAINT, font=font, spacing=0)
    return sheet
