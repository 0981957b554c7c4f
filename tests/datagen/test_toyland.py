"""Toyland: deterministic pictures, attributes that change alone, captions that read back, disjoint splits."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from any2pix.datagen import toyland
from any2pix.datagen.toyland import ATTRIBUTES, HELD_OUT, STYLES, SUBJECTS, WEATHERS, Scene

ALL = list(itertools.product(*ATTRIBUTES.values()))
CAT = Scene("meadow", "cat", "sunny", "flat", seed=11)


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    padded = np.pad(mask, pixels)
    shifts = itertools.product(range(2 * pixels + 1), repeat=2)
    size = mask.shape[0]
    return np.logical_or.reduce([padded[y : y + size, x : x + size] for y, x in shifts])


def changed(a: Scene, b: Scene) -> np.ndarray:
    return (toyland.render(a) != toyland.render(b)).any(-1)


def test_picture_has_the_promised_form():
    picture = toyland.render(CAT)
    assert picture.shape == (128, 128, 3) and picture.dtype == np.uint8 and picture.flags.writeable


@pytest.mark.parametrize("cleanliness", [1.0, 0.3])
def test_same_scene_same_picture_and_other_seed_another(cleanliness):
    assert np.array_equal(toyland.render(CAT, cleanliness), toyland.render(CAT, cleanliness))
    assert not np.array_equal(toyland.render(CAT, cleanliness), toyland.render(replace(CAT, seed=12), cleanliness))


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_every_attribute_shows(name):
    start = Scene("city", "car", "night", "pastel", seed=5)
    for value in ATTRIBUTES[name]:
        if value != getattr(start, name):
            assert changed(start, replace(start, **{name: value})).mean() > 0.15


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("weather", WEATHERS)
def test_another_subject_changes_nothing_but_the_subject(weather, style):
    cat = Scene("beach", "cat", weather, style, seed=23)
    reach = 5 if style == "pastel" else 2  # the blurred edges of pastel reach further
    for subject in ("none", "frog"):
        other = replace(cat, subject=subject)
        allowed = grow(toyland.subject_mask(cat) | toyland.subject_mask(other), reach)
        assert not (changed(cat, other) & ~allowed).any()


@pytest.mark.parametrize("style", STYLES)
def test_another_background_leaves_the_subject_alone(style):
    scene = replace(CAT, style=style)
    inside = ~grow(~toyland.subject_mask(scene), 6)
    assert inside.mean() > 0.08
    assert not (changed(scene, replace(scene, background="city")) & inside).any()


def test_place_and_shape_of_the_subject_do_not_depend_on_weather_style_or_background():
    mask = toyland.subject_mask(CAT)
    for other in (replace(CAT, weather="night"), replace(CAT, style="pastel"), replace(CAT, background="desert")):
        assert np.array_equal(mask, toyland.subject_mask(other)) and toyland.place(other) == toyland.place(CAT)
    ink = toyland.subject_mask(replace(CAT, style="ink"))  # its lines reach beyond the shapes
    assert ink[mask].all() and not (ink & ~grow(mask, 3)).any()


@pytest.mark.parametrize("subject", SUBJECTS[1:])
def test_subject_is_large_and_stands_where_place_says(subject):
    centres = {"left": [], "middle": [], "right": []}
    for seed in range(40):
        scene = replace(CAT, subject=subject, seed=seed)
        mask = toyland.subject_mask(scene)
        columns = np.flatnonzero(mask.any(0))
        assert 0.5 < np.ptp(columns) / 128 < 0.8 and 0.2 < mask.mean() < 0.45
        centres[toyland.place(scene)].append(columns.mean() / 128)
    assert max(centres["left"]) < min(centres["middle"]) and max(centres["middle"]) < min(centres["right"])


def test_no_subject_has_an_empty_mask():
    assert not toyland.subject_mask(replace(CAT, subject="none")).any()


def test_mess_grows_as_cleanliness_falls():
    clean = toyland.render(CAT).astype(float)
    distances = [np.abs(toyland.render(CAT, c) - clean).mean() for c in (1.0, 0.75, 0.5, 0.25, 0.0)]
    assert distances[0] == 0 and distances == sorted(distances) and distances[-1] > 12


def test_aesthetic_runs_from_two_to_seven():
    assert (toyland.aesthetic(0.0), toyland.aesthetic(0.5), toyland.aesthetic(1.0)) == (2.0, 4.5, 7.0)


def test_captions_are_unique_and_read_back():
    captions = {toyland.caption(Scene(*combination, seed=0)): combination for combination in ALL}
    assert len(captions) == len(ALL) == 504
    for text, combination in captions.items():
        assert text == text.lower() and "." not in text
        assert tuple(toyland.parse_caption(text).values()) == combination


def test_caption_wording():
    assert toyland.caption(Scene("meadow", "cat", "rain", "ink", 0)) == "a cat in the meadow in the rain, ink style"
    assert toyland.caption(Scene("beach", "none", "night", "flat", 0)) == "the beach at night, flat style"


@pytest.mark.parametrize(
    "text", ["", "a cat", "a dog in the meadow in the rain, ink style", "the cat at night, flat style"]
)
def test_other_text_is_no_caption(text):
    assert toyland.parse_caption(text) is None


def test_descriptions_are_varied_never_empty_and_true():
    rng = np.random.default_rng(0)
    told = [toyland.describe(CAT, rng) for _ in range(300)]
    false = {*ATTRIBUTES["background"], *SUBJECTS, *STYLES} - {"meadow", "cat", "flat"}
    assert len(set(told)) > 60
    assert all(text and text == text.strip() and not false & set(text.replace(",", "").split()) for text in told)
    assert {word for text in told for word in text.split() if word in toyland.PLACES} == {toyland.place(CAT)}


def test_held_out_combinations_are_spread():
    assert len(HELD_OUT) == 42 and set(HELD_OUT) <= set(ALL)
    for position, values in enumerate(ATTRIBUTES.values()):
        counts = Counter(combination[position] for combination in HELD_OUT)
        assert set(counts) == set(values) and max(counts.values()) - min(counts.values()) <= 2


def test_splits_share_no_seed_and_training_no_held_out_combination():
    rng = np.random.default_rng(1)
    train = [toyland.sample_scene(rng) for _ in range(600)]
    test = [toyland.sample_scene(rng, "test") for _ in range(600)]
    assert not any(scene.combination in HELD_OUT for scene in train)
    assert max(scene.seed for scene in train) < toyland.TEST_SEEDS_FROM <= min(scene.seed for scene in test)
    assert 0.4 < np.mean([scene.combination in HELD_OUT for scene in test]) < 0.6


def test_sampling_follows_the_generator():
    assert toyland.sample_scene(np.random.default_rng(3)) == toyland.sample_scene(np.random.default_rng(3))


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_unknown_attribute_is_named_with_its_choices(name):
    with pytest.raises(ValueError, match=rf"no {name} 'moon'.*{ATTRIBUTES[name][0]}.*{ATTRIBUTES[name][-1]}"):
        replace(CAT, **{name: "moon"})


def test_other_bad_values_are_named():
    with pytest.raises(ValueError, match="-1"):
        replace(CAT, seed=-1)
    with pytest.raises(ValueError, match="1.5"):
        toyland.render(CAT, 1.5)
    with pytest.raises(ValueError, match="'valid'.*train, test"):
        toyland.sample_scene(np.random.default_rng(0), "valid")
