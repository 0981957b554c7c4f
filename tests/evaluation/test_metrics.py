"""Grades, rates and PSNR on cases whose answer is known."""

import math
from dataclasses import replace

import pytest
import torch
from any2pix.datagen.toyland import Scene, caption, parse_caption
from any2pix.evaluation.metrics import Rate, caption_right, changed_attributes, grade, markdown_table, psnr

SOURCE = Scene("meadow", "none", "sunny", "flat", seed=3)
TARGET = replace(SOURCE, subject="cat", weather="rain")


def seen_in(scene: Scene) -> dict[str, str]:
    return {"background": scene.background, "subject": scene.subject, "weather": scene.weather, "style": scene.style}


def test_a_perfect_edit_is_done_and_keeps_everything():
    result = grade(SOURCE, TARGET, seen_in(TARGET))
    assert result.done and result.kept == 1.0


def test_the_source_unchanged_is_not_done_but_keeps_everything():
    result = grade(SOURCE, TARGET, seen_in(SOURCE))
    assert not result.done and result.kept == 1.0


def test_half_of_a_composition_is_not_done():
    assert not grade(SOURCE, TARGET, seen_in(replace(SOURCE, subject="cat"))).done


def test_kept_counts_only_the_untouched_attributes():
    result = grade(SOURCE, TARGET, seen_in(replace(TARGET, style="ink")))
    assert result.done and result.kept == 0.5


def test_changed_attributes():
    assert changed_attributes(SOURCE, TARGET) == ("subject", "weather")
    assert changed_attributes(SOURCE, replace(SOURCE, seed=9)) == ()


def test_an_edit_that_changes_nothing_is_an_error():
    with pytest.raises(ValueError, match="no edit to grade"):
        grade(SOURCE, SOURCE, seen_in(SOURCE))


def test_captions():
    assert caption_right(parse_caption(caption(TARGET)), TARGET)
    assert not caption_right(parse_caption(caption(SOURCE)), TARGET)
    assert not caption_right(parse_caption("a cat somewhere"), TARGET)


def test_rates():
    rate = Rate.of([True, True, False, False])
    assert rate.mean == 0.5 and rate.count == 4
    assert rate.error == pytest.approx(math.sqrt(1 / 3) / 2)
    assert Rate.of([True] * 12).error == pytest.approx(math.sqrt(2 / 16 * 14 / 16 / 16))
    assert math.isnan(Rate.of([]).mean) and Rate.of([]).percent() == "-"
    assert Rate.of([1.0]).to_dict() == {"mean": 1.0, "error": None, "count": 1}


def test_psnr_of_a_constant_difference():
    pictures = torch.zeros(2, 8, 8, 3)
    assert psnr(pictures + 0.1, pictures).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)


def test_markdown():
    assert markdown_table(("a", "b"), [(1, 2)]) == "| a | b |\n|---|---|\n| 1 | 2 |"
