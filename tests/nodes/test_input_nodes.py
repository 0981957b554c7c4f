"""What sockets and linked widgets may bring: None, nothing, other dtypes and shapes, numbers out of range. Taken, or
named."""

import any2pix.nodes as pack
import numpy as np
import pytest
import torch
from any2pix.nodes.pictures import read_pictures
from any2pix.nodes.reading import read_number, read_whole
from any2pix.nodes.sockets import Embedding
from any2pix.stages.types import Reference
from harness.unet_eps import seeded
from torch.testing import assert_close

pytestmark = pytest.mark.one_host

PICTURE = seeded(1, 20, 30, 3, seed=3).sigmoid()
WHAT = "image of Load Image Embedding"


@pytest.fixture
def embed(run, networks):
    """Load Image Embedding -> references."""
    return lambda image, **inputs: run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=image, **inputs)[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pictures_of_other_float_types_are_taken(embed, dtype):
    (reference,) = embed(PICTURE.to(dtype))
    assert reference.image.dtype == torch.float32
    assert_close(reference.image, PICTURE[0], rtol=0, atol=0.01)
    assert_close(reference.embedding, embed(PICTURE)[0].embedding, rtol=0, atol=0.02)


def test_pictures_in_bytes_are_taken(embed):
    levels = (PICTURE * 255).round().to(torch.uint8)
    for image in (levels, levels.numpy()):
        assert_close(embed(image)[0].image, levels[0] / 255)
    assert embed(PICTURE > 0.5)[0].image.unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_number_of_channels_is_seen_as_it_looks(channels):
    picture = seeded(1, 4, 5, channels, seed=9).sigmoid()
    (seen,) = read_pictures(picture, WHAT)
    colour = picture[0, ..., : 3 if channels > 2 else 1].expand(4, 5, 3)
    alpha = picture[0, ..., -1:] if channels in (2, 4) else torch.ones(4, 5, 1)
    assert_close(seen, colour * alpha + 1 - alpha)
    assert_close(read_pictures(picture, WHAT, on_white=False)[0], colour)


def test_one_picture_without_a_batch_and_lists_of_any_sizes(embed):
    assert_close(embed(PICTURE[0])[0].image, PICTURE[0])
    references = embed([PICTURE, torch.rand(2, 8, 9, 3), (torch.rand(10, 1, 1),)])
    assert [tuple(reference.image.shape) for reference in references] == [(20, 30, 3), (8, 9, 3), (8, 9, 3), (10, 1, 3)]


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 5000, 3), (1, 3000, 2, 3)])
def test_tiny_and_thin_pictures(embed, shape):
    (reference,) = embed(torch.rand(shape))
    assert reference.embedding.isfinite().all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "is None: the node it comes from returned no picture"),
        ([], "is empty: there is no picture in an empty list"),
        (torch.zeros(0, 8, 8, 3), "is empty: there is no picture in a tensor of shape"),
        (torch.zeros(1, 0, 8, 3), "is 8 x 0 pixels large"),
        (torch.zeros(1, 64, 64), r"has the shape \(1, 64, 64\); a picture has.*Convert Mask to Image"),
        (torch.zeros(1, 3, 64, 64), r"has the shape \(1, 3, 64, 64\)"),
        (torch.zeros(1, 5, 8, 8, 3), "has the shape"),
        (torch.zeros(1, 8, 8, 5), "has the shape"),
        (torch.zeros(7), "has the shape"),
        ({"samples": torch.zeros(1, 4, 8, 8)}, "is a dict of samples, not a picture"),
        ("cat.png", "is 'cat.png', not a picture"),
        ([PICTURE, None], "is None"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.int64), "is made of torch.int64 numbers"),
        (PICTURE * 255, "has values up to 2.*divide them by 255"),
        (
            PICTURE.clone().fill_(float("nan")),
            "picture in the image of Load Image Embedding holds 1800 values that are NaN",
        ),
        (
            torch.stack([PICTURE[0], PICTURE[0] / 0]),
            "picture 2 of 2 in the image of Load Image Embedding holds 1800 values",
        ),
    ],
)
def test_what_is_no_picture_is_named(embed, image, message):
    with pytest.raises(ValueError, match=message) as error:
        embed(image)
    assert WHAT in str(error.value)


def test_light_brighter_than_white_is_no_mistake():
    picture = PICTURE.clone()
    picture[0, 0, 0] = 1000.0  # as measured by a camera, and mostly dark
    assert len(read_pictures(picture, WHAT)) == 1


@pytest.mark.parametrize("nothing", [None, (), []])
def test_a_chain_may_start_with_nothing(embed, nothing):
    assert len(embed(PICTURE, references=nothing)) == 1


def test_what_is_no_chain_is_named(embed, run, networks):
    for stranger in (PICTURE, "image1", [None]):
        with pytest.raises(ValueError, match="references input of Load Image Embedding is .*Connect Load Image"):
            embed(PICTURE, references=stranger)
        with pytest.raises(ValueError, match="references input of Load Text Embedding is"):
            run(pack.TextEmbedding, imagebind=networks["imagebind"], text="a cat", references=stranger)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is None: the node it comes from returned no text"),
        (7, "is 7, not a text"),
        ([], "an empty list, not"),
        ("  ", "is empty"),
    ],
)
def test_what_is_no_text_is_named(run, networks, text, message):
    with pytest.raises(ValueError, match=message):
        run(pack.TextEmbedding, imagebind=networks["imagebind"], text=text)


@pytest.mark.parametrize(
    "text", ["a \0 cat", "a \ud83d cat", "<|endoftext|>", "snow " * 100_000, "\u202e[cat]", "&lt;|endoftext|&gt;"]
)
def test_every_text_is_read(run, networks, text):
    (reference,) = run(pack.TextEmbedding, imagebind=networks["imagebind"], text=text)[0]
    assert reference.embedding.isfinite().all()


ASK = {"instruction": "make it snow", "seed": 0, "temperature": 0.0, "max_new_tokens": 3, "references": ()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction": None}, "instruction of Multimodal Instruction LLM is None"),
        ({"instruction": 5}, "instruction of .* is 5, not a text"),
        ({"instruction": ""}, "The instruction is empty"),
        ({"instruction": "snow " * 200_000}, "takes 1000000 characters"),
        ({"seed": -1}, "seed of .* is -1. It must be from 0 to 18446744073709551615"),
        ({"seed": 2**64}, "seed of .* is 18446744073709551616"),
        ({"seed": 1.5}, "seed of .* is 1.5. It must be an integer"),
        ({"seed": None}, "seed of .* is None, not a number"),
        ({"temperature": float("nan")}, "temperature of .* is nan. It must be from 0 to 2"),
        ({"temperature": float("inf")}, "temperature of .* is inf"),
        ({"temperature": -0.1}, "temperature of .* is -0.1"),
        ({"temperature": "hot"}, "temperature of .* is 'hot', not a number"),
        ({"max_new_tokens": 0}, "max_new_tokens of .* is 0. It must be from 1 to 1024"),
        ({"max_new_tokens": 10**400}, "max_new_tokens of .* is 1000"),
        ({"references": 3}, "references input of Multimodal Instruction LLM is 3"),
        ({"llm": None}, "llm input of .* is None: the node it comes from returned nothing"),
        ({"references": (Reference(torch.ones(64), "image"),) * 10_000}, "10000 references are part of it: name those"),
    ],
)
def test_bad_questions_are_named_before_the_llm_is_loaded(networks, monkeypatch, changes, message):
    from any2pix.nodes.host.networks import Network

    monkeypatch.setattr(Network, "load", lambda *_: pytest.fail("the weights were loaded"))
    with pytest.raises(ValueError, match=message):
        pack.Instruct.execute(**{"llm": networks["llm"], **ASK, **changes})


def test_numbers_as_a_link_may_bring_them():
    assert read_whole(3.0, "steps", 1, 9) == 3 and read_whole(torch.tensor(4), "steps", 1, 9) == 4
    assert read_whole(2**64 - 1, "seed", 0, 2**64 - 1) == 2**64 - 1
    assert read_number(2, "cfg", 0.0, 3.0) == 2


def chain(*modalities):
    return tuple(Reference(seeded(64, seed=seed), modality) for seed, modality in enumerate(modalities))


def retrieve(references, base, **inputs):
    return pack.RetrieveBase.execute(references=references, blank_size=64, base=base, **inputs).result


SEEN = chain("image", "audio", "image")
BASE = Embedding(SEEN[2].embedding, candidates=(0, 2), chain=SEEN)


def test_the_same_chain_and_a_longer_one_are_taken():
    copied = tuple(Reference(reference.embedding.clone(), reference.modality) for reference in SEEN)
    for references in (SEEN, list(SEEN), copied, (*SEEN, *chain("image"))):
        assert retrieve(references, BASE)[2] == 2
    assert retrieve(SEEN, Embedding(SEEN[2].embedding))[2] == 2  # of no known chain


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (SEEN[:2], r"2 references, the LLM 3 references; number 3 is nothing here and \[image2\] there"),
        (SEEN[1:], r"number 1 is \[audio1\] here and \[image1\] there"),
        (
            (SEEN[0], SEEN[1], SEEN[0]),
            r"number 3 is another \[image2\] here and \[image2\] there. Connect the same chain to both",
        ),
        ((), "number 1 is nothing here"),
        (None, "number 1 is nothing here"),
    ],
)
def test_another_chain_than_the_llms_is_named(references, message):
    with pytest.raises(ValueError, match=f"Base Retrieval got other references than the LLM: .*{message}"):
        retrieve(references, BASE)


def test_an_llm_without_any_references_means_none_of_them():
    with pytest.raises(ValueError, match="Base Retrieval got 3 references, the LLM none.*Connect the chain to both"):
        retrieve(SEEN, Embedding(torch.ones(64), chain=()))


def test_base_null_needs_no_chain():
    assert retrieve(SEEN[:1], Embedding(None, chain=SEEN))[2] == -1


@pytest.mark.parametrize("size", [0, 10**9, float("nan"), None])
def test_a_blank_size_out_of_range_is_named(size):
    with pytest.raises(ValueError, match="blank_size of Base Retrieval is"):
        pack.RetrieveBase.execute(references=SEEN, blank_size=size)


def test_another_thing_than_a_base_is_named():
    with pytest.raises(ValueError, match="base input of Base Retrieval is a tensor of shape"):
        retrieve(SEEN, torch.ones(64))


def test_the_llm_hands_its_chain_to_base_retrieval(networks, monkeypatch):
    import any2pix.nodes.instruct as instruct_node
    from any2pix.stages.types import EditPlan

    plan = EditPlan(torch.ones(64), torch.ones(64), "a cat", mentioned=(0,), notes=("(image1) is read as [image1].",))
    monkeypatch.setattr(instruct_node, "instruct", lambda *args, **kwargs: plan)
    output = pack.Instruct.execute(**{"llm": networks["llm"], **ASK, "instruction": "(image1)", "references": SEEN})
    assert output.result[1].chain == SEEN
    assert output.ui.as_dict()["text"][0].startswith("(image1) is read as [image1].\n\na cat")
    with pytest.raises(ValueError, match="other references than the LLM"):
        retrieve(SEEN[1:], output.result[1])


def test_pictures_from_numpy_are_not_shared(embed):
    levels = np.full((1, 4, 4, 3), 128, dtype=np.uint8)
    (reference,) = embed(levels)
    levels[:] = 0
    assert reference.image.unique().tolist() == pytest.approx([128 / 255])


@pytest.mark.parametrize(
    ("run_index", "start"),
    [(None, "The seed"), (0, "The seed"), (3, "Run 4 of a list, as Grid Values makes one: The seed")],
)
def test_a_run_of_several_has_its_number(networks, run_index, start):
    from comfy_execution.utils import CurrentNodeContext

    with CurrentNodeContext("prompt", "node", run_index), pytest.raises(ValueError, match=f"^{start} of Multimodal"):
        pack.Instruct.execute(**{"llm": networks["llm"], **ASK, "seed": -1})


def test_every_node_numbers_its_runs():
    assert all(
        node.execute.__func__.__name__ == "execute" and hasattr(node.execute.__func__, "__wrapped__")
        for node in pack.NODES
    )


@pytest.mark.parametrize(
    "node, wanted", [(pack.ImageEmbedding, "picture to image"), (pack.AudioEmbedding, "sound to audio")]
)
def test_a_free_socket_passes_the_references_on(node, wanted, embed, run, networks):
    """As inside a blueprint that is used with less than it takes."""
    chain = embed(torch.rand(2, 8, 8, 3))
    assert run(node, imagebind=networks["imagebind"], references=chain) == (chain,)
    with pytest.raises(ValueError, match=f"Connect a {wanted} of Load"):
        run(node, imagebind=networks["imagebind"])
