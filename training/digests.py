"""Short names for contents: what a training or a cached file depends on."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import datagen

READ_AT_ONCE = 2**24  # bytes
DIGITS = 12
PACE = {"workers", "gradient_checkpointing", "checkpoint_every", "vae_batch"}


def file_digest(path: str | Path) -> str:
    """Digest of the content of a file, or of all files in a folder: twelve hexadecimal digits."""
    path = Path(path)
    if path.is_dir():
        parts = [f"{file.relative_to(path)} {file_digest(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
        return text_digest(*parts)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(READ_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()[:DIGITS]


def text_digest(*parts: str) -> str:
    """Digest of these texts in this order: twelve hexadecimal digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGITS]


def fingerprint(config: dict, weights: Iterable[Path] = ()) -> str:
    """Digest of a recipe and the networks it builds on: twelve hexadecimal digits. Settings that only affect memory and
    speed (PACE) are left out."""
    return text_digest(json.dumps(_without_pace(config), sort_keys=True), *map(file_digest, weights))


def _without_pace(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    return {key: _without_pace(value) for key, value in values.items() if key not in PACE}


def drawn_digest(**settings: Any) -> str:
    """Digest of pictures and sounds of Toyland, that is of the settings they are drawn with and the code that draws
    them: twelve hexadecimal digits."""
    folder = Path(datagen.__file__).parent
    return text_digest(json.dumps(settings, sort_keys=True), *map(file_digest, sorted(folder.glob("*.py"))))
