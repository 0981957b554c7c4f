"""Pictures, sounds and texts -> ImageBind embeddings. What has no meaning to it is an error, never a zero vector."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..models.imagebind import ImageBind
from .preprocess import SAMPLE_RATE, check_length, clip_bounds, image_to_tensor, tokenize_clip, waveform_to_clips
from .sound import mono

LOUDEST = 100.0  # full scale is 1; a peak 40 dB above it is of other units, such as 16-bit numbers
SILENCE = 1e-5  # peak below -100 dB of full scale: less than one step of a 16-bit file
LOWEST_RATE, HIGHEST_RATE = 2_000, 10_000_000  # Hz; below, nothing that ImageBind listens to is left
MOST_CHANNELS = 64  # more are a waveform of (samples, channels)
SAMPLE_TYPES = (
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int16, torch.int32, torch.int8, torch.uint8,
)  # fmt: skip

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
    """Pictures as ``encode_images`` takes them -> (B, P, W): what the image tower's last layer says of each of its P
    patches."""
    return _encode_images(imagebind, imagebind.image_patches, images)


@torch.no_grad()
def encode_audio(
    imagebind: ImageBind, waveform: Tensor, sample_rate: float, device: Device = None, dtype: torch.dtype | None = None
) -> Tensor:
    """(C, T) in [-1, 1], or PCM in whole numbers, at 2 kHz to 10 MHz -> (D,) float32, norm about 20.

    ValueError for what means nothing: below 25 ms, silence in all that is heard, numbers that are broken or no sound.
    """
    return encode_audios(imagebind, [waveform], sample_rate, device, dtype)[0]


@torch.no_grad()
def encode_audios(
    imagebind: ImageBind,
    waveforms: Sequence[Tensor],
    sample_rate: float,
    device: Device = None,
    dtype: torch.dtype | None = None,
    at_once: int | None = None,
    callback: Progress | None = None,
) -> Tensor:
    """Sounds (C, T) of one sample rate, a batch (B, C, T) or of lengths of their own -> (B, D).

    All clips of ``at_once`` sounds go through the network together; ``callback`` as in ``encode_images``. All are
    checked before the first is encoded; an error names the sound by its number where there are several.
    """
    rate = _whole_rate(sample_rate)
    for number, waveform in enumerate(waveforms, start=1):
        _check_sound(waveform, rate, f"Sound {number} of {len(waveforms)}" if len(waveforms) > 1 else "The sound")

    def clips(waveform: Tensor) -> Tensor:
        return waveform_to_clips(waveform, rate, imagebind.dims)

    return _encode(imagebind, imagebind.encode_audio, waveforms, clips, device, dtype, at_once, callback)


@torch.no_grad()
def encode_text(imagebind: ImageBind, text: str, device: Device = None, dtype: torch.dtype | None = None) -> Tensor:
    """A text -> (D,) float32, its norm the learned text scale (at most 100)."""
    require_text(text)
    if imagebind.tokenizer is None:
        raise ValueError("This ImageBind has no tokenizer. Load it with one: load_imagebind(path, tokenizer=...).")
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
    """Items through ``prepare`` one by one, for each may have a size of its own, and ``at_once`` through
    ``network``."""
    where = _computes_with(imagebind, device, dtype)
    at_once = items_at_once(where[0]) if at_once is None else at_once
    if at_once < 1:
        raise ValueError(f"at_once is {at_once}; it must be 1 or more.")
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


def _whole_rate(sample_rate: Any) -> int:
    """In Hz, to the next whole number; of anything that is one number."""
    try:
        rate = float(sample_rate)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The sample rate is {sample_rate!r}, not a number of Hz. Check the node it comes from."
        ) from error
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(
            f"The sample rate is {rate:g} Hz. Use {LOWEST_RATE} to {HIGHEST_RATE} Hz, best {SAMPLE_RATE} Hz or more."
        )
    return round(rate)


def _check_sound(waveform: Tensor, rate: int, name: str) -> None:
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(
            f"{name} has the shape {tuple(waveform.shape)}, not (channels, samples). Connect one that is not empty."
        )
    channels, samples = waveform.shape
    if channels > MOST_CHANNELS:
        raise ValueError(
            f"{name} has {channels} channels of {samples} samples. Its axes are (channels, samples): swap them."
        )
    if waveform.dtype not in SAMPLE_TYPES:
        raise ValueError(f"{name} is of {waveform.dtype}. Use float32 numbers in [-1, 1].")
    check_length(samples, rate, name)
    check_finite(waveform, name.removeprefix("The ").lower())
    bounds = [[place * rate // SAMPLE_RATE for place in clip] for clip in clip_bounds(samples, rate)]
    heard = [mono(waveform, start, end) for start, end in bounds]
    if (peak := max(float(clip.abs().max()) for clip in heard)) > LOUDEST:
        raise ValueError(f"{name} has a peak of {peak:.3g}, where full scale is 1. Divide it, or normalise its volume.")
    if all(_swing(clip) < SILENCE for clip in heard):
        raise ValueError(f"{name} is silent{_why_silent(waveform, bounds)}.")


def _swing(samples: Tensor) -> float:
    """How far samples go from the middle of the highest and the lowest."""
    return float(samples.max() - samples.min()) / 2


def _why_silent(waveform: Tensor, bounds: list[list[int]]) -> str:
    """The rest of the sentence: the remedy for a sound of which no clip at ``bounds`` has anything to hear."""
    for start, end in bounds:
        if any(_swing(mono(channel[None], start, end)) >= 100 * SILENCE for channel in waveform):
            return ": its channels cancel each other out. Use one of them"
    if any(_swing(mono(part, 0, part.shape[1])) >= SILENCE for part in waveform.split(SAMPLE_RATE * 60, dim=1)):
        return " at its start, middle and end, the parts that are used. Trim it to the part that matters"
    return ". Connect a sound that is not silent"


def check_finite(
    values: Tensor, what: str, remedy: str = "Check the node it comes from.", in_rows: bool = False
) -> None:
    """ValueError where values are NaN or infinite; with ``in_rows`` it says in which rows of a batch, counted from
    1."""
    if values.sum().isfinite():  # a tenth of the time of looking at each value, and enough for nearly every input
        return
    broken = ~values.isfinite()
    count = int(broken.sum())
    if not count:
        return
    where = ""
    if in_rows and len(values) > 1:
        rows = broken.flatten(1).any(dim=1).nonzero().flatten() + 1
        where = f" in {name_rows(rows.tolist())} of {len(values)}"
    raise ValueError(f"The {what} holds {count} values that are NaN or infinite{where}. {remedy}")


def name_rows(numbers: Sequence[int]) -> str:
    return f"{'row' if len(numbers) == 1 else 'rows'} {', '.join(map(str, numbers))}"
