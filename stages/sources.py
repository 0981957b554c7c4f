"""What is connected to an edit, before ImageBind has seen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..models.imagebind import ImageBind
from .encode import encode_audio, encode_image, encode_text
from .types import MODALITIES, Reference, References


@dataclass(frozen=True)
class Source:
    """One thing that is connected. ``content``: an "image" (H, W, 3) in [0, 1], an "audio" as its waveform (C, T) and
    sample rate in Hz, a "text" as it is."""

    modality: str
    content: Tensor | tuple[Tensor, float] | str
    label: str = ""

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ValueError(f"A reference must be one of {', '.join(MODALITIES)}, not {self.modality!r}.")
        if self.content is None or len(self.content) == 0:
            raise ValueError(f"The {self.modality} reference {self.label!r} is empty. Give it content.")

    @property
    def tensor(self) -> Tensor | None:
        """The picture or the waveform; None for a text."""
        return self.content[0] if self.modality == "audio" else None if self.modality == "text" else self.content


def encode_sources(imagebind: ImageBind, sources: Sequence[Source]) -> References:
    """Each source as the reference that the nodes make of it."""
    return tuple(_encode(imagebind, source) for source in sources)


def _encode(imagebind: ImageBind, source: Source) -> Reference:
    if source.modality == "image":
        return Reference(encode_image(imagebind, source.content), "image", source.content, source.label)
    if source.modality == "audio":
        return Reference(encode_audio(imagebind, *source.content), "audio", None, source.label)
    return Reference(encode_text(imagebind, source.content), "text", None, source.label)
