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

from ..stages.sources import Source

PICTURE = 160  # side of a picture on the sheet, pixels
THUMBNAIL = 76
MARGIN = 8
SHOWN_REFERENCES = 2
INK, FAINT = (30, 30, 34), (120, 120, 126)
HEAT = ((10, 8, 30), (70, 20, 100), (180, 50, 90), (245, 140, 50), (255, 245, 190))  # quiet .. loud


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


def thumbnail_of(reference: Source) -> Image.Image:
    """A reference as a small picture: itself, its spectrogram, or its words."""
    if reference.modality == "text":
        return word_card(reference.content)
    return spectrogram(*reference.content) if reference.modality == "audio" else to_picture(reference.content)


@dataclass(frozen=True)
class Line:
    """A case on the sheet: its title above `source`, the references beside it, and `pictures`: (name, (H, W, 3) in
    [0, 1] or None, what is written below)."""

    title: str
    source: Tensor | None
    references: Sequence[tuple[str, Source]]  # with their marks
    pictures: Sequence[tuple[str, Tensor | None, str]]


def comparison_sheet(lines: Sequence[Line]) -> Image.Image:
    """The cases below one another."""
    columns = 1 + max(len(line.pictures) for line in lines)
    written = max(text.count("\n") + 1 for line in lines for _, _, text in line.pictures)
    height = PICTURE + 7 * MARGIN + 12 * written
    wide = MARGIN + columns * (PICTURE + MARGIN) + THUMBNAIL + MARGIN
    sheet = Image.new("RGB", (wide, len(lines) * height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        top = number * height + MARGIN
        draw.text((MARGIN, top), line.title, fill=INK, font=ImageFont.load_default(12))
        _draw_line(sheet, line, top + 2 * MARGIN)
    return sheet


def _draw_line(sheet: Image.Image, line: Line, top: int) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    if line.source is not None:
        _paste(sheet, to_picture(line.source), PICTURE, (MARGIN, top), "source")
    left = MARGIN + PICTURE + MARGIN
    for place, (mark, reference) in enumerate(line.references[:SHOWN_REFERENCES]):
        _paste(sheet, thumbnail_of(reference), THUMBNAIL, (left, top + place * (THUMBNAIL + MARGIN)), mark)
    left += THUMBNAIL + MARGIN
    for name, picture, text in line.pictures:
        if picture is not None:
            _paste(sheet, to_picture(picture), PICTURE, (left, top), name)
        draw.multiline_text((left, top + PICTURE + MARGIN), text, fill=FAINT, font=font, spacing=0)
        left += PICTURE + MARGIN
