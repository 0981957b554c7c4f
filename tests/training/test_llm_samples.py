from collections import defaultdict

import numpy as np
import pytest
import torch
from any2pix.datagen.instructions import EditSample, ReferenceSpec, edits_between
from any2pix.datagen.toyland import HELD_OUT, Scene, caption
from any2pix.models.mm_llm import IGNORE_INDEX
from any2pix.stages.any2pix.prompt import special_id
from any2pix.training.llm_bank import FAMILY, EmbeddingBank, draw_family, edit_pairs
from any2pix.training.llm_samples import ExampleMaker, Wordings, collate, reword
from any2pix.training.llm_tokenizer import build_tokenizer

SOURCE = Scene("meadow", "none", "sunny", "flat", 5)
TARGET = Scene("meadow", "cat", "sunny", "flat", 5)
CAT = Scene("city", "cat", "rain", "ink", 6)
SAMPLE = EditSample(
    source=SOURCE,
    target=TARGET,
    kind=("add",),
    instruction="add [image1] to [image2]",
    references=(
        ReferenceSpec("image", "[image1]", CAT, caption(CAT)),
        ReferenceSpec("audio", "[audio1]", "rain", "the sound of rain"),
        ReferenceSpec("image", "[image2]", SOURCE, caption(SOURCE)),
    ),
    base_index=2,
    subjects=(("cat", 0),),
    given_as={"add": "image"},
)
NOTHING = Wordings(0, 0, 0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_nothing_dropped(rng):
    assert reword(SAMPLE, rng, NOTHING) == ("add [image1] to [image2]", [0, 1, 2], 2)


def test_references_drop_to_their_text_and_marks_are_counted_anew(rng):
    text, kept, base = reword(SAMPLE, rng, Wordings(1, 0, 0))
    assert (text, kept, base) == (f"add {caption(CAT)} to [image1]", [2], 2)


def test_a_dropped_base_becomes_its_caption(rng):
    text, kept, base = reword(SAMPLE, rng, Wordings(0, 1, 0))
    assert (text, kept, base) == (f"add [image1] to {caption(SOURCE)}", [0], None)


def test_the_base_goes_unnamed_only_where_it_is_the_only_image(rng):
    assert reword(SAMPLE, rng, Wordings(0, 0, 1))[0] == "add [image1] to [image2]"
    texts = {reword(SAMPLE, np.random.default_rng(seed), Wordings(1, 0, 1))[0] for seed in range(40)}
    assert f"add {caption(CAT)}" in texts and f"add {caption(CAT)} to the picture" in texts
    assert not any("[image" in text for text in texts)


def test_families_hold_edits_of_the_train_split(rng):
    scenes = [scene for _ in range(20) for scene in draw_family(rng)]
    assert not HELD_OUT & {scene.combination for scene in scenes}
    assert all(
        len({scene.combination for scene in scenes[i : i + FAMILY]}) == FAMILY for i in range(0, len(scenes), FAMILY)
    )
    pairs = edit_pairs(scenes)
    assert sum(map(len, pairs)) == 20 * FAMILY * (FAMILY - 1)
    for count, group in enumerate(pairs, start=1):
        assert all(len(edits_between(scenes[a], scenes[b])) == count for a, b in group)


@pytest.fixture(scope="module")
def maker():
    rng = np.random.default_rng(1)
    scenes = [scene for _ in range(150) for scene in draw_family(rng)]
    by_combination = defaultdict(list)
    for index, scene in enumerate(scenes):
        by_combination[scene.combination].append(index)
    pictures = torch.nn.functional.one_hot(torch.arange(len(scenes))).float()
    bank = EmbeddingBank(
        tuple(scenes), pictures, torch.zeros(10, 2, len(scenes)), edit_pairs(scenes), dict(by_combination)
    )
    return ExampleMaker(
        bank, build_tokenizer(["add a cat", "[a cat]"] * 3, 700), lambda text: torch.zeros(len(scenes)), Wordings()
    )


def test_examples_put_every_embedding_at_a_video_token(maker, rng):
    video = special_id(maker.tokenizer, "<video>")
    bases = 0
    for _ in range(100):
        example = maker.example(rng)
        ids = example.prompt + example.answer
        assert all(ids[p] == video for p in (*example.reference_positions, *example.target_positions) if p >= 0)
        assert ids.count(video) == sum(p >= 0 for p in (*example.reference_positions, *example.target_positions))
        if example.target_positions[0] >= 0:
            bases += 1
            assert any(torch.equal(example.targets[0], shown) for shown in example.references)
    assert 60 < bases < 90  # 8 % paint from nothing, a fifth of the rest drop the base


def test_collate_pads_on_the_right_and_trains_on_the_answer_only(maker, rng):
    examples = [maker.example(rng) for _ in range(8)]
    batch = collate(examples, pad=2)
    for row, example in enumerate(examples):
        start, end = len(example.prompt), len(example.prompt) + len(example.answer)
        assert batch.input_ids[row, :end].tolist() == [*example.prompt, *example.answer]
        assert batch.labels[row, start:end].tolist() == list(example.answer)
        assert (batch.labels[row, :start] == IGNORE_INDEX).all() and (batch.labels[row, end:] == IGNORE_INDEX).all()
        assert batch.target_positions[row, : len(example.target_positions)].tolist() == list(example.target_positions)
        assert (batch.target_positions[row, len(example.target_positions) :] == -1).all()
        torch.testing.assert_close(batch.references[row, : len(example.references)], example.references)
