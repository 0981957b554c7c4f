"""Pictures, sounds and texts as the published ImageBind was shown them (facebookresearch/ImageBind, data.py)."""

import html
import logging
import unicodedata
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from ..models.imagebind import ImageBindDims
from ..models.text_diffusion import TextDiffusion
from ..models.text_encoder import JoinedTextEncoders, TextEncoder
from ..models.two_view_diffusion import TwoViewDiffusion
from .characters import well_formed
from .sound import filter_bank, resample, resampled_length

logger = logging.getLogger(__name__)

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Longer pictures than this times their height are cut first: what lies further out never reaches the centre crop.
WIDEST = 8

SAMPLE_RATE = 16_000  # Hz
CLIPS = 3  # per sound
CLIP_SECONDS = 2
FRAME = 25 * SAMPLE_RATE // 1000  # 25 ms
FRAME_SHIFT = 10 * SAMPLE_RATE // 1000
MEL_MEAN, MEL_STD = -4.268, 9.138  # of AudioSet, as published

START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"
LONGEST_TOKEN = 128  # characters that one of CLIP's tokens is granted
# The quotation marks that ftfy, with which ImageBind cleans a text, makes straight.
STRAIGHT_QUOTES = dict.fromkeys((0x2BC, *range(0x2018, 0x201C)), "'") | dict.fromkeys(range(0x201C, 0x2020), '"')


def image_to_tensor(image: Tensor, size: int) -> Tensor:
    """(B, H, W, C) in [0, 1] -> (B, 3, size, size): shorter side to ``size``, centre crop, CLIP mean and deviation.

    C is 3 (RGB), 1 (grey), 2 (grey and alpha) or 4 (RGBA), the last two laid on white.
    """
    pixels = as_rgb(image.float()).movedim(-1, 1)
    pixels = _cut_long_side(pixels)
    height, width = pixels.shape[-2:]
    short = min(height, width)
    target = (int(size * height / short), int(size * width / short))
    if target != (height, width):
        pixels = _resize(pixels, target)
    top, left = (round((side - size) / 2) for side in target)
    pixels = pixels[..., top : top + size, left : left + size].clamp(0, 1)
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std


def waveform_to_clips(waveform: Tensor, sample_rate: int, dims: ImageBindDims) -> Tensor:
    """(C, T) in [-1, 1] at any rate in Hz -> (3, 1, mel_bins, mel_frames): three clips of 2 s, evenly from start to
    end.

    A sound shorter than 2 s gives the same clip three times, filled up with frames of zeros. Below one frame (25 ms):
    ValueError. Only what the clips hold is resampled: an hour takes no longer than six seconds.
    """
    check_length(waveform.shape[1], sample_rate)
    clips = []
    for clip in _cut_clips(waveform, sample_rate):
        clip -= clip.mean()  # in place, as published: where clips overlap, the next one starts from the shifted samples
        clips.append(_log_mel(clip, dims))
    return torch.stack(clips)


def clip_bounds(samples: int, sample_rate: int) -> list[tuple[int, int]]:
    """First and last sample (exclusive, it may lie beyond the end) at SAMPLE_RATE of each clip of a sound.

    Rounded as the published sampler does it: it divides the spare seconds, a float, as an exact fraction and cuts to
    whole samples, so a clip can start a sample early.
    """
    length = resampled_length(samples, sample_rate, SAMPLE_RATE)
    spare = Fraction(max(length / SAMPLE_RATE - CLIP_SECONDS, 0))  # s
    starts = [spare / (CLIPS - 1) * index for index in range(CLIPS)]
    return [(int(start * SAMPLE_RATE), int((start + CLIP_SECONDS) * SAMPLE_RATE)) for start in starts]


def check_length(samples: int, sample_rate: int, name: str = "The sound") -> None:
    """ValueError where a sound is too short for one frame."""
    length = resampled_length(samples, sample_rate, SAMPLE_RATE)
    if length < FRAME:
        raise ValueError(
            f"{name} is {1000 * length / SAMPLE_RATE:.0f} ms long; at least {1000 * FRAME // SAMPLE_RATE} ms are "
            f"needed, and {CLIP_SECONDS} s are best. Use a longer sound."
        )


def tokens_for(encoder: TextEncoder | JoinedTextEncoders, texts: Sequence[str]) -> Tensor:
    """Texts -> (B, L) int64 as the encoder reads them; for joined encoders (B, 2, L), a row for each."""
    if isinstance(encoder, JoinedTextEncoders):
        return torch.stack([tokens_for(part, texts) for part in encoder.parts], dim=1)
    return tokenize_clip(encoder.tokenizer, texts, encoder.dims.max_position_embeddings, encoder.dims.padding)


def tokenize_clip(tokenizer: Tokenizer, texts: Sequence[str], context: int, padding: int = 0) -> Tensor:
    """Texts -> (B, context) int64: start, the text's tokens (cut where they are too many), end of text, ``padding``."""
    start, end = tokenizer.token_to_id(START_OF_TEXT), tokenizer.token_to_id(END_OF_TEXT)
    tokens = torch.full((len(texts), context), padding)
    for row, text in zip(tokens, texts, strict=True):
        plain = _plain(text)[: context * LONGEST_TOKEN]  # a text of megabytes would take the tokenizer seconds
        ids = [start, *tokenizer.encode(plain, add_special_tokens=False).ids]
        if len(ids) > context - 1:
            logger.warning("The text %r is too long: only its first %d tokens are read.", text[:60], context - 2)
        ids = [*ids[: context - 1], end]
        row[: len(ids)] = torch.tensor(ids)
    return tokens


def as_rgb(image: Tensor) -> Tensor:
    """(..., C) -> (..., 3) as it is seen: a grey picture (C = 1) in three channels, a cut-out one (C = 2 grey, 4) on
    white."""
    channels = image.shape[-1]
    if channels not in (1, 2, 3, 4):
        raise ValueError(f"A picture has 1 to 4 channels, this one has {channels}. Convert it to RGB first.")
    if channels in (2, 4):
        alpha = image[..., -1:]
        image = image[..., :-1] * alpha + (1 - alpha)
    return image.expand(*image.shape[:-1], 3) if channels < 3 else image


def _cut_long_side(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[-2:]
    longest = WIDEST * min(height, width)
    top, left = (max(side - longest, 0) // 2 for side in (height, width))
    return pixels[..., top : height - top, left : width - left]


def _resize(pixels: Tensor, target: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> (B, 3, *target), bicubic in 8 bits by Pillow: the published network's own resize.

    A bicubic resize in float differs from it by rounding, which moves an embedding by 3e-4 of its length.
    """
    levels = pixels.clamp(0, 1).mul_(255).round_().to("cpu", torch.uint8).movedim(1, -1)
    resized = [
        np.asarray(Image.fromarray(rows.numpy()).resize(target[::-1], Image.Resampling.BICUBIC)) for rows in levels
    ]
    return torch.from_numpy(np.stack(resized)).to(pixels.device).movedim(-1, 1).to(pixels) / 255


def _cut_clips(waveform: Tensor, sample_rate: int) -> list[Tensor]:
    """(C, T) -> the three clips at SAMPLE_RATE, (at most 2 s,) each; views of the same samples where they overlap."""
    bounds = clip_bounds(waveform.shape[1], sample_rate)
    length = resampled_length(waveform.shape[1], sample_rate, SAMPLE_RATE)
    if length <= CLIPS * CLIP_SECONDS * SAMPLE_RATE:
        whole = resample(waveform, sample_rate, SAMPLE_RATE)
        return [whole[start:end] for start, end in bounds]
    return [resample(waveform, sample_rate, SAMPLE_RATE, start, min(end, length)) for start, end in bounds]


def _log_mel(clip: Tensor, dims: ImageBindDims) -> Tensor:
    """(T,) at SAMPLE_RATE, from one frame to 2 s, of mean 0 -> (1, mel_bins, mel_frames), normalised."""
    bands = filter_bank(clip, SAMPLE_RATE, dims.mel_bins, FRAME, FRAME_SHIFT).T[:, : dims.mel_frames]
    bands = F.pad(bands, (0, dims.mel_frames - bands.shape[1]))
    return ((bands - MEL_MEAN) / MEL_STD).unsqueeze(0)


def _plain(text: str) -> str:
    """Cleaned as published: HTML entities and curly quotes made plain, composed letters, lower case, single spaces.

    Also the tokenizer's own marks are taken apart, so that a text cannot end itself.
    """
    text = well_formed(text)
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(text)).translate(STRAIGHT_QUOTES))
    text = " ".join(text.lower().split())
    for mark in (START_OF_TEXT, END_OF_TEXT):
        text = text.replace(mark, mark.replace("|", " | "))
    return text


def tokens_of(diffusion: TextDiffusion | TwoViewDiffusion, texts: Sequence[str]) -> Tensor:
    """(B, L) tokens, as the network's text encoder takes them; (B, 2, L) where it has two."""
    encoder = diffusion.text_encoder
    return tokens_for(encoder, texts).to(next(encoder.parameters()).device)
