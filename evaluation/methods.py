"""Editing methods, from cases to pictures: the pack's two methods, SDEdit, and two bounds.

Every method draws its noise from the seed and the scene, so that it paints the same edit the same way in any run, and
two methods that paint a scene from noise begin with the same one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ..models.autoencoder import Autoencoder
from ..stages.any2pix.options import EditOptions
from ..stages.any2pix.pipeline import EditJob, EditResult, edit_pictures
from ..stages.latents import decode_pictures, draw_noise, encode_pictures
from ..stages.pix2pix.pipeline import SDEditOptions, TextEditOptions, edit_by_text, sdedit
from ..stages.steps import chunks_alike
from .case import Case, Method, Output
from .checkpoint import Checkpoint
from .options import options_from

logger = logging.getLogger(__name__)
COPY, PAINTER, ANY2PIX, PIX2PIX, SDEDIT = "copy", "painter", "any2pix", "pix2pix", "sdedit"
TITLES = {
    COPY: "copying",
    PAINTER: "perfect painter",
    ANY2PIX: "InstructAny2Pix",
    PIX2PIX: "InstructPix2Pix",
    SDEDIT: "SDEdit",
}
DEFAULTS: dict[str, Any] = {ANY2PIX: EditOptions(), PIX2PIX: TextEditOptions(), SDEDIT: SDEditOptions()}
SIZE = (128, 128)  # height and width in pixels of a picture that is painted from noise
GREY = 0.5  # the picture of an answer that no edit could be read from


def build_method(name: str, checkpoint: Checkpoint, seed: int, options: Sequence[str], setting: str = "") -> Method:
    """`name`: a key of TITLES. `options`: NAME=VALUE, those that are not the defaults; `setting`: which of them are
    swept. ValueError for an unknown name or option."""
    if name not in TITLES:
        raise ValueError(f"There is no method {name!r}. Choose from: {', '.join(TITLES)}.")
    if name in (COPY, PAINTER):
        if options:
            raise ValueError(f"The method {name!r} has no options, but {options[0]!r} was given. Leave it out.")
        takes, edit = (has_source, copied) if name == COPY else (has_target, painter(checkpoint))
        return Method(TITLES[name], "", {}, takes, edit)
    chosen = options_from(options, DEFAULTS[name])
    takes, editor = {
        ANY2PIX: (lambda case: True, any2pix),
        PIX2PIX: (lambda case: has_source(case) and bool(case.words), pix2pix),
        SDEDIT: (lambda case: has_source(case) and bool(case.target_caption), sdedited),
    }[name]
    return Method(TITLES[name], setting, asdict(chosen), takes, editor(checkpoint, chosen, seed))


def has_source(case: Case) -> bool:
    return case.source is not None


def has_target(case: Case) -> bool:
    return case.target is not None


def copied(cases: Sequence[Case]) -> list[Output]:
    """The lower bound: the source as it is."""
    return [Output(case.source) for case in cases]


def painter(checkpoint: Checkpoint) -> Callable[[Sequence[Case]], list[Output]]:
    """The upper bound: the target itself, through the autoencoder and back."""

    def edit(cases: Sequence[Case]) -> list[Output]:
        pictures = _by_size(
            [case.target for case in cases],
            lambda part: decode_pictures(checkpoint.vae, encode_pictures(checkpoint.vae, torch.stack(part))),
        )
        return [Output(picture) for picture in pictures]

    return edit


def pix2pix(checkpoint: Checkpoint, options: TextEditOptions, seed: int) -> Callable[[Sequence[Case]], list[Output]]:
    """InstructPix2Pix: the source picture and the instruction in words."""

    def edit(cases: Sequence[Case]) -> list[Output]:
        texts = [case.words for case in cases]
        return _by_words(
            cases, checkpoint.vae, seed, texts,
            lambda *given: edit_by_text(checkpoint.pix2pix, checkpoint.vae, *given, options),
        )  # fmt: skip

    return edit


def sdedited(checkpoint: Checkpoint, options: SDEditOptions, seed: int) -> Callable[[Sequence[Case]], list[Output]]:
    """SDEdit: the source picture with noise, painted on with the caption of the result."""

    def edit(cases: Sequence[Case]) -> list[Output]:
        captions = [case.target_caption for case in cases]
        return _by_words(
            cases, checkpoint.vae, seed, captions,
            lambda *given: sdedit(checkpoint.text_diffusion, checkpoint.vae, *given, options),
        )  # fmt: skip

    return edit


def _by_words(
    cases: Sequence[Case], vae: Autoencoder, seed: int, texts: Sequence[str], paint_words: Callable[..., Tensor]
) -> list[Output]:
    """`paint_words(pictures, texts, noise)` on batches of one size."""
    given = [
        (case.source, text, noise_of(case, case.source.shape, vae, seed))
        for case, text in zip(cases, texts, strict=True)
    ]

    def painted(part: Sequence[tuple[Tensor, str, Tensor]]) -> Tensor:
        sources, words, noise = zip(*part, strict=True)
        return paint_words(torch.stack(sources), list(words), torch.stack(noise))

    pictures = _by_size(given, painted, size=lambda item: item[0].shape)
    return [Output(picture) for picture in pictures]


def any2pix(checkpoint: Checkpoint, options: EditOptions, seed: int) -> Callable[[Sequence[Case]], list[Output]]:
    """InstructAny2Pix: the instruction with its references."""

    def edit(cases: Sequence[Case]) -> list[Output]:
        jobs = [EditJob(case.instruction, case.references, seed=seed_of(case, seed)) for case in cases]
        found = edit_pictures(checkpoint.networks, jobs, options)
        return [_output(case, result) for case, result in zip(cases, found, strict=True)]

    return edit


def _output(case: Case, result: EditResult | ValueError) -> Output:
    if isinstance(result, ValueError):
        logger.warning("%s: %s", case.name, result)  # the case failed, and is counted so
        size = SIZE if case.source is None else case.source.shape[:2]
        return Output(torch.full((*size, 3), GREY), planned=False)
    return Output(result.image, True, result.plan.caption, result.base_index)


def noise_of(case: Case, shape: Sequence[int], vae: Autoencoder, seed: int) -> Tensor:
    """Unit-variance noise (c, h, w) for a picture of `shape` (H, W, 3), the same for every case of a scene."""
    return draw_noise(vae.latent.shape(*shape[:2]), seed_of(case, seed))


def seed_of(case: Case, seed: int) -> int:
    """A seed for the scene of a case."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{case.scene}".encode()).digest()[:7], "big")


def _by_size(
    items: Sequence[Any], painted: Callable[[list[Any]], Tensor], size: Callable[[Any], Any] = lambda item: item.shape
) -> list[Tensor]:
    """`painted(items of one size)` -> their pictures (B, H, W, 3), put back in the order of `items`, on the CPU."""
    pictures: dict[int, Tensor] = {}
    for places in chunks_alike(range(len(items)), lambda place: size(items[place])):
        found = painted([items[place] for place in places])
        pictures |= zip(places, found.float().cpu(), strict=True)
    return [pictures[place] for place in range(len(items))]
