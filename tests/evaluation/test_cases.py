"""The drawn edits, what of them words can say, and options by name."""

import re

import pytest
import torch
from any2pix.datagen.toyland import HELD_OUT, TEST_SEEDS_FROM
from any2pix.evaluation.cases import COMPOSITIONS, ROWS, can_be_said, draw_cases, in_words, picture_of
from any2pix.evaluation.options import options_from
from any2pix.stages.any2pix.options import EditOptions

SAID = {
    "sunny": ("sun",), "rain": ("rain",), "snow": ("snow",), "night": ("night", "dark"),
    "flat": ("flat",), "pastel": ("pastel",), "ink": ("ink",),
}  # fmt: skip
PREPOSITIONS = ("in", "into", "to", "from", "of", "on", "onto", "for")


@pytest.fixture(scope="module")
def cases():
    return draw_cases(seed=4, count=2)


@pytest.fixture(scope="module")
def worded():
    """Of twelve edits of each kind those that words can say."""
    return [case for case in draw_cases(seed=4, count=12) if can_be_said(case)]


def test_every_edit_counts_once(worded):
    numbers = [(case.row, case.number) for case in worded]
    assert len(numbers) == len(set(numbers)) == 12 * 7
    assert {case.modality for case in worded if case.row not in COMPOSITIONS} == {"text"}


def test_instructions_are_words_that_say_the_same_edit(worded):
    for case in worded:
        text, source, target = in_words(case).lower(), case.sample.source, case.sample.target
        assert "[" not in text, text
        assert text == in_words(case).lower()
        for kind in case.sample.kind:
            wanted = {
                "add": (target.subject,), "replace": (target.subject,), "remove": (source.subject,),
                "style": SAID[target.style], "atmosphere": SAID[target.weather],
            }[kind]  # fmt: skip
            assert any(word in text for word in wanted), (text, kind)


def test_a_sentence_without_other_marks_stays_as_it_is(worded):
    """Apart from the mark of the picture, and its preposition where the mark is left out."""
    own = 0
    for case in worded:
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


def test_options_by_name():
    assert options_from(["cfg=2.5", "negative=null", "steps=7"], EditOptions()) == EditOptions(
        cfg=2.5, negative="null", steps=7
    )
    with pytest.raises(ValueError, match="'guidance=3' is not an option"):
        options_from(["guidance=3"], EditOptions())
    with pytest.raises(ValueError, match="steps must be an integer, got 'many'"):
        options_from(["steps=many"], EditOptions())
    assert options_from(["find_mask=true"], EditOptions()).find_mask
    assert not options_from(["find_mask=False"], EditOptions(find_mask=True)).find_mask
    with pytest.raises(ValueError, match="find_mask must be true or false, got 'yes'"):
        options_from(["find_mask=yes"], EditOptions())


def test_pictures_are_in_range(cases):
    picture = picture_of(cases[0].sample.target)
    assert picture.shape == (128, 128, 3) and picture.min() >= 0 and picture.max() <= 1
    assert picture.dtype == torch.float32
