"""Several pictures or sounds at once give what each gives alone."""

import pytest
import torch
from any2pix.models.imagebind import ImageBind, ImageBindDims
from any2pix.stages.encode import encode_audio, encode_audios, encode_image, encode_images, items_at_once
from torch.testing import assert_close

RATE = 16_000


@pytest.fixture(scope="module")
def imagebind() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(ImageBindDims.miniature()).eval()


@pytest.fixture
def passes(imagebind):
    """How many items each pass through a trunk held, from now on."""
    seen = []
    hooks = [
        imagebind.modality_trunks[kind].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
        for kind in ("vision", "audio")
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def pictures(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(*size, 3, generator=generator) for size in sizes]


def sounds(*seconds):
    generator = torch.Generator().manual_seed(2)
    return [0.3 * torch.randn(2, int(RATE * length), generator=generator) for length in seconds]


def test_pictures_of_any_sizes(imagebind, passes):
    given = pictures((40, 60), (200, 90), (128, 128), (64, 64), (30, 31))
    together = encode_images(imagebind, given, at_once=2)
    assert passes == [2, 2, 1]
    assert_close(together, torch.stack([encode_image(imagebind, picture) for picture in given]), rtol=1e-5, atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_sounds_of_any_lengths(imagebind, passes):
    given = sounds(0.5, 2.0, 7.3)
    together = encode_audios(imagebind, given, RATE, at_once=3)
    assert passes == [9]  # three clips of each in one pass
    assert_close(together, torch.stack([encode_audio(imagebind, s, RATE) for s in given]), rtol=1e-5, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_a_batch_tensor_is_a_sequence_of_items(imagebind):
    batch = torch.stack(pictures((32, 48), (32, 48)))
    assert_close(encode_images(imagebind, batch), encode_images(imagebind, list(batch)))
    batch = torch.stack(sounds(1.0, 1.0))
    assert_close(encode_audios(imagebind, batch, RATE), encode_audios(imagebind, list(batch), RATE))


def test_passes_are_small_on_a_processor_and_large_elsewhere(imagebind, passes):
    encode_images(imagebind, pictures(*[(8, 8)] * 5))
    assert passes == [2, 2, 1]
    assert items_at_once("cpu") == 2 and items_at_once("cuda:1") == 16


def test_nothing_gives_nothing(imagebind):
    assert encode_images(imagebind, []).shape == (0, imagebind.dims.embed)


def test_a_bad_item_is_found_before_any_is_encoded(imagebind, passes):
    with pytest.raises(ValueError, match="^Sound 2 of 3 is silent"):
        encode_audios(imagebind, [*sounds(1.0), torch.zeros(1, RATE), *sounds(1.0)], RATE, at_once=1)
    with pytest.raises(ValueError, match="^Sound 2 of 2 is 10 ms long"):
        encode_audios(imagebind, sounds(1.0, 0.01), RATE, at_once=1)
    with pytest.raises(ValueError, match="sound 2 of 2 holds 1 values that are NaN"):
        broken = sounds(1.0, 1.0)
        broken[1][1, 7] = float("inf")
        encode_audios(imagebind, broken, RATE, at_once=1)
    with pytest.raises(ValueError, match="1 values that are NaN"):
        broken = pictures((8, 8), (8, 8))
        broken[1][0, 0, 0] = float("nan")
        encode_images(imagebind, broken, at_once=1)
    assert passes == []
    with pytest.raises(ValueError, match="it must be 1 or more"):
        encode_images(imagebind, pictures((8, 8)), at_once=0)


def test_progress_and_cancel(imagebind, passes):
    steps = []
    encode_images(imagebind, pictures(*[(8, 8)] * 5), at_once=2, callback=lambda *step: steps.append(step))
    assert steps == [(0, 5), (2, 5), (4, 5)]

    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done == 2:
            raise Cancelled

    passes.clear()
    with pytest.raises(Cancelled):
        encode_images(imagebind, pictures(*[(8, 8)] * 5), at_once=2, callback=cancel)
    assert passes == [2]
