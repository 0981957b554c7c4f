"""Data sets: what Toyland's cases hold, its frozen seeds, and a folder of one's own."""

import json
import wave

import numpy as np
import pytest
import torch
from any2pix.datagen.toyland import HELD_OUT, TEST_SEEDS_FROM, Scene, caption
from any2pix.evaluation.case import Case
from any2pix.evaluation.cases import draw_cases
from any2pix.evaluation.datasets import DATASETS, Draw, load_cases, toyland
from any2pix.evaluation.datasets.folder import words_of
from any2pix.evaluation.datasets.toyland import FINAL_SEEDS_FROM, beyond, case_of
from any2pix.stages.sources import Source
from PIL import Image

SIDE = 24


@pytest.fixture(scope="module")
def cases():
    return load_cases("toyland", Draw(seed=4, count=2))


def test_a_data_set_is_found_by_its_file():
    assert {"toyland", "folder"} <= set(DATASETS.names())
    with pytest.raises(ValueError, match="no data set 'photos'. Choose from: folder, toyland"):
        load_cases("photos", Draw())


def test_toyland_draws_all_that_is_measured(cases):
    by_name = {case.name: case for case in cases}
    assert len(by_name) == len(cases)
    added = by_name["add/0/text"]
    assert added.source.shape == added.target.shape == (128, 128, 3) and added.words
    assert added.labels["subject"][0] == "none" and added.labels["subject"][1] in added.target_caption
    outside = ~added.region
    assert torch.equal(added.source[outside], added.target[outside])
    assert 0.2 < outside.float().mean() < 0.9
    assert by_name["generate/0/mixed"].source is None and by_name["generate/0/mixed"].base is None


def test_an_edit_given_in_three_ways_is_one_scene(cases):
    ways = [case for case in cases if case.scene == "add/0"]
    assert [case.tags["given_as"] for case in ways] == ["text", "image", "audio"]
    assert all(torch.equal(case.target, ways[0].target) for case in ways)
    assert [bool(case.words) for case in ways] == [True, False, False], "words can give it once"


def test_a_case_needs_no_toyland(cases):
    """Every reference holds its own content."""
    for case in cases:
        for reference in case.references:
            content = reference.content if reference.modality == "text" else reference.tensor
            assert len(content) > 0


def test_final_seeds_lie_beyond_all_others():
    """On another stream: the frozen one is drawn for the report alone."""
    for edit in draw_cases(seed=3, count=1, split="test"):
        moved = beyond(edit)
        scenes = [moved.sample.source, moved.sample.target, *(r.content for r in moved.sample.references)]
        seeds = [scene.seed for scene in scenes if isinstance(scene, Scene)]
        assert min(*seeds, moved.sound_seed) >= FINAL_SEEDS_FROM == 2 * TEST_SEEDS_FROM
        assert moved.sample.instruction == edit.sample.instruction
        assert moved.sample.target.combination == edit.sample.target.combination
        case = case_of(moved)
        assert case.target_caption == caption(edit.sample.target)
        assert not torch.equal(case.target, case_of(edit).target), "another drawing"
    assert max(edit.sample.target.seed for edit in draw_cases(3, 4, "test")) < FINAL_SEEDS_FROM


def test_the_final_split_is_drawn_from_its_own_stream(monkeypatch):
    """Here with another number of the stream, so that the frozen cases stay unseen."""
    drawn = {}
    for stream, report in ((5, 1), (6, 1), (5, 2)):
        monkeypatch.setattr(toyland, "FINAL_STREAM", stream)
        monkeypatch.setattr(toyland, "FINAL_REPORT", report)
        asked = [load_cases("toyland", Draw("final", seed, 1, ("add", "generate"))) for seed in (1, 2)]
        assert [case.name for case in asked[0]] == ["add/0/text", "add/0/image", "add/0/audio", "generate/0/mixed"]
        assert all(torch.equal(a.target, b.target) for a, b in zip(*asked, strict=True)), "there is no seed to choose"
        drawn[stream, report] = asked[0]
    assert not torch.equal(drawn[5, 1][0].target, drawn[6, 1][0].target)
    assert not torch.equal(drawn[5, 1][0].target, drawn[5, 2][0].target), "every report has cases of its own"
    monkeypatch.undo()
    assert toyland.FINAL_STREAM == 20_261_128, "frozen"


def test_validation_is_neither_held_out_nor_final():
    for case in draw_cases(seed=1, count=2, split="validation"):
        assert case.sample.target.combination not in HELD_OUT and case.sample.target.seed < TEST_SEEDS_FROM


def test_what_toyland_has_not_is_refused():
    with pytest.raises(ValueError, match="no split 'train'"):
        load_cases("toyland", Draw(split="train"))
    with pytest.raises(ValueError, match="no kind of edit 'paint'"):
        load_cases("toyland", Draw(kinds=("paint",)))
    with pytest.raises(ValueError, match="needs no place"):
        load_cases("toyland:here", Draw())


@pytest.fixture
def home(tmp_path):
    """A folder with two pictures, a mask and a sound."""
    for name, colour in (("cat.png", (200, 40, 40)), ("wet.jpg", (40, 40, 200))):
        Image.new("RGB", (SIDE + 3, SIDE), colour).save(tmp_path / name)
    mask = np.zeros((SIDE, SIDE + 3), dtype=np.uint8)
    mask[: SIDE // 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    with wave.open(str(tmp_path / "rain.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes((np.sin(np.arange(4000)) * 16384).astype("<i2").tobytes())
    return tmp_path


def write_list(home, *records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (home / "edits.jsonl").write_text("\n".join(lines) + "\n")
    return f"folder:{home}"


def test_a_folder_of_ones_own(home):
    full = {
        "source": "cat.png", "instruction": "let [image1] sound like [audio1]", "references": ["rain.wav"],
        "source_caption": "a cat", "target_caption": "a wet cat", "target": "wet.jpg", "region": "mask.png",
        "labels": {"weather": ["sunny", "rain"]}, "tags": {"kind": "weather"},
    }  # fmt: skip
    plain = {"source": "cat.png", "instruction": "make [image1] wet"}
    painted = {"instruction": "paint [text1]", "references": [{"text": "a cat"}]}
    first, second, third = load_cases(write_list(home, full, "", plain, painted), Draw())
    assert first.source.shape == first.target.shape == (SIDE, SIDE, 3), "cropped to whole places of the latent"
    assert first.region.shape == (SIDE, SIDE) and first.region.float().mean() == 0.5
    waveform, sample_rate = first.references[1].content
    assert (sample_rate, waveform.shape) == (8000, (1, 4000)) and 0.49 < waveform.abs().max() < 0.51
    assert first.words == "" and first.base == 0 and first.labels["weather"] == ("sunny", "rain")
    assert second.words == "make the picture wet" and second.scene == first.scene == "cat.png"
    assert third.source is None and third.base is None and third.references[0].content == "a cat"
    assert [case.name for case in (first, second, third)] == ["1", "3", "4"]
    assert [case.name for case in load_cases(f"folder:{home}", Draw(kinds=("weather",)))] == ["1"]
    assert len(load_cases(f"folder:{home}", Draw(count=2))) == 2


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"source": "cat.png"}, "Line 1 of edits.jsonl has no instruction"),
        ("{not json", "Line 1 of edits.jsonl is not JSON"),
        ({"instruction": "a", "sauce": "cat.png"}, "unknown field 'sauce'. Known: source, instruction"),
        ({"instruction": "a", "source": "dog.png"}, "Line 1 .*dog.png"),
        ({"instruction": "a", "source": "rain.wav"}, "rain.wav is not a picture"),
        ({"instruction": "a", "references": ["edits.jsonl"]}, "neither a picture .* nor a sound"),
        ({"instruction": "a", "references": [{"text": ""}]}, "text reference '' is empty"),
    ],
)
def test_what_is_wrong_in_a_folder_is_named(home, record, told):
    with pytest.raises(ValueError, match=told):
        load_cases(write_list(home, record), Draw())


def test_a_folder_without_a_list_and_two_edits_of_one_name(home):
    with pytest.raises(ValueError, match="edits.jsonl does not exist"):
        load_cases(f"folder:{home}", Draw())
    same = {"name": "a", "instruction": "x"}
    with pytest.raises(ValueError, match="Two edits .* have the name 'a'"):
        load_cases(write_list(home, same, same), Draw())


def test_words_stand_for_the_source_alone():
    assert words_of("add rain") == "add rain"
    assert words_of("add rain to [image1]") == "add rain to the picture"
    assert words_of("make [image1] like [image2]") == words_of("add [audio1] to [image1]") == ""


def test_a_case_that_contradicts_itself_is_refused():
    picture, other = torch.zeros(8, 8, 3), torch.zeros(8, 16, 3)
    with pytest.raises(ValueError, match=r"source .* \(8, 8, 3\), its target \(8, 16, 3\)"):
        Case("a", "a", "x", (), source=picture, target=other)
    with pytest.raises(ValueError, match="has 1 references, but its base is number 3"):
        Case("a", "a", "x", (Source("text", "b"),), base=2)
    with pytest.raises(ValueError, match="region"):
        Case("a", "a", "x", (), target=picture, region=torch.zeros(8, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="not 'video'"):
        Source("video", "a cat")


def test_the_other_references_keep_their_marks():
    picture, sound = Source("image", torch.zeros(8, 8, 3)), Source("audio", (torch.zeros(1, 9), 8000))
    case = Case("a", "a", "x", (picture, sound, picture, sound), base=2)
    assert [mark for mark, _ in case.other_references()] == ["[image1]", "[audio1]", "[audio2]"]
