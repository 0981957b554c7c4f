"""What both sides of benchmarks/against_upstream.py are given: sizes, prompts, pictures, sounds, latents."""

from __future__ import annotations

import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SEED = 0
FIRST_TOKEN = 10  # lower ids are left to special tokens
VIDEO = 7  # the id that stands for <video>
PICTURE_SIDE = 512
SOUND_SECONDS, SOUND_RATE = 5.0, 44_100
SCORE, PRIOR_GUIDANCE = 6.5, 10.0  # the released call of the prior
EDIT_WEIGHT, REFINED_WEIGHT, NORM = 0.4, 1.0, 20.0  # the released mix
CHECK_TOKENS = 6  # greedy tokens whose states are compared before anything is timed


@dataclass(frozen=True)
class LLMTask:
    """An answer of exactly ``new_tokens``; by default the width of Vicuna-7B in four layers, at the published
    decoding."""

    layers: int = 4
    width: int = 4096
    intermediate: int = 11008
    heads: int = 32
    vocabulary: int = 2048
    embed: int = 1024
    prompt: int = 64
    references: int = 2
    new_tokens: int = 60
    temperature: float = 0.3

    @property
    def llama(self) -> dict[str, Any]:
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        }


@dataclass(frozen=True)
class EncodeTask:
    """``pictures`` and ``sounds`` from their files to embeddings; by default the widths of imagebind_huge in few
    blocks."""

    pictures: int = 1
    sounds: int = 0
    embed: int = 1024
    vision_width: int = 1280
    vision_blocks: int = 4
    vision_heads: int = 16
    audio_width: int = 768
    audio_blocks: int = 4
    audio_heads: int = 12


@dataclass(frozen=True)
class PriorTask:
    """One refinement with guidance; by default the widths of the release in few layers."""

    embed: int = 1024
    width: int = 1024
    layers: int = 6
    heads: int = 16
    clip_width: int = 1024
    clip_layers: int = 6
    clip_heads: int = 16


@dataclass(frozen=True)
class PaintTask:
    """Plain DDIM inversion, the noise mix and sampling with guidance, on an SDXL-shaped UNet that reads one token."""

    widths: tuple[int, ...] = (64, 128, 256)
    transformers: tuple[int, ...] = (0, 1, 2)
    embed: int = 1024
    context: int = 256
    pooled: int = 256
    side: int = 32  # of the latent; a picture has 8 times as many pixels
    steps: int = 10
    cfg: float = 10.0
    alpha: float = 0.7


@dataclass(frozen=True)
class EditTask:
    """A whole edit; ``second``: the same picture and instruction once more with another alpha."""

    llm: LLMTask = field(default_factory=LLMTask)
    encode: EncodeTask = field(default_factory=lambda: EncodeTask(sounds=1))
    prior: PriorTask = field(default_factory=PriorTask)
    paint: PaintTask = field(default_factory=PaintTask)
    second: bool = False

    def __post_init__(self) -> None:
        shown = self.encode.pictures + self.encode.sounds
        if self.llm.references != shown:
            raise ValueError(f"The LLM is shown {self.llm.references} references, but {shown} are encoded.")


def question(task: LLMTask) -> tuple[Tensor, Tensor]:
    """Prompt ids (L,) with a <video> for each reference, and the references (N, D)."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(FIRST_TOKEN, task.vocabulary, (task.prompt,), generator=generator)
    ids[marks(task)] = VIDEO
    return ids, torch.randn(task.references, task.embed, generator=generator)


def marks(task: LLMTask) -> list[int]:
    """Places of the references, spread over the prompt."""
    return [(index + 1) * task.prompt // (task.references + 1) for index in range(task.references)]


def write_pictures(folder: Path, count: int) -> list[Path]:
    """PNG files, PICTURE_SIDE square."""
    paths = []
    for index in range(count):
        small = np.random.default_rng(SEED + index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        paths.append(folder / f"{index}.png")
        Image.fromarray(small).resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def write_sounds(folder: Path, count: int) -> list[Path]:
    """16-bit mono WAV files."""
    paths = []
    for index in range(count):
        noise = np.random.default_rng(SEED + index).normal(0, 3000, int(SOUND_SECONDS * SOUND_RATE))
        paths.append(folder / f"{index}.wav")
        with wave.open(str(paths[-1]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SOUND_RATE)
            file.writeframes(noise.clip(-32768, 32767).astype("<i2").tobytes())
    return paths


def source_latent(task: PaintTask) -> Tensor:
    """(1, 4, side, side), unit variance."""
    return torch.randn(1, 4, task.side, task.side, generator=torch.Generator().manual_seed(SEED))


def noise_for(task: PaintTask) -> Tensor:
    return torch.randn(1, 4, task.side, task.side, generator=torch.Generator().manual_seed(SEED + 1))


def embedding(size: int) -> Tensor:
    """(D,) of length 1, what the LLM might have predicted."""
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(SEED + 2))
    return drawn / drawn.norm()
