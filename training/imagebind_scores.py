"""Scores of an ImageBind trained on Toyland: retrieval among pictures, texts and sounds, without a trained
classifier."""

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..datagen.sounds import SOUND_KINDS, SUBJECT_SOUNDS
from ..datagen.toyland import ATTRIBUTES, HELD_OUT, Scene, caption
from ..datagen.wording import WEATHER_NOUNS
from ..models.imagebind import ImageBind
from ..stages.preprocess import tokenize_clip
from .bank import SceneBank, embed_bank
from .imagebind_data import SoundBank


@torch.no_grad()
def readout_scores(imagebind: ImageBind, bank: SceneBank, sounds: SoundBank) -> dict[str, float]:
    """Shares of right answers, by nearest neighbour in the embedding space.

    ``background`` .. ``style``, ``all`` (and ``all, new combinations``): a picture's attributes, from the nearest
    of all 504 captions. ``sound``: a sound's kind, from the nearest of ten short texts. ``sound to picture``: the
    nearest picture shows the sound's kind. ``text to picture``: so does the nearest picture of that short text.
    """
    pictures = embed_bank(imagebind, bank)
    heard = F.normalize(embed_sounds(imagebind, sounds), dim=-1)
    combinations = list(itertools.product(*ATTRIBUTES.values()))
    captions = _texts(imagebind, [caption(Scene(*combination, seed=0)) for combination in combinations])
    answers = [combinations[i] for i in (pictures @ captions.T).argmax(dim=1)]
    right = np.array(
        [
            [a == b for a, b in zip(answer, scene.combination, strict=True)]
            for answer, scene in zip(answers, bank.scenes, strict=True)
        ]
    )
    new = np.array([scene.combination in HELD_OUT for scene in bank.scenes])
    words = _texts(imagebind, [f"a {kind}" if kind in SUBJECT_SOUNDS else WEATHER_NOUNS[kind] for kind in SOUND_KINDS])
    said = [SOUND_KINDS[i] for i in (heard @ words.T).argmax(dim=1)]
    return {
        **{name: float(share) for name, share in zip(ATTRIBUTES, right.mean(axis=0), strict=True)},
        "all": float(right.all(axis=1).mean()),
        "all, new combinations": float(right[new].all(axis=1).mean()),
        "sound": float(np.mean([a == b for a, b in zip(said, sounds.kinds, strict=True)])),
        "sound to picture": _finds_picture(heard, sounds.kinds, pictures, bank),
        "text to picture": _finds_picture(words, SOUND_KINDS, pictures, bank),
    }


@torch.no_grad()
def embed_sounds(imagebind: ImageBind, sounds: SoundBank, batch_size: int = 32) -> Tensor:
    """(N, D), the clips of each sound averaged."""
    chunks = range(0, len(sounds.kinds), batch_size)
    return torch.cat([imagebind.encode_audio(torch.tensor(sounds.clips[i : i + batch_size]).float()) for i in chunks])


def _texts(imagebind: ImageBind, texts: list[str]) -> Tensor:
    tokens = tokenize_clip(imagebind.tokenizer, texts, imagebind.dims.text_context)
    return F.normalize(imagebind.encode_text(tokens), dim=-1)


def _finds_picture(queries: Tensor, kinds: tuple[str, ...], pictures: Tensor, bank: SceneBank) -> float:
    nearest = [bank.scenes[i] for i in (queries @ pictures.T).argmax(dim=1)]
    return float(np.mean([kind in (scene.subject, scene.weather) for kind, scene in zip(kinds, nearest, strict=True)]))
