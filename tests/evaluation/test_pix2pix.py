"""InstructPix2Pix in the evaluation: what it is given, that it is the same edit, and what becomes of the results."""

import re
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from any2pix.evaluation import edit_quality, pix2pix, pix2pix_options, scoring
from any2pix.evaluation.cases import COMPOSITIONS, draw_cases, picture_of
from any2pix.evaluation.edit_quality import IN_WORDS, grade_in_words, quality_table, sheet_of
from any2pix.evaluation.editor import Outcome
from any2pix.evaluation.judge import ATTRIBUTES
from any2pix.evaluation.pix2pix import can_be_said, has_pix2pix, in_words, pix2pix_editor
from any2pix.evaluation.rates import Rate
from any2pix.evaluation.scoring import copy_editor, grade_outcomes, summarise
from any2pix.models.backbone import SDXL
from any2pix.stages.pix2pix.pipeline import TextEditOptions

SAID = {
    "sunny": ("sun",), "rain": ("rain",), "snow": ("snow",), "night": ("night", "dark"),
    "flat": ("flat",), "pastel": ("pastel",), "ink": ("ink",),
}  # fmt: skip
PREPOSITIONS = ("in", "into", "to", "from", "of", "on", "onto", "for")


@pytest.fixture(scope="module")
def cases():
    return [case for case in draw_cases(seed=4, count=12) if can_be_said(case)]


@pytest.fixture
def judged(cases, monkeypatch):
    """A judge that knows every picture, because the test drew it."""
    scenes = [scene for case in cases for scene in (case.sample.source, case.sample.target)]
    known = {picture_of(scene).numpy().tobytes(): scene for scene in scenes}

    def verdicts(_, pictures):
        seen = [known[picture.numpy().tobytes()] for picture in pictures]
        return [{name: getattr(scene, name) for name in ATTRIBUTES} for scene in seen]

    monkeypatch.setattr(scoring, "verdicts", verdicts)


def perfect(cases):
    return [Outcome(picture_of(case.sample.target), "", case.sample.base_index) for case in cases]


def test_every_edit_counts_once(cases):
    numbers = [(case.row, case.number) for case in cases]
    assert len(numbers) == len(set(numbers)) == 12 * 7
    assert {case.modality for case in cases if case.row not in COMPOSITIONS} == {"text"}


def test_instructions_are_words_that_say_the_same_edit(cases):
    for case in cases:
        text, source, target = in_words(case).lower(), case.sample.source, case.sample.target
        assert "[" not in text, text
        assert text == in_words(case).lower()
        for kind in case.sample.kind:
            wanted = {
                "add": (target.subject,), "replace": (target.subject,), "remove": (source.subject,),
                "style": SAID[target.style], "atmosphere": SAID[target.weather],
            }[kind]  # fmt: skip
            assert any(word in text for word in wanted), (text, kind)


def test_a_sentence_without_other_marks_stays_as_it_is(cases):
    """Apart from the mark of the picture, and its preposition where the mark is left out."""
    own = 0
    for case in cases:
        sample = case.sample
        base = sample.references[sample.base_index].mark
        if "[" in sample.instruction.replace(base, ""):
            continue
        own += 1
        left = iter(re.findall("[a-z]+", in_words(case).lower()))
        kept = re.findall("[a-z]+", sample.instruction.replace(base, "").lower())
        kept = [word for word in kept if word not in PREPOSITIONS]
        assert all(word in left for word in kept), (sample.instruction, in_words(case))
    assert own > 10


def test_batches_keep_pictures_and_words_together(cases, monkeypatch):
    """Every picture comes back with its own instruction and its own noise, whatever the size of a batch."""
    asked = {}

    def edit_by_text(network, vae, pictures, texts, noise, options):
        for picture, text, own in zip(pictures, texts, noise, strict=True):
            asked[text, picture.numpy().tobytes()] = own
        return 1 - pictures

    monkeypatch.setattr(pix2pix, "edit_by_text", edit_by_text)
    outcomes = pix2pix_editor(None, _Vae(), TextEditOptions(), seed=3)(cases)
    noise = torch.randn(len(cases), 4, 16, 16, generator=torch.Generator().manual_seed(3))
    for case, outcome, own in zip(cases, outcomes, noise, strict=True):
        source = picture_of(case.sample.source)
        assert outcome.image.equal(1 - source) and outcome.base_index == case.sample.base_index
        assert asked[in_words(case), source.numpy().tobytes()].equal(own)


class _Vae:
    latent = SDXL.latent


def test_what_words_cannot_say_is_refused():
    sound = next(case for case in draw_cases(seed=4, count=1) if case.modality == "audio")
    painted = next(case for case in draw_cases(seed=4, count=1) if case.row == "generate")
    for case in (sound, painted):
        with pytest.raises(ValueError, match="by words"):
            pix2pix_editor(None, _Vae())([case])


def test_both_stand_in_one_table_on_the_same_edits(cases, judged, monkeypatch, tmp_path):
    """InstructAny2Pix does everything, InstructPix2Pix copies: each column tells its own."""
    monkeypatch.setattr(edit_quality, "has_pix2pix", lambda folder: folder == tmp_path)
    monkeypatch.setattr(edit_quality, "pix2pix_editor", lambda *_: copy_editor)
    checkpoint = Namespace(pix2pix=None, vae=None, device=torch.device("cpu"))
    graded = grade_outcomes(None, cases, perfect(cases))
    options = edit_quality._arguments().parse_args(["--miniature", str(tmp_path)])
    by_words = grade_in_words(None, checkpoint, graded, options)
    assert [g.case for g in by_words[IN_WORDS[0]]] == [g.case for g in by_words[IN_WORDS[1]]] == cases
    figures = summarise(graded)
    worded = {title: summarise(of) for title, of in by_words.items()}
    table = quality_table(figures, figures, figures, {"vae psnr": Rate.of([25.0, 27.0])}, worded)
    head, row = (
        next(line for line in table.splitlines() if start in line) for start in ("measured", "edit done: style")
    )
    cells = dict(zip(head.split("|"), row.split("|"), strict=True))
    assert cells[f" {IN_WORDS[0]} "].strip().startswith("100.0 ±") and "(n 12)" in cells[f" {IN_WORDS[0]} "]
    assert cells[f" {IN_WORDS[1]} "].strip().startswith("0.0 ±")
    assert len({line.count("|") for line in table.splitlines()}) == 1
    options.miniature = Path("elsewhere")
    assert grade_in_words(None, checkpoint, graded, options) == {}


def test_the_sheet_shows_the_words_that_were_given(cases, judged):
    graded = grade_outcomes(None, cases, perfect(cases))
    assert sheet_of(graded, 1, 4, words=True).tobytes() != sheet_of(graded, 1, 4).tobytes()


def test_a_folder_has_it_with_both_files(tmp_path):
    (tmp_path / "pix2pix.safetensors").touch()
    assert not has_pix2pix(tmp_path)
    (tmp_path / "pix2pix_text_encoder.safetensors").touch()
    assert has_pix2pix(tmp_path)


def test_options_are_sorted_by_what_they_get_right(cases, judged):
    good, bad = TextEditOptions(text_guidance=2.0), TextEditOptions(text_guidance=9.0)
    found = pix2pix_options.sweep(None, {good: perfect, bad: copy_editor}.get, cases, (bad, good))
    assert [options for options, _ in found] == [good, bad]
    assert [scores[0].mean for _, scores in found] == [1.0, 0.0]
    assert [scores[2].mean for _, scores in found] == [1.0, 1.0]
    assert pix2pix_options.table(found).splitlines()[2].startswith("| 2.0 | 2.0 | 25 | normal | 100.0 ±")


def test_options_are_never_chosen_on_the_test_split(monkeypatch, tmp_path, capsys):
    nothing = Namespace(pix2pix=None, vae=None, judge=None, device=torch.device("cpu"))
    monkeypatch.setattr(pix2pix_options, "Checkpoint", lambda *_: nothing)
    drawn = []
    monkeypatch.setattr(pix2pix_options, "sweep", lambda judge, editor, cases, options: drawn.extend(cases) or [])
    pix2pix_options.main(["--samples", "1"])
    assert drawn and {case.sample.target for case in drawn}.isdisjoint(c.sample.target for c in draw_cases(1, 1))
    with pytest.raises(SystemExit):
        pix2pix_options.main(["--split", "test"])
    assert "unrecognized arguments" in capsys.readouterr().err
