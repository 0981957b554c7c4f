import pytest
import torch
from any2pix.stages.any2pix.marks import MARK, resolve_marks
from any2pix.stages.types import Reference


def connected(*modalities):
    return tuple(Reference(torch.randn(4), modality) for modality in modalities)


MIXED = connected("image", "audio", "image", "text", "audio")


@pytest.mark.parametrize(
    "instruction, text, order",
    [
        ("add [audio1] to [image1]", f"add {MARK} to {MARK}", (1, 0)),
        ("[image2], then [audio2]", f"{MARK}, then {MARK}", (2, 4)),
        ("[image1][image1] [text1] [image1]", f"{MARK}{MARK} {MARK} {MARK}", (0, 0, 3, 0)),
        ("[Image1] and [ image 2 ]", f"{MARK} and {MARK}", (0, 2)),
        ("a sign that says [open] on [image1]", f"a sign that says [open] on {MARK}", (0,)),
        ("[imagery] [video1] [] [1] of [image1]", f"[imagery] [video1] [] [1] of {MARK}", (0,)),
    ],
)
def test_marks_name_the_nth_reference_of_their_kind(instruction, text, order):
    resolved = resolve_marks(instruction, MIXED)
    assert (resolved.text, resolved.order) == (text, order)
    assert len(resolved.pieces) == len(order) + 1


@pytest.mark.parametrize(
    "instruction, message",
    [
        ("[image3] at night", r"\[image3\].*only 2 image references are connected"),
        ("add [text2]", r"\[text2\].*only 1 text reference is connected"),
        ("[image0] at night", r"\[image0\].*Marks count from 1"),
    ],
)
def test_unknown_marks_are_named(instruction, message):
    with pytest.raises(ValueError, match=message):
        resolve_marks(instruction, MIXED)


def test_mark_without_any_such_reference():
    with pytest.raises(ValueError, match="no audio reference is connected"):
        resolve_marks("add [audio1] to [image1]", connected("image"))


@pytest.mark.parametrize("instruction", ["", "  \n", MARK])
def test_empty_instruction(instruction):
    with pytest.raises(ValueError, match="instruction is empty"):
        resolve_marks(instruction, MIXED)


@pytest.mark.parametrize(
    "instruction, references, text, order",
    [
        ("make it snow", connected("image"), f"{MARK} make it snow", (0,)),
        ("make it snow", connected("audio", "image"), f"{MARK} {MARK} make it snow", (0, 1)),
        ("make it snow", (), "make it snow", ()),
        ("add [audio1]", connected("audio", "image", "text"), f"{MARK} add {MARK}", (1, 0)),
        ("add [audio1]", connected("audio", "text"), f"add {MARK}", (0,)),
        ("add [audio1] to [image2]", connected("audio", "image", "image"), f"add {MARK} to {MARK}", (0, 2)),
    ],
)
def test_references_that_are_not_named(instruction, references, text, order):
    """No mark: all in front. Marks but no image's: the images in front. An image named: the rest stays out."""
    resolved = resolve_marks(instruction, references)
    assert (resolved.text, resolved.order) == (text, order)


def test_typed_placeholder_is_no_mark():
    assert resolve_marks(f"a {MARK} b", ()).order == ()
    assert MARK not in resolve_marks(f"a {MARK} b", ()).text
