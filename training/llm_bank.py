"""Embeddings to train the instruction LLM on: families of Toyland pictures, sounds and texts.

A family is one place and one seed under several subjects, weathers and styles, so every ordered pair in it is an edit
whose source and target are both at hand. What a reference shows only matters by its attributes: any picture of the same
combination, any sound of the same kind will do. So a few thousand families give endless samples, and an epoch never
repeats one.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..datagen.instructions import edits_between
from ..datagen.sounds import SOUND_KINDS, synthesize
from ..datagen.toyland import HELD_OUT, STYLES, SUBJECTS, WEATHERS, Scene, sample_scene
from ..models.imagebind import ImageBind
from ..stages.preprocess import tokenize_clip, waveform_to_clips
from .bank import Drawn, SceneBank, drawn_bank, embed_bank
from .caches import cached
from .digests import drawn_digest

logger = logging.getLogger(__name__)

# Pictures of a family: the scene, it without subject, three that differ in one attribute, one in two or three.
FAMILY = 6


@dataclass(frozen=True)
class EmbeddingBank:
    """Unit-norm embeddings: ``pictures`` (N, D) of ``scenes``, ``sounds`` (kinds, takes, D) in the order of
    SOUND_KINDS.

    ``pairs[n]`` (P, 2): picture indices of the edits that change n + 1 attributes.
    """

    scenes: tuple[Scene, ...]
    pictures: Tensor
    sounds: Tensor
    pairs: tuple[np.ndarray, ...]
    by_combination: dict[tuple[str, str, str, str], list[int]]


def family_bank(work: Path, families: int, seed: int) -> SceneBank:
    """Draw (or read back) ``families`` families of the train split; picture i belongs to family i // FAMILY."""
    key = drawn_digest(kind="families", families=families, seed=seed)

    def choose() -> list[Drawn]:
        rng = np.random.default_rng(seed)
        return [(scene, 1.0) for _ in range(families) for scene in draw_family(rng)]

    return drawn_bank(Path(work) / f"families-{families}-{seed}-{key}", key, choose)


def draw_family(rng: np.random.Generator) -> list[Scene]:
    """FAMILY scenes of one background and seed, no two alike, none of a held-out combination."""
    while True:
        first = replace(sample_scene(rng, "train"), subject=str(rng.choice(SUBJECTS[1:])))
        subject, weather, style = (
            str(rng.choice([value for value in values if value not in ("none", getattr(first, name))]))
            for name, values in (("subject", SUBJECTS), ("weather", WEATHERS), ("style", STYLES))
        )
        several = {"subject": str(rng.choice(["none", subject])), "weather": weather, "style": style}
        if rng.random() < 0.6:
            del several[str(rng.choice(list(several)))]
        changes = ({}, {"subject": "none"}, {"subject": subject}, {"weather": weather}, {"style": style}, several)
        scenes = [replace(first, **change) for change in changes]
        if not HELD_OUT & {scene.combination for scene in scenes}:
            return scenes


def embedding_bank(
    imagebind: ImageBind, weights: Path, work: Path, families: int, takes: int, seed: int
) -> EmbeddingBank:
    """Embed (or read back) the pictures of ``families`` families and ``takes`` sounds of every kind."""
    bank = family_bank(work, families, seed)

    def embed() -> tuple[Tensor, Tensor]:
        return F.normalize(embed_bank(imagebind, bank), dim=-1), embed_sounds(imagebind, range(seed, seed + takes))

    pictures, sounds = cached(work, f"llm-embeddings-{takes}-sounds", bank.key, weights, embed)
    by_combination = defaultdict(list)
    for index, scene in enumerate(bank.scenes):
        by_combination[scene.combination].append(index)
    return EmbeddingBank(bank.scenes, pictures, sounds, edit_pairs(bank.scenes), dict(by_combination))


@torch.no_grad()
def embed_sounds(imagebind: ImageBind, seeds: Sequence[int]) -> Tensor:
    """A sound of every kind for every seed -> (kinds, seeds, D), unit norm."""
    rows = []
    for kind in tqdm(SOUND_KINDS, desc="embedding sounds", mininterval=5):
        clips = [waveform_to_clips(*_waveform(kind, seed), imagebind.dims) for seed in seeds]
        rows.append(
            torch.cat([imagebind.encode_audio(torch.stack(clips[i : i + 16])) for i in range(0, len(clips), 16)])
        )
    return F.normalize(torch.stack(rows), dim=-1)


@torch.no_grad()
def embed_text(imagebind: ImageBind, text: str) -> Tensor:
    """(D,), unit norm."""
    tokens = tokenize_clip(imagebind.tokenizer, [text], imagebind.dims.text_context)
    return F.normalize(imagebind.encode_text(tokens)[0], dim=-1)


def _waveform(kind: str, seed: int) -> tuple[Tensor, int]:
    samples, rate = synthesize(kind, seed)
    return torch.from_numpy(samples), rate


def edit_pairs(scenes: Sequence[Scene]) -> tuple[np.ndarray, ...]:
    """Ordered pairs within each family, sorted by how many attributes they change."""
    found: tuple[list, ...] = ([], [], [])
    for start in range(0, len(scenes), FAMILY):
        members = range(start, start + FAMILY)
        for source in members:
            for target in members:
                changed = len(edits_between(scenes[source], scenes[target]))
                if changed:
                    found[changed - 1].append((source, target))
    return tuple(np.array(pairs) for pairs in found)
