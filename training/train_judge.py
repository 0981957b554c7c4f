"""Train the attribute judge of the evaluation: python -m any2pix.training.train_judge.

The judge shares no data with the networks it grades. It has its own renders from its own seed, blurred and distorted
so that it stays accurate on pictures from an autoencoder or a diffusion model.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from accelerate import PartialState
from torch import Tensor
from torch.nn import functional as F

from ..datagen import toyland
from ..evaluation.judge import ATTRIBUTES, JUDGE_KIND, verdicts
from ..loading.files import write_network_file
from ..miniature import manifest
from ..models.judge import Judge, JudgeDims
from .bank import SceneBank, scene_bank
from .command import run_command
from .digests import fingerprint
from .loop import fit
from .recipe_files import read_section
from .recipe_types import JudgeRecipe

logger = logging.getLogger(__name__)
LABELS = toyland.ATTRIBUTES


def soften(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """What an autoencoder and a diffusion model do to a picture: blur, grain, a shift of tone. (B, 3, H, W) in [0,
    1]."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    size = pictures.shape[-1]
    groups = []
    for group in pictures.split(8):  # one strength for eight pictures, to resize them in one call
        if uniform(0, 1).item() < 0.6:
            small = int(uniform(0.35, 0.95).item() * size)
            group = F.interpolate(group, (small, small), mode="bilinear", antialias=True, align_corners=False)
            group = F.interpolate(group, (size, size), mode="bicubic", align_corners=False)
        groups.append(group)
    pictures = torch.cat(groups)
    batch = len(pictures)
    top, left = torch.randint(0, 13, (2,), generator=generator).tolist()  # a shift of at most 6 pixels
    pictures = F.pad(pictures, (6, 6, 6, 6), mode="replicate")[..., top : top + size, left : left + size]
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    pictures = (pictures - mean) * uniform(0.8, 1.15, batch, 1, 1, 1) + mean + uniform(-0.06, 0.06, batch, 3, 1, 1)
    fine = torch.randn(pictures.shape, generator=generator)
    coarse = F.interpolate(
        torch.randn((batch, 3, size // 8, size // 8), generator=generator), (size, size), mode="bilinear"
    )
    pictures = pictures + uniform(0, 0.03, batch, 1, 1, 1) * fine + uniform(0, 0.06, batch, 1, 1, 1) * coarse
    return pictures.clamp(0, 1)


def label_rows(bank: SceneBank) -> Tensor:
    """(N, 4) int: the index of each attribute's label."""
    return torch.tensor([[LABELS[name].index(getattr(scene, name)) for name in ATTRIBUTES] for scene in bank.scenes])


def accuracy(judge: Judge, bank: SceneBank) -> dict[str, float]:
    """Share of right answers on undisturbed pictures, per attribute and for all four together."""
    pictures = bank.batch(range(len(bank.scenes))).movedim(1, -1)
    answers = verdicts(judge, pictures)
    right = torch.tensor(
        [
            [answer[name] == getattr(scene, name) for name in ATTRIBUTES]
            for answer, scene in zip(answers, bank.scenes, strict=True)
        ]
    ).float()
    return {**dict(zip(ATTRIBUTES, right.mean(0).tolist(), strict=True)), "all": right.prod(1).mean().item()}


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train, grade on held-out seeds and combinations, write `out`/judge.safetensors; returns the accuracies."""
    recipe = read_section(JudgeRecipe, config)
    data, loop = recipe.data, recipe.loop
    bank = scene_bank(work, data.pictures, data.seed, "train", data.messy_share)
    held_out = scene_bank(work, data.held_out_pictures, data.seed + 1, "test")
    labels = label_rows(bank)

    def make_batch(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(labels), (loop.batch_size,), generator=generator).sort().values
        pictures = bank.batch(index)
        flipped = torch.rand(len(index), generator=generator) < 0.5
        pictures[flipped] = pictures[flipped].flip(-1)
        return soften(pictures, generator), labels[index]

    torch.manual_seed(loop.seed)
    heads = tuple((name, LABELS[name]) for name in ATTRIBUTES)
    judge = Judge(JudgeDims(heads=heads, widths=recipe.model.widths))
    judge = fit(
        "judge", judge, make_batch, lambda net, batch: net.training_loss(*batch), loop, work, fingerprint(config)
    ).module
    if not PartialState().is_main_process:
        return {}
    scores = accuracy(judge, held_out)
    logger.info("judge on held-out seeds and combinations: %s", scores)
    write_network_file(
        Path(out) / manifest.JUDGE,
        JUDGE_KIND,
        judge.state_dict(),
        judge.dims.to_dict(),
        extra_metadata={"any2pix.accuracy": json.dumps(scores)},
        dtype=torch.float16,
    )
    return scores


if __name__ == "__main__":
    run_command(train, "judge")
