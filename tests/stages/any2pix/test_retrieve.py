import pytest
import torch
from any2pix.stages.any2pix.retrieve import retrieve_base
from any2pix.stages.types import Reference

EAST, NORTH, BETWEEN = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0])


def refs(*pairs):
    return tuple(Reference(embedding * scale, modality) for modality, embedding, scale in pairs)


def test_the_nearest_image_wins_whatever_the_norms():
    found = retrieve_base(refs(("image", NORTH, 90.0), ("image", BETWEEN, 1.0), ("image", EAST, 0.1)), EAST * 20)
    assert found.index == 2
    torch.testing.assert_close(found.similarities, torch.tensor([0.0, 0.5**0.5, 1.0]))


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_nothing_but_an_image_wins_while_an_image_is_there(modality):
    references = refs((modality, EAST, 20.0), ("image", -EAST, 1.0), ("image", NORTH, 1.0))
    assert retrieve_base(references, EAST).index == 2
    assert retrieve_base(references[:2], EAST).index == 1
    assert retrieve_base(references, EAST, candidates=(0,)).index == 2


def test_without_images_the_nearest_of_all():
    assert retrieve_base(refs(("audio", NORTH, 20.0), ("text", EAST, 1.0)), EAST).index == 1


def test_one_reference_is_the_base():
    found = retrieve_base(refs(("image", NORTH, 1.0)), EAST)
    assert found.index == 0
    torch.testing.assert_close(found.similarities, torch.zeros(1))


def test_base_null_and_no_references():
    found = retrieve_base(refs(("image", NORTH, 1.0), ("audio", EAST, 20.0)), None)
    assert found.index is None and found.similarities.tolist() == [0.0, 0.0]
    assert retrieve_base((), EAST).index is None


def test_only_mentioned_references_are_candidates():
    references = refs(("image", EAST, 1.0), ("image", NORTH, 1.0), ("image", BETWEEN, 1.0))
    assert retrieve_base(references, EAST).index == 0
    assert retrieve_base(references, EAST, candidates=(1, 2, 2)).index == 2
    assert retrieve_base(references, EAST, candidates=()).index == 0


@pytest.mark.parametrize(
    ("references", "base", "candidates", "message"),
    [
        (refs(("image", EAST, 1.0), ("image", torch.ones(3), 1.0)), EAST, None,
        "Reference 2 of 2 has 3 numbers, the embedding to find 2"),
        (refs(("image", EAST, 1.0)), torch.ones(3), None, "Reference 1 of 1 has 2 numbers, the embedding to find 3"),
        (refs(("image", EAST, 1.0), ("audio", EAST, float("nan"))), EAST, None, "Reference 2 of 2 holds NaN"),
        (refs(("image", EAST, 1.0)), EAST * float("inf"), None, "The embedding to find holds NaN"),
        (refs(("image", EAST, 1.0)), EAST, (0, 3), "showed reference 4 to the LLM, but 1 are connected here"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_named(references, base, candidates, message):
    with pytest.raises(ValueError, match=message):
        retrieve_base(references, base, candidates)
