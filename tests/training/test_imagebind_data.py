"""What counts as belonging together in ImageBind's training."""

import numpy as np
import pytest
import torch
from any2pix.datagen.toyland import Scene, caption, sample_scene
from any2pix.training.imagebind_data import NAMES, UNSEEN, agreement, draw_phrase, labels_of, named_in, sound_labels

CAT = Scene("meadow", "cat", "rain", "ink", seed=1)


def test_a_text_fits_every_scene_that_has_what_it_names():
    scenes = [CAT, Scene("beach", "cat", "rain", "flat", seed=2), Scene("meadow", "cat", "snow", "ink", seed=3)]
    labels = torch.tensor([labels_of(scene) for scene in scenes])
    named = torch.tensor([[name in ("subject", "weather") for name in NAMES]] * 3)
    assert agreement(labels, labels, named).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_a_sound_fits_the_scenes_of_its_subject_or_weather():
    labels = torch.tensor([labels_of(CAT), labels_of(Scene("city", "none", "rain", "flat", seed=1))])
    sounds = torch.tensor([sound_labels(kind) for kind in ("cat", "rain", "frog")])
    assert agreement(labels, sounds, sounds != UNSEEN).tolist() == [[1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (caption(CAT), {"background", "subject", "weather", "style"}),
        ("a toy cat in the meadow", {"background", "subject"}),
        ("the meadow while it rains", {"background", "weather"}),
        ("in ink", {"style"}),
    ],
)
def test_what_a_description_names(text, named):
    assert named_in(text, CAT) == named


def test_a_drawn_phrase_names_something():
    rng = np.random.default_rng(0)
    for _ in range(200):
        phrase = draw_phrase(sample_scene(rng), rng)
        assert phrase.text
        assert phrase.named <= set(NAMES)
        assert phrase.named
