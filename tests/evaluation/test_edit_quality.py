"""The evaluation handed editors whose quality is known: a perfect one, one that copies, one that breaks everything."""

import json
from dataclasses import replace

import pytest
import torch
from any2pix.datagen.toyland import HELD_OUT, TEST_SEEDS_FROM, caption
from any2pix.evaluation import scoring
from any2pix.evaluation.cases import ROWS, draw_cases, picture_of
from any2pix.evaluation.edit_quality import main, quality_table, sheet_of
from any2pix.evaluation.editor import Outcome, options_from
from any2pix.evaluation.judge import ATTRIBUTES
from any2pix.evaluation.rates import Rate
from any2pix.evaluation.scoring import copy_editor, grade_outcomes, summarise
from any2pix.stages.any2pix.options import EditOptions
from PIL import Image


class Remembering:
    """A judge that knows every picture it is shown, because the test drew it."""

    def __init__(self, scenes):
        self.answers = {self.key(picture_of(scene)): scene for scene in scenes}

    @staticmethod
    def key(picture) -> bytes:
        return picture.numpy().tobytes()

    def verdicts(self, _, pictures, **__):
        return [{name: getattr(self.answers[self.key(p)], name) for name in ATTRIBUTES} for p in pictures]


@pytest.fixture(scope="module")
def cases():
    return draw_cases(seed=4, count=2)


@pytest.fixture
def judged(cases, monkeypatch):
    scenes = [s for case in cases for s in (case.sample.source, case.sample.target) if s is not None]
    monkeypatch.setattr(scoring, "verdicts", Remembering(scenes).verdicts)


def perfect_editor(cases):
    return [Outcome(picture_of(c.sample.target), caption(c.sample.target), c.sample.base_index) for c in cases]


def test_a_perfect_editor_gets_everything(cases, judged):
    figures = summarise(grade_outcomes(None, cases, perfect_editor(cases)))
    shares = {name: rate.mean for name, rate in figures.items() if rate.count and "worse" not in name}
    assert set(shares.values()) == {1.0}
    assert figures["audio worse than text"].mean == figures["image worse than text"].mean == 0.0


def test_copying_the_source_keeps_all_and_does_nothing(cases, judged):
    edits = [case for case in cases if case.sample.source is not None]
    figures = summarise(grade_outcomes(None, edits, copy_editor(edits)))
    assert figures["kept"].mean == 1.0
    assert figures["done"].mean == 0.0
    assert figures["caption"].mean == 0.0


def test_an_editor_deaf_to_sounds_is_found_out(cases, judged):
    outcomes = perfect_editor(cases)
    for i, case in enumerate(cases):
        if case.modality == "audio":
            outcomes[i] = copy_editor([case])[0]
    figures = summarise(grade_outcomes(None, cases, outcomes))
    assert figures["audio worse than text"].mean == 1.0
    assert figures["image worse than text"].mean == 0.0


def test_the_wrong_base_is_counted(cases, judged):
    outcomes = [replace(outcome, base_index=9) for outcome in perfect_editor(cases)]
    assert summarise(grade_outcomes(None, cases, outcomes))["base retrieval"].mean == 0.0


def test_cases_are_the_same_for_a_seed_and_held_out(cases):
    assert draw_cases(seed=4, count=2) == cases
    assert {case.row for case in cases} == set(ROWS)
    assert all(case.sample.target.seed >= TEST_SEEDS_FROM for case in cases)


def test_validation_never_touches_what_is_held_out():
    for case in draw_cases(seed=4, count=3, split="validation"):
        assert case.sample.target.combination not in HELD_OUT
        assert case.sample.target.seed < TEST_SEEDS_FROM


def test_the_same_edit_in_every_way(cases):
    pairs = {}
    for case in cases:
        if case.modality != "mixed":
            pairs.setdefault((case.row, case.number), set()).add((case.sample.source, case.sample.target))
    assert all(len(scenes) == 1 for scenes in pairs.values())


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="validation"):
        draw_cases(seed=1, count=1, split="train")


def test_table_and_sheet(cases, judged):
    graded = grade_outcomes(None, cases, perfect_editor(cases))
    figures = summarise(graded)
    table = quality_table(figures, figures, figures, {"vae psnr": Rate.of([25.0, 27.0])})
    assert "edit done: add" in table and "26.0 ± 1.0 dB" in table
    sheet = sheet_of(graded, seed=1, count=4)
    assert isinstance(sheet, Image.Image)
    assert sheet.tobytes() == sheet_of(graded, seed=1, count=4).tobytes()


def test_rates_are_json(cases, judged):
    figures = summarise(grade_outcomes(None, cases[:1], perfect_editor(cases[:1])))
    assert "NaN" not in json.dumps({name: rate.to_dict() for name, rate in figures.items()})


def test_options_by_name():
    assert options_from(["cfg=2.5", "negative=null", "steps=7"]) == EditOptions(cfg=2.5, negative="null", steps=7)
    with pytest.raises(ValueError, match="'guidance=3' is not an option"):
        options_from(["guidance=3"])
    with pytest.raises(ValueError, match="steps must be an integer, got 'many'"):
        options_from(["steps=many"])


def test_pictures_are_in_range(cases):
    picture = picture_of(cases[0].sample.target)
    assert picture.shape == (128, 128, 3) and picture.min() >= 0 and picture.max() <= 1
    assert picture.dtype == torch.float32


def test_pictures_painted_from_nothing_alone_are_measured(tmp_path, monkeypatch):
    """With the bundled networks: there is no source to copy, and none on the sheet."""
    files = [
        "--json",
        str(tmp_path / "q.json"),
        "--sheet",
        str(tmp_path / "s.png"),
        "--text-sheet",
        str(tmp_path / "t"),
    ]
    steps = ["--options", "steps=2", "iterations=1"]
    main(["--rows", "generate", "--samples", "1", "--split", "validation", *steps, *files])
    record = json.loads((tmp_path / "q.json").read_text())
    assert record["figures"]["done/generate"]["count"] == 1
    assert record["perfect painter through the vae"]["done/generate"]["mean"] == 1.0
    assert record["copying the source"] == {}
    assert Image.open(tmp_path / "s.png").width > 500 and not (tmp_path / "t.png").exists()


def test_a_kind_of_edit_alone_is_summarised(cases, judged):
    painted = [case for case in cases if case.row == "generate"]
    assert summarise(grade_outcomes(None, [], []))["done"].count == 0
    graded = grade_outcomes(None, painted, perfect_editor(painted))
    assert summarise(graded)["done/generate"].mean == 1.0 and sheet_of(graded, 1).height > 0
