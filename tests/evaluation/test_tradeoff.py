"""The trade-off: points whose place is known, reading them off, and the command on the bundled checkpoint."""

import json
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from any2pix.evaluation.cases import picture_of
from any2pix.evaluation.editor import MINIATURE
from any2pix.evaluation.equal import read_off
from any2pix.evaluation.pix2pix import load_pix2pix
from any2pix.evaluation.tradeoff import (
    SWEPT,
    draw_bench,
    levels_of,
    main,
    measured_once,
    other_drawing,
    pix2pix_curve,
    sdedit_curve,
)
from any2pix.evaluation.tradeoff_curves import KEPT, Curve, compare, comparison_table, curves_table
from any2pix.evaluation.tradeoff_plot import best_offset, plot
from any2pix.loading.autoencoder import load_autoencoder
from any2pix.loading.imagebind import load_imagebind
from any2pix.loading.pix2pix import load_text_diffusion
from any2pix.stages.any2pix.pipeline import Networks
from any2pix.stages.pix2pix.pipeline import SDEditOptions, TextEditOptions
from any2pix.stages.similarity import Embedder, imagebind_embedder


def curve(direction, image, method="A", cases=200, spread=0.0, seed=0) -> Curve:
    """Means as given; the cases of `image` are spread about theirs."""
    noise = np.random.default_rng(seed).normal(0, spread, cases)
    noise -= noise.mean()
    rows = [np.array(values, dtype=float)[:, None] + np.zeros(cases) for values in (direction, image)]
    return Curve(method, "knob", tuple(range(len(direction))), rows[0], rows[1] + noise, rows[1], rows[1])


def off(direction, kept, wanted):
    return float(read_off(np.array(direction)[:, None], np.array(kept)[:, None], wanted)[0])


def test_reading_between_two_points_is_linear():
    assert off([0.2, 0.6], [0.9, 0.5], 0.3) == pytest.approx(0.8)
    assert off([0.6, 0.2], [0.5, 0.9], 0.3) == pytest.approx(0.8)


def test_a_curve_that_turns_back_is_read_at_its_better_setting():
    assert off([0.0, 0.5, 0.0], [1.0, 0.8, 0.2], 0.25) == pytest.approx(0.9)
    assert off([0.3, 0.3], [0.4, 0.7], 0.3) == pytest.approx(0.4)


def test_what_a_curve_never_reaches_is_nan():
    assert np.isnan(off([0.2, 0.6], [0.9, 0.5], 0.7))


def test_many_curves_at_once():
    direction, kept = np.array([[0.0, 0.0], [1.0, 2.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    assert read_off(direction, kept, 0.5) == pytest.approx([0.5, 0.75])


def test_a_difference_that_is_known_with_the_error_of_its_mean():
    """All cases of one curve 0.1 above the other's mean, spread by 0.3: the bootstrap's error is that of a mean."""
    first, second = curve([0.0, 1.0], [0.9, 0.6], spread=0.3), curve([0.0, 1.0], [0.8, 0.5], "B")
    found = compare(first, second, "image")
    assert found.levels == pytest.approx((0.1, 0.3, 0.5, 0.7, 0.9))
    assert [rate.mean for rate in found.differences] == pytest.approx([0.1] * 5)
    error = first.image.std(axis=1)[0] / np.sqrt(200)
    assert [rate.error for rate in found.differences] == pytest.approx([error] * 5, rel=0.1)
    assert found.mean.mean == pytest.approx(0.1) and found.mean.count == 200
    assert [rate.mean for rate in compare(second, first, "image").differences] == pytest.approx([-0.1] * 5)


def test_the_same_cases_are_drawn_for_both():
    """What all methods find hard is no uncertainty of the difference."""
    first, second = curve([0, 1], [0.9, 0.6], spread=0.3), curve([0, 1], [0.8, 0.5], "B", spread=0.3)
    assert compare(first, second, "image").mean.error == pytest.approx(0.0, abs=1e-9)


def test_only_directions_that_both_reach_are_compared():
    found = compare(curve([0.1, 0.5], [1, 0]), curve([0.3, 0.9], [1, 0], "B"), "image")
    assert found.levels[0] == pytest.approx(0.32) and found.levels[-1] == pytest.approx(0.48)
    apart = compare(curve([0.1, 0.2], [1, 0]), curve([0.3, 0.9], [1, 0], "B"), "image").to_dict()
    assert apart["direction"] == [] and "NaN" not in json.dumps(apart)
    assert "the curves share no directional similarity" in comparison_table([apart])


def test_the_tables_name_methods_points_and_signs():
    first, second = curve([0, 1], [0.9, 0.6], spread=0.3), curve([0, 1], [0.8, 0.5], "B")
    table = comparison_table([compare(first, second, "image").to_dict()])
    assert "| A | B | A - B |" in table and "+0.100 ±" in table
    assert "| B | knob 1 | 1.000 ± " in curves_table([c.to_dict() for c in (first, second)])


def test_a_curve_is_kept_for_its_settings_alone(tmp_path):
    first = curve([0.0, 1.0], [0.9, 0.6], spread=0.3)
    assert Curve.load(tmp_path / "a.npz", "seed 1") is None
    first.save(tmp_path / "a.npz", "seed 1")
    stored = Curve.load(tmp_path / "a.npz", "seed 1")
    assert (stored.method, stored.knob, stored.values) == (first.method, first.knob, first.values)
    assert all((getattr(stored, what) == getattr(first, what)).all() for what in ("direction", *KEPT))
    assert Curve.load(tmp_path / "a.npz", "seed 2") is None


def test_a_stopped_run_goes_on_with_the_methods_that_are_left(tmp_path):
    measured = []

    def measure_curve(options, values):
        measured.append(options)
        return curve(values, values)

    given = Namespace(curves=tmp_path / "new", seed=1, samples=2, split="test", embedder=None, bf16=False)
    for options in (TextEditOptions(), TextEditOptions(), SDEditOptions(), TextEditOptions(steps=3)):
        assert measured_once(given, options, (0.25, 0.5), measure_curve).values == (0, 1)
    assert measured == [TextEditOptions(), SDEditOptions(), TextEditOptions(steps=3)]
    given.curves = None
    measured_once(given, TextEditOptions(steps=3), (0.25, 0.5), measure_curve)
    assert len(measured) == 4, "weights may have changed: only where it is asked for"


@pytest.fixture(scope="module")
def bench():
    return draw_bench(None, imagebind_embedder(load_imagebind(MINIATURE / "imagebind.safetensors")), 5, 2, "validation")


def test_a_perfect_edit_goes_the_captions_way_and_a_copy_keeps_everything(bench):
    wanted = levels_of(bench)["the wanted picture itself"]
    assert wanted["direction"]["mean"] > 0.6
    assert wanted["image"]["mean"] < 0.95
    copied = bench.level(bench.sources)
    assert [copied[what]["mean"] for what in KEPT] == pytest.approx([1.0] * len(KEPT), abs=1e-4)
    assert copied["direction"]["mean"] == pytest.approx(0.0, abs=1e-3)


def test_the_embedding_hardly_tells_where_things_are_and_patches_and_lines_do(bench):
    other = other_drawing(bench)
    assert other["image"]["mean"] > 0.85
    assert other["patches"]["mean"] < 0.8 and other["structure"]["mean"] < 0.8


def test_a_curve_has_a_point_for_every_value_and_each_case_is_measured_apart(bench):
    """Pictures on the way from the source to the wanted one: ever less of the source is kept."""
    wanted = torch.stack([picture_of(case.sample.target) for case in bench.cases])
    found = bench.curve("fade", "share", (0.0, 0.5, 1.0), lambda share: torch.lerp(bench.sources, wanted, share))
    assert found.direction.shape == found.structure.shape == (3, len(bench.cases))
    for what in KEPT:
        means = [rate.mean for rate in found.rates(what)]
        assert means == sorted(means, reverse=True) and means[0] == pytest.approx(1.0, abs=1e-4)
    assert found.direction[2].mean() == pytest.approx(
        levels_of(bench)["the wanted picture itself"]["direction"]["mean"], abs=1e-4
    )


def test_captions_are_those_of_source_and_target():
    """An embedder that knows pictures by their brightness and captions by heart."""
    read = []

    def texts(lines):
        read.append(tuple(lines))
        return torch.eye(2)

    def pictures(images):
        return torch.eye(2).repeat(len(images) // 2, 1)

    known = Embedder(pictures, texts, lambda images: pictures(images)[:, None])
    found = draw_bench(None, known, 5, 1, "validation", rows=("add",))
    assert found.measure(found.sources)[0] == pytest.approx(1.0)
    (source, edited), scene = read[0], found.cases[0].sample.target
    assert scene.subject in edited and scene.subject not in source


def test_labels_avoid_what_is_there_and_stay_in_the_frame():
    half, frame = (5.0, 4.0), (0.0, 0.0, 400.0, 400.0)
    free = best_offset((200, 200), half, [(196, 196, 204, 204)], frame)
    assert np.hypot(*free) == pytest.approx(11)
    above = (190, 200, 260, 260)
    x, y = best_offset((200, 200), half, [above], frame)
    assert x + 200 + 5 <= 190 or y + 200 + 4 <= 200
    x, y = best_offset((398, 398), half, [], frame)
    assert x + 398 + 5 <= 400 and y + 398 + 4 <= 400


def test_the_command_measures_all_three_methods_and_plots_them(tmp_path):
    """On the bundled checkpoint, as few steps as will do."""
    files = ["--json", str(tmp_path / "t.json"), "--plot", str(tmp_path / "t.png")]
    few = ["--image-guidances", "1", "2", "--strengths", "0.5", "1", "--alphas", "0", "1"]
    steps = ["--options", "steps=2", "iterations=1", "--text-options", "steps=2", "--sdedit-options", "steps=2"]
    main(["--split", "validation", "--samples", "1", *few, *steps, *files])
    record = json.loads((tmp_path / "t.json").read_text())
    assert [found["method"] for found in record["tradeoff"]] == ["InstructPix2Pix", "SDEdit", "InstructAny2Pix"]
    assert all(rate["count"] == record["edits"] == 5 for found in record["tradeoff"] for rate in found["image"])
    strengths = next(found for found in record["tradeoff"] if found["method"] == "SDEdit")["structure"]
    assert strengths[0]["mean"] > strengths[1]["mean"] + 0.2, "full strength leaves nothing of the picture"
    assert {found["what"] for found in record["at equal direction"]} == set(KEPT)
    assert (tmp_path / "t.png").stat().st_size > 10_000


def test_the_plot_takes_what_json_gives(tmp_path):
    found = json.loads(json.dumps(curve([0.1, 0.4, 0.4], [0.9, 0.5, 0.5], spread=0.1).to_dict()))
    level = {"wanted": {what: {"mean": 0.8, "error": None} for what in ("direction", *KEPT)}}
    plot([found], level, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_the_bundled_network_keeps_more_of_each_place_than_sdedit():
    """Five validation edits painted here, in few steps: where both change the picture equally well, InstructPix2Pix
    leaves more of it where it was. Of the picture's embedding, which hardly tells places, it loses no more."""
    networks = Networks(
        imagebind=load_imagebind(MINIATURE / "imagebind.safetensors"), llm=None, diffusion=None,
        vae=load_autoencoder(MINIATURE / "vae.safetensors"),
    )  # fmt: skip
    live = draw_bench(networks, imagebind_embedder(networks.imagebind), 7, 1, "validation")
    painter = load_text_diffusion(MINIATURE / "text_unet.safetensors", MINIATURE / "text_encoder.safetensors")
    by_words = pix2pix_curve(live, load_pix2pix(MINIATURE), replace(SWEPT, steps=6), (1.0, 3.0))
    noised = sdedit_curve(live, painter, SDEditOptions(steps=6), (0.5, 1.0))
    found = {what: compare(by_words, noised, what) for what in KEPT}
    assert found["structure"].levels, "both reach some directional similarity"
    assert found["structure"].mean.mean > 0.1 and found["patches"].mean.mean > 0.02
    assert found["image"].mean.mean > -0.05
