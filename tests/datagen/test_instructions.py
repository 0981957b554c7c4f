"""Editing instructions: every sample is a true and complete statement of its edit, and the draws keep to their
split."""

import itertools
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from any2pix.datagen import wording
from any2pix.datagen.instructions import (
    ATTRIBUTE,
    EDIT_KINDS,
    GIVEN,
    KINDS,
    MODALITIES,
    sample_edit,
    to_published_record,
)
from any2pix.datagen.sounds import SOUND_KINDS
from any2pix.datagen.toyland import HELD_OUT, SUBJECTS, TEST_SEEDS_FROM, WEATHERS, Scene, caption

MARK = re.compile(r"\[(?:image|audio|text)\d+\]")
ATTRIBUTES = ("background", "subject", "weather", "style")


def draw(count, seed=0, split="train", **options):
    rng = np.random.default_rng(seed)
    return [sample_edit(rng, split, **options) for _ in range(count)]


@pytest.fixture(scope="module")
def train():
    return draw(3000)


@pytest.fixture(scope="module")
def held_out():
    return draw(1500, seed=1, split="test")


def pictures(sample):
    return [reference.content for reference in sample.references if reference.modality == "image"]


def changed(sample):
    return {name for name in ATTRIBUTES if getattr(sample.source, name) != getattr(sample.target, name)}


def gives(content, attribute, value):
    """Whether a reference's content carries the value of the attribute."""
    if isinstance(content, Scene):
        return getattr(content, attribute) == value
    if content in SOUND_KINDS:
        return content == value
    texts = {
        "subject": (f"a {value}",),
        "style": wording.STYLE_TEXTS.get(value, ()),
        "weather": wording.WEATHER_TEXTS.get(value, ()),
    }
    return content in texts[attribute]


def test_same_seed_same_samples():
    assert draw(50, seed=3) == draw(50, seed=3)
    assert draw(50, seed=3) != draw(50, seed=4)


def test_every_mark_has_its_reference(train):
    for sample in train:
        marks = [reference.mark for reference in sample.references]
        assert set(MARK.findall(sample.instruction)) <= set(marks)
        for modality in MODALITIES:
            of_modality = [reference.mark for reference in sample.references if reference.modality == modality]
            assert of_modality == [f"[{modality}{n}]" for n in range(1, len(of_modality) + 1)]


def test_no_slot_is_left_open(train):
    for sample in train:
        assert "None" not in sample.instruction and not re.search(r"[{}]|  | a none|the none", sample.instruction), (
            sample
        )


def test_references_hold_what_their_modality_says(train):
    for reference in (reference for sample in train for reference in sample.references):
        if reference.modality == "image":
            assert reference.label == caption(reference.content)
        elif reference.modality == "audio":
            assert reference.content in SOUND_KINDS and reference.label.startswith("the sound of ")
        else:
            assert reference.label == reference.content and isinstance(reference.content, str)


def test_the_edit_changes_what_its_kinds_say_and_nothing_else(train, held_out):
    for sample in train + held_out:
        if sample.source is None:
            assert sample.kind == ("generate",) and sample.base_index is None
            continue
        assert changed(sample) == {ATTRIBUTE[kind] for kind in sample.kind}
        assert sample.source.seed == sample.target.seed
        assert sample.references[sample.base_index].content == sample.source
        assert sample.references[sample.base_index].mark in sample.instruction
        before, after = sample.source.subject, sample.target.subject
        for kind, expected in (("add", (True, False)), ("remove", (False, True)), ("replace", (False, False))):
            assert kind not in sample.kind or (before == "none", after == "none") == expected


def test_what_is_asked_for_is_in_the_words_or_in_a_mentioned_reference(train):
    for sample in train:
        mentioned = {r.mark: r for r in sample.references if r.mark in sample.instruction}
        base = None if sample.base_index is None else sample.references[sample.base_index].mark
        for kind in sample.kind:
            value = getattr(sample.source if kind == "remove" else sample.target, ATTRIBUTE[kind])
            if value == "none":  # an empty place, painted from nothing
                continue
            givers = [r for mark, r in mentioned.items() if mark != base and gives(r.content, ATTRIBUTE[kind], value)]
            if sample.given_as[kind] != "text":
                assert sample.given_as[kind] in {r.modality for r in givers}, sample
            elif ATTRIBUTE[kind] == "subject":
                assert givers or value in sample.instruction, sample
            else:
                words = sample.instruction.lower()
                tables = (wording.WEATHER_ADJECTIVES, wording.WEATHER_PLACES, wording.STYLE_NAMES)
                named = [phrase for table in tables for phrase in table.get(value, ())]
                named += [table[value] for table in (wording.WEATHER_NOUNS, wording.WEATHER_VERBS) if value in table]
                assert givers or any(phrase in words for phrase in named), sample


def test_subjects_come_from_image_references(train):
    seen = 0
    for sample in train:
        expected = {"add", "replace", "generate"} & {kind for kind in sample.kind if sample.given_as[kind] == "image"}
        assert len(sample.subjects) == len(expected)
        for name, index in sample.subjects:
            reference = sample.references[index]
            assert reference.modality == "image" and reference.content.subject == name == sample.target.subject
            assert index != sample.base_index
            seen += 1
    assert seen > 100


def test_no_reference_can_be_taken_for_the_base(train, held_out):
    for sample in train + held_out:
        if sample.source:
            assert sum(scene.combination == sample.source.combination for scene in pictures(sample)) == 1


def test_distribution_of_kinds(train):
    count = len(train)
    share = Counter(kind for sample in train for kind in sample.kind)
    assert set(share) == set(KINDS)
    assert 0.06 < share["generate"] / count < 0.10
    assert all(share[kind] / count > 0.15 for kind in EDIT_KINDS)
    length = Counter(len(sample.kind) for sample in train)
    assert length[2] / count > 0.15 and length[3] / count > 0.04
    given = Counter((kind, modality) for sample in train for kind, modality in sample.given_as.items())
    for kind in KINDS:
        assert {modality for k, modality in given if k == kind} == set(GIVEN[kind])


def test_marks_come_in_every_arrangement(train):
    edits = [sample for sample in train if sample.source]
    share = {
        "base first": np.mean([s.base_index == 0 for s in edits]),
        "base is not image1": np.mean([s.references[s.base_index].mark != "[image1]" for s in edits]),
        "not mentioned": np.mean([any(r.mark not in s.instruction for r in s.references) for s in edits]),
        "named twice": np.mean([max(Counter(MARK.findall(s.instruction)).values()) > 1 for s in edits]),
        "connected text": np.mean([any(r.modality == "text" for r in s.references) for s in edits]),
    }
    assert share["base first"] > 0.6
    assert share["base is not image1"] > 0.05
    assert 0.05 < share["not mentioned"] < 0.15
    assert share["named twice"] > 0.03
    assert share["connected text"] > 0.1


def test_wording_is_varied():
    tables = [name for name in dir(wording) if isinstance(getattr(wording, name), tuple)]
    whole = [name for name in tables if not name.endswith("_TAILS") and not name.startswith("GENERATE_")]
    assert len(whole) >= 8
    for name in whole:
        forms = getattr(wording, name)
        assert len(set(forms)) == len(forms) >= 8, name


def test_no_sentence_means_two_things():
    """The same words about the same references never ask for different edits of the same source."""
    frames = {}
    for table, meaning in (("ADD", "add"), ("REMOVE", "remove"), ("REPLACE", "replace"), ("STYLE_BY_MARK", "style")):
        for form in getattr(wording, table):
            assert frames.setdefault(form, meaning) == meaning
    for form in wording.ATMOSPHERE_BY_MARK:
        assert frames.setdefault(form, "atmosphere") == "atmosphere"
    whole = wording.ADD + wording.REMOVE + wording.REPLACE + wording.STYLE_BY_WORD + wording.ATMOSPHERE_BY_WORD
    edited = {form.split("{base}")[0] for form in whole if "{base}" in form} - {""}
    for start, words in itertools.product(wording.GENERATE_FROM_IMAGE, wording.GENERATE_MARKS["image"]):
        assert start.format(what=words).split("{mark}")[0] not in edited


def test_train_split_stays_clear_of_what_is_held_out(train):
    for sample in train:
        for scene in [sample.target, *pictures(sample)]:
            assert scene.combination not in HELD_OUT
            assert scene.seed < TEST_SEEDS_FROM


def test_test_split_targets_what_is_held_out(held_out):
    for sample in held_out:
        assert all(scene.seed >= TEST_SEEDS_FROM for scene in [sample.target, *pictures(sample)])
    for kind in KINDS:
        targets = [sample.target.combination in HELD_OUT for sample in draw(200, seed=2, split="test", kinds=(kind,))]
        assert np.mean(targets) > 0.5, kind


def test_kinds_and_modality_can_be_asked_for():
    for kind in EDIT_KINDS:
        for modality in GIVEN[kind]:
            for sample in draw(20, split="test", kinds=(kind,), given_as=modality):
                assert sample.kind == (kind,) and sample.given_as == {kind: modality}
    for sample in draw(20, kinds=("style", "add"), given_as={"add": "audio"}):
        assert sample.kind == ("style", "add") and sample.given_as["add"] == "audio"
    assert all(set(sample.given_as.values()) == {"audio"} for sample in draw(50, given_as="audio"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("style",), "given_as": "audio"}, "'style' cannot be given as 'audio'.*text, image"),
        ({"kinds": ("add", "remove")}, "cannot go together"),
        ({"kinds": ("generate", "style")}, "cannot go together"),
        ({"kinds": ()}, "cannot go together"),
        ({"kinds": ("paint",)}, "no edit 'paint'"),
        ({"split": "validation"}, "no split 'validation'"),
    ],
)
def test_impossible_wishes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        draw(1, **options)


def test_published_record_of_an_edit():
    sample = next(s for s in draw(200, kinds=("add",), given_as="image") if len(s.references) == 2)
    record = to_published_record(sample)
    base, (name, index) = f"[{caption(sample.source)}]", sample.subjects[0]
    human, answer = (turn["value"] for turn in record["conversations"])
    assert record["task"] == "any2any" and record["base"] == base and record["result"] == caption(sample.target)
    assert not MARK.search(human) and base in human
    assert (
        record["added"] == [[name, f"[{caption(sample.references[index].content)}]"]] and record["added"][0][1] in human
    )
    assert answer.endswith(f"<base>{base}<im_gen>[{caption(sample.target)}]")


def test_published_record_without_a_base():
    sample = replace(draw(1, kinds=("generate",))[0], references=(), subjects=(), instruction="paint a cat")
    record = to_published_record(sample)
    assert record["base"] == "" and "added" not in record
    assert record["conversations"][1]["value"].endswith(f"<base_null><im_gen>[{caption(sample.target)}]")


def test_unmentioned_references_are_valid_content(train):
    """A reference that the instruction does not name is a distractor like any other, never the base again."""
    for sample in train:
        for reference in sample.references:
            if reference.mark not in sample.instruction and reference.modality == "audio":
                assert reference.content in SUBJECTS + WEATHERS
