"""Preprocessing: what is fixed by the published checkpoint, and the odd inputs people connect."""

import pytest
import torch
from any2pix.models.imagebind import ImageBindDims
from any2pix.stages.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    clip_bounds,
    image_to_tensor,
    tokenize_clip,
    waveform_to_clips,
)
from any2pix.stages.sound import filter_bank, resample
from any2pix.training.clip_tokenizer import train_clip_tokenizer
from PIL import Image
from tokenizers import Tokenizer
from torch.testing import assert_close

DIMS = ImageBindDims.published()


def denormalised(pixels: torch.Tensor) -> torch.Tensor:
    return pixels * torch.tensor(CLIP_STD).view(3, 1, 1) + torch.tensor(CLIP_MEAN).view(3, 1, 1)


def tone(seconds: float, rate: int, channels: int = 1, frequency: float = 440.0) -> torch.Tensor:
    time = torch.arange(int(seconds * rate)) / rate
    return 0.5 * torch.sin(2 * torch.pi * frequency * time).expand(channels, -1)


def test_a_picture_of_the_right_size_is_only_normalised():
    image = torch.rand(2, 64, 64, 3)
    assert_close(denormalised(image_to_tensor(image, 64)), image.movedim(-1, 1))


def test_the_middle_square_is_kept():
    image = torch.zeros(1, 64, 192, 3)
    image[:, :, 64:128] = 1.0
    assert_close(denormalised(image_to_tensor(image, 64)), torch.ones(1, 3, 64, 64))


def test_resizing_is_torchvisions_of_an_8_bit_picture():
    transforms = pytest.importorskip("torchvision.transforms.functional")
    levels = torch.randint(0, 256, (100, 150, 3), dtype=torch.uint8)
    resized = transforms.resize(Image.fromarray(levels.numpy()), 64, interpolation=transforms.InterpolationMode.BICUBIC)
    expected = transforms.to_tensor(transforms.center_crop(resized, 64))[None]
    assert_close(denormalised(image_to_tensor(levels[None] / 255, 64)), expected)


@pytest.mark.parametrize("shape", [(8, 8), (4000, 300), (300, 4000), (1, 3000), (224, 225)])
def test_any_size_becomes_a_square(shape):
    pixels = image_to_tensor(torch.rand(1, *shape, 3), 224)
    assert pixels.shape == (1, 3, 224, 224)
    assert bool(torch.isfinite(pixels).all())


def test_grey_and_transparent_pictures():
    grey = torch.full((1, 32, 32, 1), 0.25)
    assert_close(image_to_tensor(grey, 32), image_to_tensor(grey.expand(-1, -1, -1, 3), 32))
    clear = torch.cat([torch.zeros(1, 32, 32, 3), torch.zeros(1, 32, 32, 1)], dim=-1)
    assert_close(denormalised(image_to_tensor(clear, 32)), torch.ones(1, 3, 32, 32))
    assert_close(image_to_tensor(clear[..., 2:], 32), image_to_tensor(clear, 32))
    with pytest.raises(ValueError, match="1 to 4 channels, this one has 5"):
        image_to_tensor(torch.rand(1, 32, 32, 5), 32)


def test_a_clip_is_kaldis_filter_bank():
    waveform = tone(2.0, 16000) + 0.1
    centred = waveform - waveform.mean()
    bank = filter_bank(centred[0], 16000, 128, 400, 160)
    clips = waveform_to_clips(waveform, 16000, DIMS)
    assert clips.shape == (3, 1, 128, 204)
    assert bank.shape == (198, 128)
    assert_close(clips[0, 0, :, :198], (bank.T + 4.268) / 9.138)
    assert_close(clips[0, 0, :, 198:], torch.full((128, 6), 4.268 / 9.138))


@pytest.mark.parametrize("rate", [16000, 44100, 42777])
@pytest.mark.parametrize("seconds", [1.0, 5.0, 6.0, 6.01, 13.3])
def test_only_what_is_heard_is_resampled_and_nothing_else_comes_of_it(rate, seconds):
    """As published: the whole sound resampled, and each clip's mean taken off in place, so that it shows where they
    overlap."""
    noise = torch.rand(2, int(seconds * rate), generator=torch.Generator().manual_seed(0))
    waveform = tone(seconds, rate, channels=2) + 0.1 * noise + 0.2
    whole = resample(waveform, rate, 16000)
    expected = []
    for start, end in clip_bounds(waveform.shape[1], rate):
        clip = whole[start:end]
        clip -= clip.mean()
        bank = filter_bank(clip, 16000, 128, 400, 160).T
        expected.append((torch.nn.functional.pad(bank, (0, 204 - bank.shape[1])) + 4.268) / 9.138)
    assert_close(waveform_to_clips(waveform, rate, DIMS)[:, 0], torch.stack(expected), atol=2e-4, rtol=0)


def test_clips_lie_at_the_start_the_middle_and_the_end():
    parts = [tone(2.0, 16000, frequency=frequency) for frequency in (300.0, 1000.0, 3000.0)]
    clips = waveform_to_clips(torch.cat(parts, dim=1), 16000, DIMS)
    for clip, part in zip(clips, parts, strict=True):
        assert_close(clip, waveform_to_clips(part, 16000, DIMS)[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
def test_rate_and_channels_hardly_matter(rate):
    loud = waveform_to_clips(tone(2.5, 16000), 16000, DIMS)
    other = waveform_to_clips(tone(2.5, rate, channels=2), rate, DIMS)
    band = int(loud[0, 0, :, :190].mean(dim=1).argmax())
    assert int(other[0, 0, :, :190].mean(dim=1).argmax()) == band
    assert_close(other[..., band, :190].mean(), loud[..., band, :190].mean(), atol=0.02, rtol=0)


def test_a_short_sound_is_filled_up_with_empty_frames():
    clips = waveform_to_clips(tone(0.05, 16000), 16000, DIMS)
    assert_close(clips[0], clips[2], atol=1e-4, rtol=0)  # the mean, subtracted once more, is not exactly zero
    assert_close(clips[0, 0, :, 3:], torch.full((128, 201), 4.268 / 9.138))
    with pytest.raises(ValueError, match="20 ms long; at least 25 ms"):
        waveform_to_clips(tone(0.02, 16000), 16000, DIMS)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_clip_tokenizer(["a cat in the rain", "the sound of a cat", "rain on the meadow"] * 5, 560)


def test_tokens_start_and_end_and_are_filled_with_zeros(tokenizer):
    start, end = tokenizer.token_to_id("<|startoftext|>"), tokenizer.token_to_id("<|endoftext|>")
    assert end == tokenizer.get_vocab_size() - 1
    tokens = tokenize_clip(tokenizer, ["a cat", "A  Cat\n", "a cat in the rain"], 16)
    cat = tokenizer.encode("a cat", add_special_tokens=False).ids
    assert tokens[0].tolist() == [start, *cat, end] + [0] * (16 - len(cat) - 2)
    assert_close(tokens[0], tokens[1])
    assert int(tokens[2].argmax()) == len(tokenizer.encode("a cat in the rain", add_special_tokens=False).ids) + 1


def test_a_long_text_is_cut_and_still_ends(tokenizer, caplog):
    tokens = tokenize_clip(tokenizer, ["rain " * 50], 12)
    assert int(tokens[0, -1]) == tokenizer.get_vocab_size() - 1
    assert "tokens are read" in caplog.text


def test_a_text_cannot_end_itself(tokenizer):
    end = tokenizer.get_vocab_size() - 1
    tokens = tokenize_clip(tokenizer, ["a cat <|endoftext|> rain", "<|startoftext|>"], 40)
    assert (tokens == end).sum(dim=1).tolist() == [1, 1]
    assert (tokens == end - 1).sum(dim=1).tolist() == [1, 1]


def test_bytes_never_seen_in_training_are_readable(tokenizer):
    ids = tokenizer.encode("grüße 雨 🌧", add_special_tokens=False).ids
    assert tokenizer.token_to_id("<|endoftext|>") not in ids
    assert tokenizer.decode(ids).split() == ["grüße", "雨", "🌧"]


@pytest.mark.parametrize(
    "typed, plain",
    [("it\u2019s \u201ca cat\u201d", 'it\'s "a cat"'), ("AT&amp;amp;T &lt;3", "at&t <3"), ("cafe\u0301", "caf\u00e9")],
)
def test_texts_are_cleaned_as_published(tokenizer, typed, plain):
    cleaned, straight = tokenize_clip(tokenizer, [typed, plain], 40)
    assert torch.equal(cleaned, straight)
