"""Your own edits: a folder of pictures and sounds with a file `edits.jsonl`, one edit a line.

    {"source": "cat.png", "instruction": "let [image1] sound like [audio1]", "references": ["rain.wav"],
     "source_caption": "a cat in the sun", "target_caption": "a cat in the rain", "target": "cat_in_rain.png"}

`instruction` is needed, all else may be left out. The source is the first reference, [image1]; `references` are
further ones: names of pictures and sounds in the folder, or {"text": "snow"}. Without a source the picture is painted
from noise. `target`: the true result. `region`: a mask picture, white where the edit may change things. `name` and
`scene`: the line number and the source's name where they are left out. `words`: the instruction for methods that read
words alone, by default the instruction itself where it has no other mark than the source's. `labels` and `tags`: as in
`case.Case`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...models.backbone import SDXL
from ...stages.sources import Source
from ..case import Case
from . import Draw, dataset

LIST = "edits.jsonl"
FIELDS = (
    "source", "instruction", "references", "source_caption", "target_caption", "target", "region", "name", "scene",
    "words", "labels", "tags",
)  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
BASE_MARK = "[image1]"
MULTIPLE = SDXL.latent.step  # that the sides of pictures are cropped to; SD 1 has the same
MARK = re.compile(r"\[(?:image|audio|text)\d+\]")


@dataset("folder")
def folder(place: str, draw: Draw) -> list[Case]:
    """The lines of the folder's list, at most `draw.count` of them; `draw.kinds` are values of the tag "kind"."""
    path = Path(place) / LIST
    if not place or not path.is_file():
        raise ValueError(f"{path} does not exist. Write folder:/your/folder, and put a file {LIST} in it.")
    lines = [(number, line) for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line.strip()]
    cases = [read_case(path.parent, _record(line, number), number) for number, line in lines]
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Two edits of {path} have the name {twice[0]!r}. Give each a name of its own.")
    wanted = [case for case in cases if draw.kinds is None or case.tags.get("kind") in draw.kinds]
    return wanted[: draw.count]


def read_case(root: Path, record: Mapping[str, Any], number: int) -> Case:
    """One line of the list."""
    try:
        return _case(root, record, number)
    except (ValueError, OSError) as error:
        raise ValueError(f"Line {number} of {root / LIST}: {error}") from error


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"Line {number} of {LIST} is not JSON: {error}. Write one object a line.") from error
    if not isinstance(record, dict) or not isinstance(record.get("instruction"), str):
        raise ValueError(f'Line {number} of {LIST} has no instruction. Write {{"instruction": "...", ...}}.')
    if unknown := sorted(record.keys() - set(FIELDS)):
        raise ValueError(f"Line {number} of {LIST} has the unknown field {unknown[0]!r}. Known: {', '.join(FIELDS)}.")
    return record


def _case(root: Path, record: Mapping[str, Any], number: int) -> Case:
    source = read_picture(root / record["source"]) if "source" in record else None
    base = () if source is None else (Source("image", source, label=record.get("source_caption", "")),)
    instruction = record["instruction"]
    return Case(
        name=str(record.get("name", number)),
        scene=str(record.get("scene", record.get("source", number))),
        instruction=instruction,
        references=(*base, *(read_reference(root, entry) for entry in record.get("references", ()))),
        base=0 if base else None,
        words=record.get("words", words_of(instruction)) if base else "",
        source=source,
        source_caption=record.get("source_caption", ""),
        target_caption=record.get("target_caption", ""),
        target=read_picture(root / record["target"]) if "target" in record else None,
        region=read_picture(root / record["region"]).mean(-1) > 0.5 if "region" in record else None,
        labels={name: tuple(pair) for name, pair in record.get("labels", {}).items()},
        tags={"kind": "", "given_as": "", **record.get("tags", {})},
    )


def words_of(instruction: str) -> str:
    """The instruction without the source's mark; empty where it has others, which words cannot stand for."""
    if set(MARK.findall(instruction)) - {BASE_MARK}:
        return ""
    return instruction.replace(BASE_MARK, "the picture")


def read_reference(root: Path, entry: str | Mapping[str, str]) -> Source:
    """A reference of the list: the name of a picture or a sound, or {"text": ...}."""
    if isinstance(entry, Mapping):
        return Source("text", entry.get("text", ""), label=entry.get("text", ""))
    path = root / entry
    if path.suffix.lower() in PICTURES:
        return Source("image", read_picture(path), label=path.stem)
    if path.suffix.lower() in SOUNDS:
        return Source("audio", read_sound(path), label=path.stem)
    raise ValueError(f"{entry!r} is neither a picture ({', '.join(PICTURES)}) nor a sound ({', '.join(SOUNDS)}).")


def read_picture(path: Path) -> Tensor:
    """(H, W, 3) in [0, 1], upright, its sides cropped about the middle to multiples of MULTIPLE pixels."""
    try:
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that can be read.") from error
    width, height = picture.size
    left, top = width % MULTIPLE // 2, height % MULTIPLE // 2
    right, bottom = left + width - width % MULTIPLE, top + height - height % MULTIPLE
    return torch.from_numpy(np.array(picture.crop((left, top, right, bottom)))).float() / 255


def read_sound(path: Path) -> tuple[Tensor, int]:
    """(C, T) in [-1, 1] and the sample rate in Hz, of any format that FFmpeg reads."""
    import av

    with av.open(str(path)) as file:
        if not file.streams.audio:
            raise ValueError(f"{path} has no audio.")
        rate = file.streams.audio[0].rate
        resampler = av.AudioResampler(format="fltp", rate=rate)
        frames = [done for frame in file.decode(audio=0) for done in resampler.resample(frame)]
        frames += resampler.resample(None)
    return torch.from_numpy(np.concatenate([frame.to_ndarray() for frame in frames], axis=1)), rate
