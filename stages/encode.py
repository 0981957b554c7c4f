"""Pictures, sounds and texts -> ImageBind embeddings. What has no meaning to it is an error, never a zero vector."""

import torch
from torch import Tensor

from ..models.imagebind import ImageBind
from .preprocess import SAMPLE_RATE, image_to_tensor, tokenize_clip, waveform_to_clips

SILENCE = 1e-5  # peak below -100 dB of full scale: less than one step of a 16-bit file
LOWEST_RATE = 2_000  # Hz; below it nothing that ImageBind listens to is left

Device = torch.device | str | None


@torch.no_grad()
def encode_image(
    imagebind: ImageBind, image: Tensor, device: Device = None, dtype: torch.dtype | None = None
) -> Tensor:
    """(H, W, C) in [0, 1], any size, C of 1, 3 or 4 -> (D,) float32, norm 1.

    ``device`` and ``dtype`` to compute with; None: those of the network's weights.
    """
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(
            f"A picture has the shape (height, width, channels), not {tuple(image.shape)}. Connect one picture."
        )
    _check_finite(image, "picture")
    pixels = image_to_tensor(image.unsqueeze(0), imagebind.dims.image_size)
    return imagebind.encode_image(pixels.to(*_computes_with(imagebind, device, dtype)))[0]


@torch.no_grad()
def encode_audio(
    imagebind: ImageBind, waveform: Tensor, sample_rate: int, device: Device = None, dtype: torch.dtype | None = None
) -> Tensor:
    """(C, T) in [-1, 1] at any sample rate -> (D,) float32, norm about 20. From 25 ms on; silence is an error."""
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(
            f"A sound has the shape (channels, samples), not {tuple(waveform.shape)}. Connect one that is not empty."
        )
    if sample_rate < LOWEST_RATE:
        raise ValueError(
            f"The sample rate is {sample_rate} Hz. Use at least {LOWEST_RATE} Hz, best {SAMPLE_RATE} Hz or more."
        )
    _check_finite(waveform, "sound")
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
    clips = waveform_to_clips(waveform, sample_rate, imagebind.dims)
    return imagebind.encode_audio(clips.unsqueeze(0).to(*_computes_with(imagebind, device, dtype)))[0]


@torch.no_grad()
def encode_text(imagebind: ImageBind, text: str, device: Device = None, dtype: torch.dtype | None = None) -> Tensor:
    """A text -> (D,) float32, its norm the learned text scale (at most 100)."""
    if not text.strip():
        raise ValueError("The text is empty. Write what the reference stands for, for example: a cat.")
    if imagebind.tokenizer is None:
        raise ValueError(
            "This ImageBind came without a tokenizer. Load it with one: load_imagebind(path, tokenizer=...)."
        )
    tokens = tokenize_clip(imagebind.tokenizer, [text], imagebind.dims.text_context)
    device, dtype = _computes_with(imagebind, device, dtype)
    return imagebind.encode_text(tokens.to(device), dtype)[0]


def _computes_with(
    imagebind: ImageBind, device: Device, dtype: torch.dtype | None
) -> tuple[torch.device | str, torch.dtype]:
    weight = imagebind.modality_preprocessors["text"].token_embedding.weight
    return device or weight.device, dtype or weight.dtype


def _check_finite(values: Tensor, what: str) -> None:
    broken = int((~torch.isfinite(values)).sum())
    if broken:
        raise ValueError(f"The {what} holds {broken} values that are NaN or infinite. Look at the node it comes from.")
