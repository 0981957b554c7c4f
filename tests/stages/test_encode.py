"""Encoding one reference: norms, what is refused with which words, and that half-precision storage works."""

import math

import pytest
import torch
from any2pix.models.imagebind import ImageBind, ImageBindDims
from any2pix.stages.encode import encode_audio, encode_image, encode_text
from any2pix.training.clip_tokenizer import train_clip_tokenizer
from torch.testing import assert_close

RATE = 22050


@pytest.fixture(scope="module")
def imagebind() -> ImageBind:
    torch.manual_seed(0)
    tokenizer = train_clip_tokenizer(["a cat in the rain"], 540)
    network = ImageBind(ImageBindDims.miniature(tokenizer.get_vocab_size())).eval()
    network.tokenizer = tokenizer
    return network


def noise(seconds: float, channels: int = 1) -> torch.Tensor:
    return 0.3 * torch.randn(channels, int(seconds * RATE), generator=torch.Generator().manual_seed(0))


def test_one_vector_each_with_the_norm_of_its_modality(imagebind):
    image = encode_image(imagebind, torch.rand(50, 70, 3))
    audio = encode_audio(imagebind, noise(3.0, channels=2), RATE)
    text = encode_text(imagebind, "a cat")
    assert image.shape == audio.shape == text.shape == (imagebind.dims.embed,)
    assert math.isclose(float(image.norm()), 1.0, rel_tol=1e-4)
    assert 10 < float(audio.norm()) <= 20.001
    assert math.isclose(float(text.norm()), 1 / 0.07, rel_tol=1e-4)


def test_the_same_input_gives_the_same_answer(imagebind):
    waveform = noise(2.0)
    assert_close(encode_audio(imagebind, waveform, RATE), encode_audio(imagebind, waveform, RATE), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(8, 8, 3), (4000, 300, 3), (64, 64, 4), (64, 64, 1)])
def test_odd_pictures_are_taken(imagebind, shape):
    assert bool(torch.isfinite(encode_image(imagebind, torch.rand(shape))).all())


def test_a_sound_of_50_ms_is_taken(imagebind):
    assert bool(torch.isfinite(encode_audio(imagebind, noise(0.05), RATE)).all())


def test_a_sound_below_one_frame_is_refused(imagebind):
    with pytest.raises(ValueError, match=r"20 ms long; at least 25 ms .* Use a longer sound"):
        encode_audio(imagebind, noise(0.02), RATE)


@pytest.mark.parametrize(
    "waveform", [torch.zeros(1, RATE), torch.full((2, RATE), 0.5), 1e-6 * torch.ones(1, RATE).cumsum(1).sin()]
)
def test_silence_is_refused(imagebind, waveform):
    with pytest.raises(ValueError, match="silent.*Connect a sound that can be heard"):
        encode_audio(imagebind, waveform, RATE)


def test_channels_that_cancel_out_are_named(imagebind):
    left = noise(1.0)
    with pytest.raises(ValueError, match="channels cancel each other out"):
        encode_audio(imagebind, torch.cat([left, -left]), RATE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_numbers_are_refused(imagebind, value):
    waveform, image = noise(1.0), torch.rand(32, 32, 3)
    waveform[0, 5] = value
    image[3, 3, 0] = value
    with pytest.raises(ValueError, match="sound holds 1 values that are NaN or infinite"):
        encode_audio(imagebind, waveform, RATE)
    with pytest.raises(ValueError, match="picture holds 1 values that are NaN or infinite"):
        encode_image(imagebind, image)


@pytest.mark.parametrize("shape", [(1, 0), (0, 100), (100,), (1, 1, 100)])
def test_a_sound_of_another_shape_is_refused(imagebind, shape):
    with pytest.raises(ValueError, match=r"\(channels, samples\)"):
        encode_audio(imagebind, torch.zeros(shape), RATE)


@pytest.mark.parametrize("shape", [(0, 10, 3), (1, 10, 10, 3), (10, 10)])
def test_a_picture_of_another_shape_is_refused(imagebind, shape):
    with pytest.raises(ValueError, match=r"\(height, width, channels\)"):
        encode_image(imagebind, torch.zeros(shape))


def test_a_sample_rate_that_cannot_be(imagebind):
    with pytest.raises(ValueError, match="sample rate is 0 Hz"):
        encode_audio(imagebind, noise(1.0), 0)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(imagebind, text):
    with pytest.raises(ValueError, match="text is empty"):
        encode_text(imagebind, text)


def test_a_text_without_a_tokenizer_is_refused():
    network = ImageBind(ImageBindDims.miniature(600))
    with pytest.raises(ValueError, match="came without a tokenizer"):
        encode_text(network, "a cat")


def test_weights_in_half_precision(imagebind):
    image = torch.rand(40, 40, 3)
    full = encode_image(imagebind, image)
    half = ImageBind(imagebind.dims).eval()
    half.load_state_dict(imagebind.state_dict())
    half.bfloat16()
    half.tokenizer = imagebind.tokenizer
    assert float(torch.cosine_similarity(encode_image(half, image), full, dim=0)) > 0.99
    assert encode_text(half, "a cat").dtype == torch.float32
