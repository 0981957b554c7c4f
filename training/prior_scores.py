"""Scores of the refinement prior on held-out pictures and sounds."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..datagen.sounds import SOUND_KINDS
from ..datagen.toyland import ATTRIBUTES, Scene, aesthetic, caption, render, sample_scene
from ..models.imagebind import ImageBind
from ..models.prior import INPUT_NORM, RefinementPrior
from ..stages.any2pix.refine import AESTHETIC_SCORE, both_passes
from ..stages.preprocess import tokenize_clip
from .bank import SceneBank, embed_bank
from .llm_bank import embed_sounds

CLEANLINESS = (0.0, 0.5, 1.0)  # every scene is drawn at all three
NOISE_LEVELS = (0.25, 0.5, 1.0)  # length of the noise relative to the embedding
ASKED_NOISE = 0.5  # of the embeddings that the scores are asked for with
GUIDANCES = (1.0, 2.0, 4.0, 10.0)
ASKED_SCORES = (2.0, 3.0, 4.0, 5.0, 6.0, 6.5, 7.0)

Scores = dict[str, float]


class PriorScores:
    """The measurements and the data they share: held-out pictures, their embeddings, the captions of all
    combinations."""

    def __init__(self, imagebind: ImageBind, scenes: int, seed: int):
        self.imagebind, self.seed = imagebind, seed
        self.gallery = _gallery(scenes, seed)
        self.pictures = F.normalize(embed_bank(imagebind, self.gallery), dim=-1)  # (3 N, D)
        self.aesthetics = torch.tensor([aesthetic(float(c)) for c in self.gallery.cleanliness])
        own = range(CLEANLINESS.index(1.0), len(self.pictures), len(CLEANLINESS))
        self.scenes = [self.gallery.scenes[index] for index in own]
        self.clean = self.pictures[list(own)]  # (N, D)
        self.combinations = list(itertools.product(*ATTRIBUTES.values()))
        texts = [caption(Scene(*combination, seed=0)) for combination in self.combinations]
        tokens = tokenize_clip(imagebind.tokenizer, texts, imagebind.dims.text_context)
        self.captions = F.normalize(imagebind.encode_text(tokens), dim=-1)

    def noisy(self, level: float) -> Tensor:
        """The clean pictures' embeddings with noise of this relative length, unit norm."""
        noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(self.seed % 2**32))
        return F.normalize(self.clean + level * noise / self.clean.shape[1] ** 0.5, dim=-1)

    def restored(self, embeddings: Tensor) -> Scores:
        """`cosine` to the clean picture's own embedding; `attributes`: share whose nearest caption names all four."""
        named = [self.combinations[index] for index in (embeddings @ self.captions.T).argmax(dim=1)]
        right = [combination == scene.combination for combination, scene in zip(named, self.scenes, strict=True)]
        return {"cosine": float((embeddings * self.clean).sum(-1).mean()), "attributes": float(np.mean(right))}

    def aesthetic_near(self, embeddings: Tensor) -> float:
        """Mean aesthetic score of the nearest pictures, one for each embedding."""
        return float(self.aesthetics[(embeddings @ self.pictures.T).argmax(dim=1)].mean())

    def heard(self, embeddings: Tensor, kinds: list[str]) -> float:
        """Share whose nearest clean picture shows the subject or weather of its sound."""
        nearest = [self.scenes[index] for index in (embeddings @ self.clean.T).argmax(dim=1)]
        return float(
            np.mean([kind in (scene.subject, scene.weather) for kind, scene in zip(kinds, nearest, strict=True)])
        )


def guided(prior: RefinementPrior, embeddings: Tensor, source: str, score: float) -> dict[float, Tensor]:
    """Refined embeddings (B, D), unit norm, for every one of GUIDANCES."""
    c, u = both_passes(prior, INPUT_NORM * F.normalize(embeddings, dim=-1), source, "", score)
    return {guidance: F.normalize(u + guidance * (c - u), dim=-1) for guidance in GUIDANCES}


@torch.no_grad()
def held_out_scores(prior: RefinementPrior, imagebind: ImageBind, scenes: int, takes: int, seed: int) -> Scores:
    """All measurements by name. A name holds the input, the guidance ("at") and the quantity.

    "noise L ...": `PriorScores.restored` of clean pictures' embeddings under noise of relative length L, before and
    after the prior. "asked S at G": the aesthetic score of the nearest pictures where score S was asked for.
    "sound": `PriorScores.heard`.
    """
    world, scores = PriorScores(imagebind, scenes, seed), {}
    for level in NOISE_LEVELS:
        noisy = world.noisy(level)
        refined = {f"at {g:g}": out for g, out in guided(prior, noisy, "video", AESTHETIC_SCORE).items()}
        for how, embeddings in {"before": noisy, **refined}.items():
            scores |= {f"noise {level:g} {how} {name}": value for name, value in world.restored(embeddings).items()}
    for asked in ASKED_SCORES:
        for guidance, out in guided(prior, world.noisy(ASKED_NOISE), "video", asked).items():
            scores[f"asked {asked:g} at {guidance:g}"] = world.aesthetic_near(out)
    sounds = embed_sounds(imagebind, range(seed, seed + takes)).flatten(0, 1)  # (kinds x takes, D)
    kinds = [kind for kind in SOUND_KINDS for _ in range(takes)]
    scores["sound before"] = world.heard(F.normalize(sounds, dim=-1), kinds)
    for guidance, out in guided(prior, sounds, "audio", AESTHETIC_SCORE).items():
        scores[f"sound at {guidance:g}"] = world.heard(out, kinds)
    return {name: round(value, 4) for name, value in scores.items()}


def _gallery(count: int, seed: int) -> SceneBank:
    """`count` scenes of the test split, each at every CLEANLINESS in turn."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, "test") for _ in range(count)]
    images = np.stack([render(scene, cleanliness) for scene in scenes for cleanliness in CLEANLINESS])
    repeated = tuple(scene for scene in scenes for _ in CLEANLINESS)
    return SceneBank(images, repeated, np.tile(np.float32(CLEANLINESS), count))
