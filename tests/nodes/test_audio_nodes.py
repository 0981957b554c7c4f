"""Load Audio Embedding: what comes over an AUDIO socket in practice, and what is said of it where it is no sound."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from any2pix.nodes import AudioEmbedding
from torch.testing import assert_close

pytestmark = pytest.mark.one_host

RATE = 44_100


def waveform(seconds=0.5, channels=1, batch=1):
    generator = torch.Generator().manual_seed(0)
    return 0.3 * torch.randn(batch, channels, int(seconds * RATE), generator=generator)


class Lazy(Mapping):
    """As video packs hand over a film's sound: read when it is asked for the first time."""

    def __init__(self, read):
        self.read, self.found = read, None

    def __getitem__(self, key):
        self.found = self.found or self.read()
        return self.found[key]

    def __iter__(self):
        return iter(("waveform", "sample_rate"))

    def __len__(self):
        return 2


@pytest.fixture
def embed(run, networks):
    def embedded(audio):
        (references,) = run(AudioEmbedding, imagebind=networks["imagebind"], audio=audio)
        return torch.stack([reference.embedding for reference in references])

    return embedded


@pytest.mark.parametrize(
    "given",
    [waveform()[0], waveform()[0, 0], waveform().numpy(), waveform().double(), waveform().expand(1, 2, -1)],
    ids=["without a batch", "samples alone", "numpy", "double", "two channels alike"],
)
def test_waveforms_of_other_forms_are_the_same_sound(embed, given):
    expected = embed({"waveform": waveform(), "sample_rate": RATE})
    assert_close(embed({"waveform": given, "sample_rate": RATE}), expected)


def test_a_lazy_mapping_is_read(embed):
    sound = {"waveform": waveform(), "sample_rate": np.int64(RATE)}
    assert_close(embed(Lazy(lambda: sound)), embed({"waveform": waveform(), "sample_rate": RATE}))


def test_a_lazy_mapping_that_cannot_be_read(embed):
    def read():
        raise OSError("no audio stream in film.mp4")

    with pytest.raises(
        ValueError, match="could not be read: no audio stream in film.mp4. Does its file have a sound track"
    ):
        embed(Lazy(read))


def test_a_cancel_while_a_lazy_mapping_is_read_goes_through(embed):
    class Cancelled(BaseException):
        pass

    def read():
        raise Cancelled

    with pytest.raises(Cancelled):
        embed(Lazy(read))


@pytest.mark.parametrize(
    "audio, said",
    [
        (None, "There is no sound: a video without a sound track gives AUDIO that is None"),
        ([], "AUDIO holds waveform and sample_rate; this is a list"),
        ({}, "this one lacks waveform"),
        ({"waveform": waveform()}, "this one lacks sample_rate"),
        ({"waveform": None, "sample_rate": RATE}, "not a NoneType"),
        ({"waveform": [waveform()], "sample_rate": RATE}, "not a list"),
        ({"waveform": waveform()[None], "sample_rate": RATE}, r"not one of shape \(1, 1, 1, 22050\)"),
        ({"waveform": torch.tensor(0.5), "sample_rate": RATE}, r"not one of shape \(\)"),
        ({"waveform": waveform()[:0], "sample_rate": RATE}, "The batch holds no sound"),
        ({"waveform": waveform()[:, :0], "sample_rate": RATE}, r"The sound has the shape \(0, 22050\)"),
        ({"waveform": waveform()[..., :0], "sample_rate": RATE}, r"The sound has the shape \(1, 0\)"),
        ({"waveform": waveform().mT, "sample_rate": RATE}, "has 22050 channels of 1 samples"),
        ({"waveform": waveform() / 0, "sample_rate": RATE}, "sound holds 22050 values that are NaN or infinite"),
        ({"waveform": waveform(), "sample_rate": None}, "sample rate is None, not a number of Hz"),
        ({"waveform": waveform(), "sample_rate": 0}, "sample rate is 0 Hz. Use 2000 to 10000000 Hz"),
    ],
)
def test_what_is_no_sound_is_named(embed, audio, said):
    with pytest.raises(ValueError, match=said):
        embed(audio)


def test_the_sound_of_a_batch_is_named_by_its_number(embed):
    sounds = waveform(batch=3)
    sounds[1] = 0
    with pytest.raises(ValueError, match="^Sound 2 of 3 is silent"):
        embed({"waveform": sounds, "sample_rate": RATE})
