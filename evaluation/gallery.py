"""Painted pictures cached as PNG files: a stopped run resumes, and a new metric needs no painting."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from .case import Case, Method, Output
from .results import digest_of
from .sheet import to_picture

MADE_WITH = "any2pix"  # PNG text that holds the rest of the output, and the key of what made it


@dataclass(frozen=True)
class Gallery:
    """A folder of pictures. `made_with`: a digest of weights, code and seed; a picture with another digest is painted
    again."""

    folder: Path
    made_with: str

    def edit(self, method: Method, cases: Sequence[Case]) -> list[Output]:
        """The outputs of a batch: those in the folder, and the others painted and kept."""
        places = [self.folder / _file_name(method, case) for case in cases]
        keys = [self.key(method, case) for case in cases]
        kept = [_read(path, key) for path, key in zip(places, keys, strict=True)]
        missing = [place for place, output in enumerate(kept) if output is None]
        painted = method.edit([cases[place] for place in missing]) if missing else []
        for place, output in zip(missing, painted, strict=True):
            _write(places[place], keys[place], output)
        return [_read(path, key) for path, key in zip(places, keys, strict=True)]

    def key(self, method: Method, case: Case) -> str:
        """Of everything that the picture depends on."""
        contents = hashlib.sha256()
        for part in (case.source, case.target, *(reference.tensor for reference in case.references)):
            contents.update(b"-" if part is None else part.contiguous().numpy().tobytes())
        read = [reference.content for reference in case.references if reference.modality == "text"]
        texts = [case.instruction, case.words, case.target_caption, *read]
        return digest_of(
            {"with": self.made_with, "method": method.name, "options": method.options, "texts": texts,
             "pictures": contents.hexdigest()}
        )  # fmt: skip


def _file_name(method: Method, case: Case) -> Path:
    plain = [re.sub(r"[^\w.=-]+", "_", text) for text in (method.title, case.name)]
    return Path(plain[0]) / f"{plain[1]}.png"


def _write(path: Path, key: str, output: Output) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = PngImagePlugin.PngInfo()
    rest = {"key": key, "caption": output.caption, "base": output.base, "planned": output.planned}
    told.add_text(MADE_WITH, json.dumps(rest))
    to_picture(output.picture).save(path, pnginfo=told)


def _read(path: Path, key: str) -> Output | None:
    if not path.is_file():
        return None
    with Image.open(path) as file:
        rest = json.loads(file.text.get(MADE_WITH, "{}"))
        picture = torch.from_numpy(np.array(file.convert("RGB"))).float() / 255
    if rest.pop("key", None) != key:
        return None
    return Output(picture, **rest)
