"""The synthesised sounds: form, determinism, and that each kind can be told from the others in any two seconds."""

import numpy as np
import pytest
from any2pix.datagen.sounds import DURATION, SAMPLE_RATES, SOUND_KINDS, SUBJECT_SOUNDS, WEATHER_SOUNDS, synthesize
from any2pix.datagen.toyland import SUBJECTS, WEATHERS

BANDS = np.geomspace(60, 7500, 41)  # Hz


def band_levels(kind: str, seed: int, start: float) -> np.ndarray:
    """Mean log level (40,) per frequency band of the two seconds at a share `start` of what is left of the sound."""
    sound, rate = synthesize(kind, seed)
    mono = sound.mean(0)
    first = int(start * (len(mono) - 2 * rate))
    size = rate // 20  # 50 ms
    frames = mono[first : first + 40 * size].reshape(40, size) * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, 4 * size)) ** 2
    frequency = np.fft.rfftfreq(4 * size, 1 / rate)
    band = np.digitize(frequency, BANDS) - 1
    levels = np.stack([np.log(power[:, band == b].sum(1) + 1e-6) for b in range(40)], 1)
    levels -= levels.mean()
    return np.concatenate([levels.mean(0), levels.std(0)])


def test_every_subject_and_every_weather_has_a_sound():
    assert set(SUBJECT_SOUNDS) == set(SUBJECTS) - {"none"}
    assert set(WEATHER_SOUNDS) == set(WEATHERS)
    assert SOUND_KINDS == SUBJECT_SOUNDS + WEATHER_SOUNDS


@pytest.mark.parametrize("kind", SOUND_KINDS)
def test_form(kind):
    rates, channels = set(), set()
    for seed in range(16):
        sound, rate = synthesize(kind, seed)
        assert sound.dtype == np.float32 and sound.ndim == 2
        assert np.isfinite(sound).all()
        assert 0.25 < np.abs(sound).max() <= 1
        assert DURATION[0] <= sound.shape[1] / rate <= DURATION[1]
        assert sound.std() > 0.01
        rates.add(rate)
        channels.add(len(sound))
    assert rates <= set(SAMPLE_RATES) and len(rates) > 1
    assert channels == {1, 2}


def test_same_seed_same_sound_other_seed_other_sound():
    first, rate = synthesize("frog", 7)
    again, rate_again = synthesize("frog", 7)
    assert rate == rate_again
    np.testing.assert_array_equal(first, again)
    other, _ = synthesize("frog", 8)
    assert first.shape != other.shape or np.abs(first - other).max() > 0.01


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'whale'.*cat"):
        synthesize("whale", 0)


def test_no_two_seconds_are_silent():
    for kind in SOUND_KINDS:
        for seed in range(6):
            sound, rate = synthesize(kind, seed)
            loudest = np.abs(sound).max()
            for first in np.linspace(0, sound.shape[1] - 2 * rate, 4).astype(int):
                assert np.abs(sound[:, first : first + 2 * rate]).max() > 0.3 * loudest, (kind, seed)


def test_any_two_seconds_tell_the_kind():
    """A nearest-centroid rule on band levels, far weaker than the audio encoder, already tells the kinds apart."""
    places = np.random.default_rng(0).uniform(0, 1, 16)
    features = np.array([[band_levels(kind, seed, place) for seed, place in enumerate(places)] for kind in SOUND_KINDS])
    centroids = features[:, :8].mean(1)
    distance = np.square(features[:, 8:, None] - centroids).sum(-1)
    right = distance.argmin(-1) == np.arange(len(SOUND_KINDS))[:, None]
    assert right.mean() > 0.9
    assert right.mean(1).min() >= 0.6
