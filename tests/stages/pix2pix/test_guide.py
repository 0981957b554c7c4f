"""The guidance of InstructPix2Pix: the paper's formula, its corners, and what does not fit."""

import math

import pytest
import torch
from any2pix.stages.pix2pix.guide import guide_edit
from torch.testing import assert_close


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64) for _ in range(3)]


def test_the_papers_formula(predictions):
    plain, image, text = predictions
    expected = plain + 1.5 * (image - plain) + 7.5 * (text - image)
    assert_close(guide_edit(*predictions, text_guidance=7.5, image_guidance=1.5), expected)


@pytest.mark.parametrize(("scales", "weights"), [((0, 0), (1, 0, 0)), ((0, 1), (0, 1, 0)), ((1, 1), (0, 0, 1))])
def test_each_prediction_alone(predictions, scales, weights):
    expected = sum(weight * prediction for weight, prediction in zip(weights, predictions, strict=True))
    assert_close(guide_edit(*predictions, *map(float, scales)), expected)


def test_equal_scales_are_ordinary_guidance_between_nothing_and_both(predictions):
    plain, _, text = predictions
    assert_close(guide_edit(*predictions, 3.0, 3.0), plain + 3.0 * (text - plain))


def test_noise_and_denoised_picture_are_guided_alike(predictions):
    """The denoised picture is x - sigma eps: guiding either is the same."""
    x, sigma = torch.full_like(predictions[0], 0.7), 3.2
    denoised = [x - sigma * prediction for prediction in predictions]
    assert_close(guide_edit(*denoised), x - sigma * guide_edit(*predictions))


def test_predictions_of_other_shapes_are_named(predictions):
    plain, image, text = predictions
    with pytest.raises(ValueError, match=r"with the picture is \(2, 4, 3, 4\), the one without is \(2, 4, 3, 5\)"):
        guide_edit(plain, image[..., :4], text)
    with pytest.raises(ValueError, match="with picture and instruction"):
        guide_edit(plain, image, text[:1])


@pytest.mark.parametrize("name", ["text_guidance", "image_guidance"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_named(predictions, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number, got {value}"):
        guide_edit(*predictions, **{name: value})
