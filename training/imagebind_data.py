"""ImageBind's training data from Toyland: pictures, texts that name some of their attributes, sounds that stand for
one."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..datagen import toyland, wording
from ..datagen.sounds import SOUND_KINDS, SUBJECT_SOUNDS, synthesize
from ..datagen.toyland import PLACES, Scene
from ..loading.atomic import atomic_path
from ..models.imagebind import ImageBindDims
from ..stages.preprocess import CLIPS, waveform_to_clips
from .caches import missing
from .digests import drawn_digest

logger = logging.getLogger(__name__)

VALUES = {**toyland.ATTRIBUTES, "place": PLACES}
NAMES = tuple(VALUES)
UNSEEN = -100  # label of the place where there is no subject; what torch's cross entropy leaves out


@dataclass(frozen=True)
class Phrase:
    """A text and the attributes that it names."""

    text: str
    named: frozenset[str]


def labels_of(scene: Scene) -> list[int]:
    """Index of each attribute's value, in the order of NAMES."""
    found = {name: VALUES[name].index(getattr(scene, name)) for name in toyland.ATTRIBUTES}
    return [*found.values(), UNSEEN if scene.subject == "none" else PLACES.index(toyland.place(scene))]


def sound_labels(kind: str) -> list[int]:
    """As ``labels_of`` for a sound: the one attribute that it stands for, the others UNSEEN."""
    name = "subject" if kind in SUBJECT_SOUNDS else "weather"
    return [VALUES[other].index(kind) if other == name else UNSEEN for other in NAMES]


def short_phrases(name: str, value: str) -> tuple[str, ...]:
    """Phrases for a single attribute, as connected texts name it or as a sound."""
    if name == "subject":
        return (f"a {value}", f"a {value}", value, f"the {value}", f"a picture of a {value}", f"the sound of a {value}")
    if name == "weather":
        noun = wording.WEATHER_NOUNS[value]
        return (
            noun,
            f"the sound of {noun}",
            *wording.WEATHER_TEXTS[value],
            *wording.WEATHER_PLACES[value],
            *toyland.WEATHER_WORDINGS[value],
        )
    if name == "style":
        return (*wording.STYLE_TEXTS[value], *wording.STYLE_NAMES[value], *toyland.STYLE_WORDINGS[value])
    return (value, f"the {value}", toyland.WHERE[value])


def draw_phrase(scene: Scene, rng: np.random.Generator) -> Phrase:
    """A text that is true of the scene: a description in varied words, or one attribute alone."""
    if rng.random() < 0.5:
        name = str(rng.choice([name for name in toyland.ATTRIBUTES if getattr(scene, name) != "none"]))
        return Phrase(str(rng.choice(short_phrases(name, getattr(scene, name)))), frozenset({name}))
    text = toyland.describe(scene, rng)
    return Phrase(text, named_in(text, scene))


def named_in(text: str, scene: Scene) -> frozenset[str]:
    """The attributes of the scene that a description of it names."""
    if text == toyland.caption(scene):
        return frozenset(toyland.ATTRIBUTES)
    words = {
        "background": (scene.background,),
        "subject": (scene.subject,),
        "weather": toyland.WEATHER_WORDINGS[scene.weather],
        "style": toyland.STYLE_WORDINGS[scene.style],
        "place": (toyland.PLACE_WORDINGS[toyland.place(scene)],),
    }
    return frozenset(name for name, signs in words.items() if any(sign in text for sign in signs))


def agreement(labels: Tensor, others: Tensor, named: Tensor) -> Tensor:
    """(A, N) and (B, N) labels, (B, N) bool -> (A, B) float: 1 where every attribute that b names is a's too."""
    equal = labels[:, None] == others[None]
    return (equal | ~named[None]).all(dim=-1).float()


def vocabulary_texts(scenes: Sequence[Scene], seed: int) -> Iterator[str]:
    """What the tokenizer is trained on: captions, descriptions, short phrases and the words of instructions."""
    rng = np.random.default_rng(seed)
    for scene in scenes:
        yield toyland.caption(scene)
        yield toyland.describe(scene, rng)
    for name, values in toyland.ATTRIBUTES.items():
        for value in values:
            yield from short_phrases(name, value) * 20
    for table in vars(wording).values():
        for text in _strings(table):
            yield from [text.replace("{", " ").replace("}", " ")] * 20


def _strings(table: object) -> Iterator[str]:
    if isinstance(table, str):
        yield table
    elif isinstance(table, (tuple, list)):
        for part in table:
            yield from _strings(part)
    elif isinstance(table, dict):
        yield from _strings(list(table.values()))


@dataclass(frozen=True)
class SoundBank:
    """The kind of each sound, and ``clips`` (N, 3, 1, mel_bins, mel_frames) float16 on disk: ``waveform_to_clips``."""

    clips: np.ndarray
    kinds: tuple[str, ...]

    def labels(self) -> Tensor:
        return torch.tensor([sound_labels(kind) for kind in self.kinds])


def sound_bank(work: Path, count: int, seed: int, dims: ImageBindDims) -> SoundBank:
    """Synthesise ``count`` sounds from ``seed`` on, or read them back; kinds in turn."""
    kinds = tuple(SOUND_KINDS[index % len(SOUND_KINDS)] for index in range(count))
    key = drawn_digest(kind="sounds", count=count, seed=seed, dims=dims.to_dict())
    path = Path(work) / f"sounds-{count}-{seed}-{key}.npy"
    with missing(path) as is_missing:
        if is_missing:
            with atomic_path(path) as unfinished:
                _synthesise(unfinished, kinds, seed, dims)
    return SoundBank(np.load(path, mmap_mode="r"), kinds)


def _synthesise(path: Path, kinds: Sequence[str], seed: int, dims: ImageBindDims) -> None:
    shape = (len(kinds), CLIPS, 1, dims.mel_bins, dims.mel_frames)
    clips = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    for index, kind in enumerate(tqdm(kinds, desc="synthesising sounds", mininterval=5)):
        waveform, rate = synthesize(kind, seed + index)
        clips[index] = waveform_to_clips(torch.from_numpy(waveform), rate, dims).numpy()
    clips.flush()
