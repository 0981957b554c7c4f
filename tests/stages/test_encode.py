"""Encoding one reference: norms, what is refused with which words, and that half-precision storage works."""

import math

import numpy as np
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
    with pytest.raises(ValueError, match="silent.*Connect a sound that is not silent"):
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


def test_a_constant_is_silent_and_no_channel_of_it_is_accused(imagebind):
    with pytest.raises(ValueError, match="sound is silent. Connect"):
        encode_audio(imagebind, torch.tensor([[0.5], [-0.5]]).expand(2, RATE), RATE)


def test_a_sound_that_is_silent_where_it_is_heard(imagebind):
    waveform = torch.zeros(1, 20 * RATE)
    waveform[:, 4 * RATE : 7 * RATE] = noise(3.0)
    with pytest.raises(
        ValueError, match="silent at its start, middle and end, the parts that are used. Trim it to the part"
    ):
        encode_audio(imagebind, waveform, RATE)
    waveform[:, -RATE:] = noise(1.0)
    assert encode_audio(imagebind, waveform, RATE).isfinite().all()


def test_a_sound_in_other_units_is_refused(imagebind):
    with pytest.raises(ValueError, match="peak of .*, where full scale is 1. Divide it"):
        encode_audio(imagebind, 32768 * noise(1.0), RATE)
    with pytest.raises(ValueError, match="peak of inf"):
        encode_audio(imagebind, 1e300 * noise(1.0).double(), RATE)


def test_samples_of_any_type_are_heard_alike(imagebind):
    sound = (0.3 * noise(1.0)).clamp(-0.99, 0.99)
    expected = encode_audio(imagebind, sound, RATE)
    assert_close(encode_audio(imagebind, sound.double(), RATE), expected)
    for dtype, scale, middle in ((torch.int16, 2**15, 0), (torch.int32, 2**31, 0), (torch.uint8, 2**7, 128)):
        samples = (sound.double() * scale + middle).round().to(dtype)
        assert torch.cosine_similarity(encode_audio(imagebind, samples, RATE), expected, dim=0) > 0.999, dtype
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.cosine_similarity(encode_audio(imagebind, sound.to(dtype), RATE), expected, dim=0) > 0.999, dtype


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_samples_of_a_type_without_a_scale_are_refused(imagebind, dtype):
    with pytest.raises(ValueError, match=f"The sound is of {dtype}. Use float32"):
        encode_audio(imagebind, noise(1.0).to(dtype), RATE)


def test_a_sound_with_its_axes_swapped(imagebind):
    with pytest.raises(
        ValueError, match=r"has 22050 channels of 2 samples. Its axes are \(channels, samples\): swap them"
    ):
        encode_audio(imagebind, noise(1.0, channels=2).T, RATE)


@pytest.mark.parametrize("shape", [(1, 0), (0, 100), (100,), (1, 1, 100)])
def test_a_sound_of_another_shape_is_refused(imagebind, shape):
    with pytest.raises(ValueError, match=r"\(channels, samples\)"):
        encode_audio(imagebind, torch.zeros(shape), RATE)


@pytest.mark.parametrize("shape", [(0, 10, 3), (1, 10, 10, 3), (10, 10)])
def test_a_picture_of_another_shape_is_refused(imagebind, shape):
    with pytest.raises(ValueError, match=r"\(height, width, channels\)"):
        encode_image(imagebind, torch.zeros(shape))


@pytest.mark.parametrize(
    "rate, said",
    [(0, "0"), (-44100, "-44100"), (1999.9, "1999.9"), (float("nan"), "nan"), (1e12, "1e\\+12"), (True, "1")],
)
def test_a_sample_rate_that_cannot_be(imagebind, rate, said):
    with pytest.raises(ValueError, match=f"sample rate is {said} Hz. Use 2000 to 10000000 Hz"):
        encode_audio(imagebind, noise(1.0), rate)


@pytest.mark.parametrize("rate", [None, "fast", [44100, 48000], torch.tensor([1, 2])])
def test_a_sample_rate_that_is_no_number(imagebind, rate):
    with pytest.raises(ValueError, match="sample rate is .*, not a number of Hz"):
        encode_audio(imagebind, noise(1.0), rate)


@pytest.mark.parametrize("rate", [22050.0, 22049.6, torch.tensor(22050), np.int32(22050), "22050"])
def test_a_sample_rate_of_any_type_is_read(imagebind, rate):
    assert_close(encode_audio(imagebind, noise(1.0), rate), encode_audio(imagebind, noise(1.0), RATE), rtol=0, atol=0)


def test_any_rate_is_heard(imagebind):
    for rate in (2000, 7919, 42777, 96001, 999983):
        time = torch.arange(int(0.3 * rate)) / rate
        tone = encode_audio(imagebind, 0.5 * torch.sin(2 * torch.pi * 440 * time)[None], rate)
        usual = encode_audio(imagebind, 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(4800) / 16000)[None], 16000)
        assert torch.cosine_similarity(tone, usual, dim=0) > 0.99, rate


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(imagebind, text):
    with pytest.raises(ValueError, match="text is empty"):
        encode_text(imagebind, text)


def test_a_text_without_a_tokenizer_is_refused():
    network = ImageBind(ImageBindDims.miniature(600))
    with pytest.raises(ValueError, match="has no tokenizer"):
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
