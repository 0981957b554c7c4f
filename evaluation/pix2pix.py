"""InstructPix2Pix as an editor that the evaluation can be handed: it sees the source picture and reads words, nothing
else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..datagen.plain_text import text_instruction, without_base_mark
from ..loading.pix2pix import load_text_diffusion
from ..models.autoencoder import Autoencoder
from ..models.text_diffusion import TextDiffusion
from ..stages.latents import draw_noise
from ..stages.pix2pix.pipeline import TextEditOptions, edit_by_text
from .cases import EditCase, picture_of
from .editor import BATCH, Editor, Outcome

FILES = ("pix2pix.safetensors", "pix2pix_text_encoder.safetensors")
WORDING_STREAM = 3  # of a case's random numbers, for the choices that its words leave open


def has_pix2pix(folder: Path) -> bool:
    """Whether an InstructPix2Pix lies in a folder of files named as in miniature/."""
    return all((folder / name).is_file() for name in FILES)


def load_pix2pix(folder: Path) -> TextDiffusion:
    """The InstructPix2Pix of such a folder."""
    return load_text_diffusion(*(folder / name for name in FILES), source=True)


def can_be_said(case: EditCase) -> bool:
    """Whether the case counts for an editor that reads words alone: every edit once, not once for each way of giving
    it."""
    return case.sample.source is not None and case.modality in ("text", "mixed")


def in_words(case: EditCase) -> str:
    """The instruction of a case without marks. Where nothing but the picture to edit has one, it is the case's own
    sentence; else the same edit asked for in other words, those that the training knows."""
    sample = case.sample
    rng = np.random.default_rng((case.sound_seed, WORDING_STREAM))
    base = sample.references[sample.base_index].mark
    if any(other.mark in sample.instruction for other in sample.references if other.mark != base):
        return text_instruction(rng, sample.source, sample.target)
    return without_base_mark(sample.instruction, base, rng)


def sources_of(cases: Sequence[EditCase]) -> Tensor:
    """(N, 128, 128, 3) in [0, 1]."""
    return torch.stack([picture_of(case.sample.source) for case in cases])


def noise_for(pictures: Tensor, vae: Autoencoder, seed: int) -> Tensor:
    """(N, c, h, w), the same for a seed whatever the batches."""
    return draw_noise((len(pictures), *vae.latent.shape(*pictures.shape[1:3])), seed)


def pix2pix_editor(
    pix2pix: TextDiffusion, vae: Autoencoder, options: TextEditOptions | None = None, seed: int = 0
) -> Editor:
    """Edits in batches; only for cases that `can_be_said`."""

    def edit(cases: Sequence[EditCase]) -> list[Outcome]:
        if unfit := [case for case in cases if not can_be_said(case)]:
            raise ValueError(
                f"InstructPix2Pix cannot be given the {unfit[0].row!r} case {unfit[0].number} as {unfit[0].modality}: "
                "it edits a picture by words. Leave out what is not can_be_said."
            )
        sources = sources_of(cases)
        noise = noise_for(sources, vae, seed)
        pictures = []
        for start in tqdm(range(0, len(cases), BATCH), desc="InstructPix2Pix", mininterval=5):
            part = slice(start, start + BATCH)
            texts = [in_words(case) for case in cases[part]]
            pictures += edit_by_text(pix2pix, vae, sources[part], texts, noise[part], options).cpu()
        return [Outcome(picture, "", case.sample.base_index) for picture, case in zip(pictures, cases, strict=True)]

    return edit
