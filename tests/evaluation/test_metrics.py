"""Labels, rates and PSNR on cases whose answer is known."""

import math

import pytest
import torch
from any2pix.datagen.toyland import Scene
from any2pix.evaluation.case import Case, Output
from any2pix.evaluation.cases import picture_of
from any2pix.evaluation.metrics import METRICS, Tools, recognition
from any2pix.evaluation.metrics.fidelity import psnr
from any2pix.evaluation.metrics.structure import structural_similarity
from any2pix.evaluation.rates import Rate, markdown_table

CASE = Case(
    "a/0", "a", "add a cat and rain", (), labels={
        "background": ("meadow", "meadow"), "subject": ("none", "cat"), "weather": ("sunny", "rain"),
        "style": ("flat", "flat"),
    },
)  # fmt: skip
PICTURE = Output(torch.zeros(8, 8, 3))


@pytest.fixture
def seen(monkeypatch):
    """A function: the figures where the judge sees these labels, and the wanted ones otherwise."""

    def show(**other):
        labels = {name: after for name, (_, after) in CASE.labels.items()} | other
        shares = {name: {after: 0.1, labels[name]: 0.9} for name, (_, after) in CASE.labels.items()}
        recognition._shares.cache_clear()
        monkeypatch.setattr(recognition, "probabilities", lambda judge, pictures: [shares])
        tools = Tools(judge=object())
        return {name: METRICS[name].measure(CASE, PICTURE, tools) for name in ("done", "kept", "all_right")}

    return show


def test_a_perfect_edit_is_done_and_keeps_everything(seen):
    assert seen() == {"done": 1.0, "kept": 1.0, "all_right": 1.0}


def test_the_source_unchanged_is_not_done_but_keeps_everything(seen):
    assert seen(subject="none", weather="sunny") == {"done": 0.0, "kept": 1.0, "all_right": 0.0}


def test_half_of_a_composition_is_not_done(seen):
    assert seen(weather="sunny")["done"] == 0.0


def test_kept_counts_only_the_untouched_attributes(seen):
    assert seen(style="ink") == {"done": 1.0, "kept": 0.5, "all_right": 0.0}


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


def test_structure_is_where_the_lines_are_and_not_how_dark_they_are():
    drawn, other = torch.rand(2, 4, 128, 128, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, -1, -1, 3)
    assert structural_similarity(drawn, drawn).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    assert structural_similarity(drawn, 0.2 + 0.5 * drawn).tolist() == pytest.approx([1.0] * 4, abs=0.05)
    assert structural_similarity(drawn, 1 - drawn).tolist() == pytest.approx([-1.0] * 4, abs=0.2)
    assert all(abs(value) < 0.15 for value in structural_similarity(drawn, other).tolist())


def test_structure_tells_a_scene_in_another_weather_from_another_scene():
    drawn, rainy = (
        torch.stack([picture_of(Scene("city", "cat", weather, "flat", seed)) for seed in range(8)])
        for weather in ("sunny", "rain")
    )
    own, others = structural_similarity(drawn, rainy), structural_similarity(drawn, rainy.roll(1, 0))
    assert own.mean() > others.mean() + 0.3


def test_markdown():
    assert markdown_table(("a", "b"), [(1, 2)]) == "| a | b |\n|---|---|\n| 1 | 2 |"
