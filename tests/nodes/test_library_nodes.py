"""References and embeddings come back bit for bit and say what made them; one reference is picked by hand."""

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from any2pix.nodes import (
    LoadEmbedding,
    LoadReferences,
    PickReference,
    RetrieveBase,
    SaveEmbedding,
)
from any2pix.nodes.saved import recipe_of, saved_names
from any2pix.nodes.sockets import Embedding
from any2pix.stages.types import Reference
from harness.saved_files import folders_fixture, keep, record_of, references_fixture, rewrite, vector_fixture  # noqa: F401
from safetensors.torch import load_file


def test_references_come_back_bit_for_bit_with_their_pictures(run, references, folders):
    labelled = (replace(references[0], label="früh 猫"), *references[1:])
    keep(run, "references", labelled, "animals/my cats")
    assert saved_names("references") == [os.path.join("animals", "my cats.safetensors")]
    (loaded,) = run(LoadReferences, name=saved_names("references")[0])
    assert len(loaded) == len(labelled)
    for one, other in zip(loaded, labelled, strict=True):
        assert torch.equal(one.embedding, other.embedding) and one.embedding.dtype == other.embedding.dtype
        assert (one.modality, one.label, one.origin) == (other.modality, other.label, other.origin)
        assert (one.image is None) == (other.image is None)
        if one.image is not None:
            assert torch.equal(one.image, other.image) and one.image.dtype == torch.float32
    stored = load_file(folders["references"] / "animals" / "my cats.safetensors")
    assert [stored[f"any2pix_reference.{i}.image"].dtype for i in (0, 1)] == [torch.uint8, torch.float32]


def test_base_retrieval_finds_the_same_picture_in_a_loaded_chain(run, references):
    keep(run, "references", references, "cats")
    (loaded,) = run(LoadReferences, name="cats.safetensors")
    base = Embedding(references[1].embedding)
    image, embedding, index = run(RetrieveBase, references=loaded, base=base, blank_size=64)
    expected = run(RetrieveBase, references=references, base=base, blank_size=64)
    assert (
        index == expected[2] and torch.equal(image, expected[0]) and torch.equal(embedding.vector, expected[1].vector)
    )


def test_loaded_references_come_after_those_before_them(run, references):
    keep(run, "references", references[2:], "sounds")
    (chain,) = run(LoadReferences, name="sounds.safetensors", references=references[:2])
    assert [reference.modality for reference in chain] == ["image", "image", "audio", "text"]


def test_a_file_says_which_network_made_it(run, references, networks, folders):
    keep(run, "references", references, "cats")
    record = record_of(folders["references"] / "cats.safetensors")
    assert record["dims"] == 64 and record["pack"].count(".") == 2
    origin = record["references"][0]["origin"]
    assert origin.startswith("ImageBind, 64 numbers, ") and len(origin.rpartition("#")[2]) == 8
    shown = LoadReferences.execute(name="cats.safetensors").ui.as_dict()["text"][0]
    assert origin in shown and "[image2]  32 x 33" in shown and "[text1]" in shown and "saved 20" in shown


@pytest.mark.parametrize("candidates", [(), (0, 2)])
def test_an_embedding_comes_back(run, vector, candidates):
    keep(run, "embedding", replace(vector, candidates=candidates), "snow")
    (loaded,) = run(LoadEmbedding, name="snow.safetensors")
    assert torch.equal(loaded.vector, vector.vector) and loaded.candidates == candidates


def test_base_null_comes_back_as_that(run):
    keep(run, "embedding", Embedding(None, (1,)), "nothing")
    (loaded,) = run(LoadEmbedding, name="nothing.safetensors")
    assert loaded.is_null and loaded.candidates == (1,)


def test_references_of_two_imagebinds_are_named(run, references):
    wide = (Reference(torch.ones(1024), "audio"),)
    with pytest.raises(ValueError, match="embeddings of 64 and of 1024 numbers"):
        keep(run, "references", (*references, *wide), "mixed")
    keep(run, "references", wide, "published")
    with pytest.raises(
        ValueError, match="published.safetensors and those before them have embeddings of 64 and of 1024"
    ):
        run(LoadReferences, name="published.safetensors", references=references)


GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "mine"}},
    "5": {"class_type": "Any2PixMixEmbeddings", "inputs": {"edit": ["1", 0], "edit_weight": 0.4}},
    "7": {"class_type": "KSampler", "inputs": {"seed": 3}},
    "9": {"class_type": "Any2PixSaveEmbedding", "inputs": {"embedding": ["5", 0], "name": "a"}},
}
HIDDEN = SimpleNamespace(unique_id="9", prompt=GRAPH)  # as ComfyUI hands it to a node


def test_the_recipe_is_the_part_of_the_graph_that_leads_here(monkeypatch):
    from comfy.cli_args import args

    recipe = recipe_of(HIDDEN, "embedding")
    assert recipe["node"] == "5" and set(recipe["graph"]) == {"1", "5"}
    assert recipe["graph"]["1"] == {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    assert recipe_of(None, "embedding") == recipe_of(HIDDEN, "references") == {}
    monkeypatch.setattr(args, "disable_metadata", True)
    assert recipe_of(HIDDEN, "embedding") == {}


def test_a_loaded_embedding_shows_what_made_it(run, vector, monkeypatch, folders):
    monkeypatch.setattr(SaveEmbedding, "hidden", HIDDEN)
    keep(run, "embedding", vector, "a")
    shown = LoadEmbedding.execute(name="a.safetensors").ui.as_dict()["text"][0]
    assert "MixEmbeddings: edit_weight 0.4" in shown and "64 numbers, length 20" in shown
    rewrite(folders["embedding"] / "a.safetensors", lambda record: record.update(recipe=["not one"]))
    assert "64 numbers" in LoadEmbedding.execute(name="a.safetensors").ui.as_dict()["text"][0]


@pytest.mark.parametrize(
    "mark, index",
    [("image1", 0), ("[image2]", 1), (" [ Audio 1 ] ", 2), ("text", 3), ("（image1）", 0), ("IMAGE02", 1)],
)
def test_a_mark_picks_its_reference(run, references, mark, index):
    embedding, image = run(PickReference, references=references, mark=mark)
    expected = references[index]
    assert float(embedding.vector.norm()) == pytest.approx(20)
    assert torch.cosine_similarity(embedding.vector, expected.embedding, dim=0) == pytest.approx(1, abs=1e-6)
    if expected.image is None:
        assert image.shape == (1, 40, 48, 3) and float(image.std()) == 0, "grey, as large as the first picture"
    else:
        assert torch.equal(image[0], expected.image)


@pytest.mark.parametrize("mark", ["", "image3", "image0", "cat", "image1 image2", "audio-1", "image1]["])
def test_another_mark_is_named_with_those_that_are_connected(run, references, mark):
    if mark == "image1][":
        run(PickReference, references=references, mark=mark)  # brackets are only decoration
        return
    with pytest.raises(ValueError, match=r"Connected: \[image1\], \[image2\], \[audio1\], \[text1\]\."):
        run(PickReference, references=references, mark=mark)


def test_a_pick_from_nothing_is_named(run):
    with pytest.raises(ValueError, match="No reference is connected"):
        run(PickReference, references=(), mark="image1")


def test_the_pick_is_shown_with_an_arrow(references):
    shown = PickReference.execute(references=references, mark="audio1").ui.as_dict()["text"][0]
    assert [line.startswith("→") for line in shown.splitlines()] == [False, False, True, False]
