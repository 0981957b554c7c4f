"""Pictures, sounds and texts -> ImageBind embeddings. What has no meaning to it is an error, never a zero vector."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..models.imagebind import ImageBind
from .preprocess import SAMPLE_RATE, image_to_tensor, tokenize_clip, waveform_to_clips

SILENCE = 1e-5  # peak below -100 dB of full scale: less than one step of a 16-bit file
LOWEST_RATE = 2_000  # Hz; below it nothing that ImageBind listens to is left
AT_ONCE = 16  # items a pass; imagebind_huge takes about 20 MB of activations for each picture in float32
AT_ONCE_CPU = 2  # a processor's cache holds no more: passes of 8 and 16 took 1.1 to 1.2 times as long for each picture

Device = torch.device | str | None
Progress = Callable[[int, int], None]


@torch.no_grad()
def encode_image(
    imagebind: ImageBind, image: Tensor, device: Device = None, dtype: torch.dtype | None = None
) -> Tensor:
    """(H, W, C) in [0, 1], any size, C of 1, 3 or 4 -> (D,) float32, norm 1.

    ``device`` and ``dtype`` to compute with; None: those of the network's weights.
    """
    return encode_images(imagebind, [image], device, dtype)[0]


@torch.no_grad()
def encode_images(
    imagebind: ImageBind,
    images: Sequence[Tensor],
    device: Device = None,
    dtype: torch.dtype | None = None,
    at_once: int | None = None,
    callback: Progress | None = None,
) -> Tensor:
    """Pictures (H, W, C) as ``encode_image`` takes them, a batch (B, H, W, C) or of sizes of their own -> (B, D).

    ``at_once`` of them go through the network together, by default ``items_at_once(device)``; ``callback(done, total)``
    runs before each such pass and may raise to cancel. All are checked before the first is encoded.
    """
    return _encode_images(imagebind, imagebind.encode_image, images, device, dtype, at_once, callback)


@torch.no_grad()
def encode_patches(imagebind: ImageBind, images: Sequence[Tensor]) -> Tensor:
    """Pictures as ``encode_images`` takes them -> (B, P, W): what the image tower's last layer says of each of its P patches."""
    return _encode_images(imagebind, imagebind.image_patches, images)


@torch.no_grad()
def encode_audio(
    imagebind: ImageBind, waveform: Tensor, sample_rate: int, device: Device = None, dtype: torch.dtype | None = None
) -> Tensor:
    """(C, T) in [-1, 1] at any sample rate -> (D,) float32, norm about 20. From 25 ms on; silence is an error."""
    return encode_audios(imagebind, [waveform], sample_rate, device, dtype)[0]


@torch.no_grad()
def encode_audios(
    imagebind: ImageBind,
    waveforms: Sequence[Tensor],
    sample_rate: int,
    device: Device = None,
    dtype: torch.dtype | None = None,
    at_once: int | None = None,
    callback: Progress | None = None,
) -> Tensor:
    """Sounds (C, T) of one sample rate, a batch (B, C, T) or of lengths of their own -> (B, D).

    All clips of ``at_once`` sounds go through the network together; ``callback`` as in ``encode_images``.
    """
    for waveform in waveforms:
        _check_sound(waveform, sample_rate)

    def clips(waveform: Tensor) -> Tensor:
        return waveform_to_clips(waveform, sample_rate, imagebind.dims)

    return _encode(imagebind, imagebind.encode_audio, waveforms, clips, device, dtype, at_once, callback)


@torch.no_grad()
def encode_text(imagebind: ImageBind, text: str, device: Device = None, dtype: torch.dtype | None = None) -> Tensor:
    """A text -> (D,) float32, its norm the learned text scale (at most 100)."""
    require_text(text)
    if imagebind.tokenizer is None:
        raise ValueError(
            "This ImageBind came without a tokenizer. Load it with one: load_imagebind(path, tokenizer=...)."
        )
    tokens = tokenize_clip(imagebind.tokenizer, [text], imagebind.dims.text_context)
    device, dtype = _computes_with(imagebind, device, dtype)
    return imagebind.encode_text(tokens.to(device), dtype)[0]


def items_at_once(device: torch.device | str) -> int:
    """How many pictures or sounds a pass best takes there, where memory sets no limit."""
    return AT_ONCE_CPU if torch.device(device).type == "cpu" else AT_ONCE


def _encode_images(
    imagebind: ImageBind,
    network: Callable[[Tensor], Tensor],
    images: Sequence[Tensor],
    device: Device = None,
    dtype: torch.dtype | None = None,
    at_once: int | None = None,
    callback: Progress | None = None,
) -> Tensor:
    """All are checked before the first goes through ``network``."""
    for number, image in enumerate(images, start=1):
        _check_picture(image, f"picture {number} of {len(images)}" if len(images) > 1 else "picture")

    def pixels(image: Tensor) -> Tensor:
        return image_to_tensor(image.unsqueeze(0), imagebind.dims.image_size)[0]

    return _encode(imagebind, network, images, pixels, device, dtype, at_once, callback)


def _encode(
    imagebind: ImageBind,
    network: Callable[[Tensor], Tensor],
    items: Sequence[Tensor],
    prepare: Callable[[Tensor], Tensor],
    device: Device,
    dtype: torch.dtype | None,
    at_once: int | None,
    callback: Progress | None,
) -> Tensor:
    """Items through ``prepare`` one by one, for each may have a size of its own, and ``at_once`` through ``network``."""
    where = _computes_with(imagebind, device, dtype)
    at_once = items_at_once(where[0]) if at_once is None else at_once
    if at_once < 1:
        raise ValueError(f"at_once is 1 or more, not {at_once}.")
    encoded = []
    for start in range(0, len(items), at_once):
        if callback is not None:
            callback(start, len(items))
        chunk = torch.stack([prepare(item) for item in items[start : start + at_once]])
        encoded.append(network(chunk.to(*where)))
    return torch.cat(encoded) if encoded else torch.zeros(0, imagebind.dims.embed, device=where[0])


def _computes_with(
    imagebind: ImageBind, device: Device, dtype: torch.dtype | None
) -> tuple[torch.device | str, torch.dtype]:
    weight = imagebind.modality_preprocessors["text"].token_embedding.weight
    return device or weight.device, dtype or weight.dtype


def require_text(text: str) -> None:
    """ValueError where a text says nothing."""
    if not text.strip():
        raise ValueError("The text is empty. Write what the reference stands for, for example: a cat.")


def _check_picture(image: Tensor, what: str) -> None:
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(
            f"A picture has the shape (height, width, channels), the {what} {tuple(image.shape)}. Connect one picture."
        )
    check_finite(image, what)


def _check_sound(waveform: Tensor, sample_rate: int) -> None:
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(
            f"A sound has the shape (channels, samples), not {tuple(waveform.shape)}. Connect one that is not empty."
        )
    if sample_rate < LOWEST_RATE:
        raise ValueError(
            f"The sample rate is {sample_rate} Hz. Use at least {LOWEST_RATE} Hz, best {SAMPLE_RATE} Hz or more."
        )
    check_finite(waveform, "sound")
    mono = waveform.float().mean(dim=0)
    if float((mono - mono.mean()).abs().max()) < SILENCE:
        raise ValueError(
            "The sound is silent, so it means nothing to ImageBind. Connect a sound that can be heard"
            + (
                " (its channels cancel each other out: use one of them)."
                if float(waveform.abs().max()) >= 100 * SILENCE
                else "."
            )
        )


def check_finite(values: Tensor, what: str, remedy: str = "Look at the node it comes from.") -> None:
    """ValueError where values are NaN or infinite."""
    if values.sum().isfinite():  # a tenth of the time of looking at each value, and enough for nearly every input
        return
    broken = int((~torch.isfinite(values)).sum())
    if broken:
        raise ValueError(f"The {what} holds {broken} values that are NaN or infinite. {remedy}")
