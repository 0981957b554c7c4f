"""References as tensors and a record, for a file, and back: bit for bit, their pictures too."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .encode import check_finite
from .types import Reference, References

PREFIX = "any2pix_reference."
EMBEDDING, PICTURE = "embedding", "image"
MOST_REFERENCES = 10_000
LEVELS = 255  # of a picture that was loaded from a file of 8 bits a channel


def require_one_size(references: References, what: str) -> int:
    """The count of numbers that all embeddings have, 0 without references; ValueError where they differ."""
    sizes = sorted({len(reference.embedding) for reference in references})
    if len(sizes) > 1:
        raise ValueError(
            f"{what} have embeddings of {' and of '.join(map(str, sizes))} numbers: they come from different "
            "ImageBinds. Keep those of one (the miniature gives 64 numbers, the published ImageBind 1024)."
        )
    return sizes[0] if sizes else 0


def pack_references(references: References) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """-> tensors, record. A picture goes in 8 bits where these give it back exactly, as they do for one that was loaded
    from a file and not scaled since; else as it is, in 32 bits."""
    if not 1 <= len(references) <= MOST_REFERENCES:
        raise ValueError(
            f"A reference library holds 1 to {MOST_REFERENCES} references, got {len(references)}. Connect some."
        )
    size = require_one_size(references, "The references to save")
    tensors, entries = {}, []
    for number, reference in enumerate(references):
        check_finite(reference.embedding, f"embedding of reference {number + 1}", "Encode it again.")
        tensors[f"{PREFIX}{number}.{EMBEDDING}"] = reference.embedding
        if reference.image is not None:
            tensors[f"{PREFIX}{number}.{PICTURE}"] = _in_8_bits(reference.image)
        entries.append({"modality": reference.modality, "label": reference.label, "origin": reference.origin})
    return tensors, {"dims": size, "references": entries}


def unpack_references(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> References:
    """The reverse; ValueError where tensors and record do not fit together."""
    entries = record.get("references")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_REFERENCES:
        raise ValueError("it lists no references")
    references = tuple(_reference(number, entry, tensors) for number, entry in enumerate(entries))
    expected = sum(1 + (reference.image is not None) for reference in references)
    if expected != len(tensors):
        raise ValueError(f"it holds {len(tensors)} tensors, its list has {expected}")
    require_one_size(references, "The references in it")
    return references


def _reference(number: int, entry: Any, tensors: Mapping[str, Tensor]) -> Reference:
    words = {key: entry.get(key) for key in ("modality", "label", "origin")} if isinstance(entry, dict) else {}
    if not words or not all(isinstance(word, str) for word in words.values()):
        raise ValueError(f"its entry {number + 1} is damaged")
    embedding, picture = (tensors.get(f"{PREFIX}{number}.{part}") for part in (EMBEDDING, PICTURE))
    if embedding is None or embedding.ndim != 1 or not embedding.is_floating_point():
        raise ValueError(f"the embedding of its entry {number + 1} is damaged")
    if picture is not None:
        picture = _from_8_bits(picture, number)
    return Reference(embedding, image=picture, **words)


def _in_8_bits(picture: Tensor) -> Tensor:
    """(H, W, 3) in [0, 1] as uint8 where that loses nothing, as ComfyUI reads it; else as it is."""
    levels = (picture.float() * LEVELS).round().clamp(0, LEVELS).to(torch.uint8)
    return levels if picture.dtype == torch.float32 and torch.equal(levels.float() / LEVELS, picture) else picture


def _from_8_bits(picture: Tensor, number: int) -> Tensor:
    if picture.ndim != 3 or picture.shape[-1] != 3 or 0 in picture.shape:
        raise ValueError(f"the picture of its entry {number + 1} has the shape {tuple(picture.shape)}")
    return picture.float() / LEVELS if picture.dtype == torch.uint8 else picture
