"""Toyland, the miniature world: scenes of a subject in a place, in a weather, in a drawing style.

A scene is four attributes and a seed. Every element of the picture draws its jitter from its own stream of the
seed, so changing one attribute of a scene leaves everything else in the picture where it was.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from .drawing import CANVAS, SIZE, Brush, Tones, grown, mess, soften
from .scenery import falling_marks, mark_colour, paint_land, paint_sky, paint_sky_sign
from .subjects import paint_subject

BACKGROUNDS = ("meadow", "beach", "desert", "mountains", "city", "forest")
SUBJECTS = ("none", "cat", "bird", "car", "robot", "frog", "balloon")
WEATHERS = ("sunny", "rain", "snow", "night")
STYLES = ("flat", "pastel", "ink")
ATTRIBUTES = {"background": BACKGROUNDS, "subject": SUBJECTS, "weather": WEATHERS, "style": STYLES}
PLACES = ("left", "middle", "right")

TEST_SEEDS_FROM = 2**31  # seeds below are for training, from here on for testing
SUBJECT_UNIT = 72.0  # canvas pixels of half a subject: with arms and tails 55-65 % of the picture's width
GROUND_LINE = 236.0  # canvas row on which subjects stand
PLACE_STEP = 27.0  # canvas pixels between left, middle and right

# One stream of the scene's seed for each element.
STREAM_SKY, STREAM_LAND, STREAM_PLACE, STREAM_SUBJECT, STREAM_SIGN, STREAM_MARKS, STREAM_MESS = range(7)


@dataclass(frozen=True)
class Scene:
    """What one picture shows. `seed` (>= 0) decides place, size, tint and every other jitter."""

    background: str
    subject: str
    weather: str
    style: str
    seed: int

    def __post_init__(self):
        for name, choices in ATTRIBUTES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"Toyland has no {name} {getattr(self, name)!r}. Choose one of: {', '.join(choices)}.")
        if self.seed < 0:
            raise ValueError(f"The seed of a scene is {self.seed}. Give a whole number of 0 or more.")

    @property
    def combination(self) -> tuple[str, str, str, str]:
        """(background, subject, weather, style)."""
        return self.background, self.subject, self.weather, self.style

    def stream(self, element: int) -> np.random.Generator:
        """The random numbers of one element of this scene."""
        return np.random.default_rng((self.seed, element))


def place(scene: Scene) -> str:
    """Where the subject stands (or would stand): left, middle or right. Depends on the seed alone."""
    return PLACES[int(scene.stream(STREAM_PLACE).integers(3))]


def _subject_layer(scene: Scene, tones: Tones) -> Image.Image:
    """The subject alone on a transparent canvas."""
    rng = scene.stream(STREAM_SUBJECT)
    unit = SUBJECT_UNIT * rng.uniform(0.92, 1.08)
    x = CANVAS / 2 + PLACE_STEP * (PLACES.index(place(scene)) - 1) + rng.uniform(-5, 5)
    ground = GROUND_LINE + rng.uniform(-5, 3)
    layer = Image.new("RGBA", (CANVAS, CANVAS))
    brush = Brush(layer, tones, "subject", (x, ground - unit), unit)
    paint_subject(brush, scene.subject, hue=rng.uniform(-9, 9), gain=rng.uniform(0.94, 1.04))
    return layer


def render(scene: Scene, cleanliness: float = 1.0) -> np.ndarray:
    """Draw a scene -> (128, 128, 3) uint8 RGB. Below `cleanliness` 1 the drawing gets messier, in proportion."""
    if not 0.0 <= cleanliness <= 1.0:
        raise ValueError(f"The cleanliness of a drawing is {cleanliness}. Give a number from 0 (messy) to 1 (clean).")
    tones = Tones(scene.weather, scene.style)
    canvas = paint_sky(scene.background, tones, scene.stream(STREAM_SKY))
    # The sun or moon keeps to the side that the subject leaves free, whether there is a subject or not.
    rng = scene.stream(STREAM_SIGN)
    side = {"left": 1, "right": -1}.get(place(scene)) or int(rng.choice((-1, 1)))
    paint_sky_sign(canvas, tones, side, rng)
    paint_land(canvas, scene.background, tones, scene.stream(STREAM_LAND))
    marks = falling_marks(scene.weather, scene.stream(STREAM_MARKS))
    if marks:
        canvas.paste(mark_colour(tones), mask=marks[0])
    if scene.subject != "none":
        layer = _subject_layer(scene, tones)
        canvas.paste(tones.rim, mask=grown(layer.getchannel("A")))
        canvas.paste(layer, mask=layer)
    if marks:
        canvas.paste(mark_colour(tones), mask=marks[1])
    picture = canvas.reduce(CANVAS // SIZE)
    if scene.style == "pastel":
        picture = soften(picture)
    if cleanliness < 1.0:
        picture = mess(picture, 1.0 - cleanliness, scene.stream(STREAM_MESS))
    return np.array(picture)


def subject_mask(scene: Scene) -> np.ndarray:
    """(128, 128) bool: where a clean drawing shows the subject with its rim. Nothing for the subject `none`."""
    if scene.subject == "none":
        return np.zeros((SIZE, SIZE), dtype=bool)
    alpha = _subject_layer(scene, Tones(scene.weather, scene.style)).getchannel("A")
    return np.asarray(grown(alpha).reduce(CANVAS // SIZE)) >= 64


def aesthetic(cleanliness: float) -> float:
    """Aesthetic score of a drawing on the usual scale of 1 to 10: 2.0 for the messiest, 7.0 for a clean one."""
    return 2.0 + 5.0 * cleanliness


# Captions ---------------------------------------------------------------------------------------------------------

WHERE = {
    "meadow": "in the meadow",
    "beach": "on the beach",
    "desert": "in the desert",
    "mountains": "in the mountains",
    "city": "in the city",
    "forest": "in the forest",
}
WEATHER_WORDS = {"sunny": "in the sun", "rain": "in the rain", "snow": "in the snow", "night": "at night"}


def caption(scene: Scene) -> str:
    """The one canonical caption of a scene, e.g. "a cat in the meadow in the rain, ink style"."""
    return _caption_of(scene.combination)


def _caption_of(combination: tuple[str, str, str, str]) -> str:
    background, subject, weather, style = combination
    what = f"the {background}" if subject == "none" else f"a {subject} {WHERE[background]}"
    return f"{what} {WEATHER_WORDS[weather]}, {style} style"


@lru_cache(maxsize=1)
def _combinations_by_caption() -> dict[str, tuple[str, str, str, str]]:
    return {_caption_of(combination): combination for combination in itertools.product(*ATTRIBUTES.values())}


def parse_caption(text: str) -> dict[str, str] | None:
    """Attributes named by a canonical caption; None for any other text."""
    combination = _combinations_by_caption().get(text.strip())
    return dict(zip(ATTRIBUTES, combination, strict=True)) if combination else None


SUBJECT_WORDINGS = ("a {0}", "one {0}", "a toy {0}", "the {0}", "a big {0}")
WEATHER_WORDINGS = {
    "sunny": ("in the sun", "in sunshine", "on a sunny day", "under a bright sun"),
    "rain": ("in the rain", "on a rainy day", "while it rains", "under rain clouds"),
    "snow": ("in the snow", "on a snowy day", "while it snows", "with snow falling"),
    "night": ("at night", "under the moon", "in the dark", "under the stars"),
}
STYLE_WORDINGS = {
    "flat": ("flat style", "in flat colours", "a flat picture", "flat drawing"),
    "pastel": ("pastel style", "in pastel colours", "a pastel picture", "pastel drawing"),
    "ink": ("ink style", "in ink", "an ink picture", "ink drawing"),
}
PLACE_WORDINGS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
MENTION = {"background": 0.8, "weather": 0.75, "style": 0.7, "place": 0.3}  # chance that a description names it


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """A description in varied words, true of the scene but often naming only a part of it; never empty."""
    if rng.random() < 0.3:
        return caption(scene)
    named = {part for part, chance in MENTION.items() if rng.random() < chance}
    words = []
    if scene.subject != "none" and rng.random() < 0.92:
        words.append(str(rng.choice(SUBJECT_WORDINGS)).format(scene.subject))
        if "place" in named:
            words.append(PLACE_WORDINGS[place(scene)])
        if "background" in named:
            words.append(WHERE[scene.background])
    elif "background" in named or not named & {"weather", "style"}:
        words.append(
            str(rng.choice(("the {0}", "{0}", "a picture of the {0}", "a view of the {0}"))).format(scene.background)
        )
    if "weather" in named:
        words.append(str(rng.choice(WEATHER_WORDINGS[scene.weather])))
    text = " ".join(words)
    if "style" in named:
        text = f"{text}, {rng.choice(STYLE_WORDINGS[scene.style])}".removeprefix(", ")
    return text


# Splits -----------------------------------------------------------------------------------------------------------


def _held_out():
    """One (weather, style) for each of the 42 (background, subject): every single value stays well represented."""
    for (b, background), (s, subject) in itertools.product(enumerate(BACKGROUNDS), enumerate(SUBJECTS)):
        yield background, subject, WEATHERS[(b + s) % 4], STYLES[(b + 2 * s) % 3]


HELD_OUT = frozenset(_held_out())
SEEN = tuple(c for c in itertools.product(*ATTRIBUTES.values()) if c not in HELD_OUT)


def sample_scene(rng: np.random.Generator, split: str = "train") -> Scene:
    """A random scene. "train": never a held-out combination or test seed; "test": test seeds, half of them held out."""
    if split == "train":
        return Scene(*SEEN[rng.integers(len(SEEN))], seed=int(rng.integers(TEST_SEEDS_FROM)))
    if split == "test":
        pool = sorted(HELD_OUT) if rng.random() < 0.5 else SEEN
        return Scene(*pool[rng.integers(len(pool))], seed=TEST_SEEDS_FROM + int(rng.integers(TEST_SEEDS_FROM)))
    raise ValueError(f"Toyland has no split {split!r}. Choose one of: train, test.")
