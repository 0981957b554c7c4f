"""Marks that are not written as they should be: understood, named, or noted; and what is no mark stays text."""

import contextlib
import time

import pytest
import torch
from any2pix.stages.any2pix.mark_words import slips
from any2pix.stages.any2pix.marks import MARK, MOST_NOTES, resolve_marks
from any2pix.stages.types import Reference


def connected(*modalities):
    return tuple(Reference(torch.zeros(4), modality) for modality in modalities)


MIXED = connected("image", "audio", "image", "text", "audio")
ALL = tuple(range(len(MIXED)))


@pytest.mark.parametrize(
    ("written", "order"),
    [
        *((written, (0,)) for written in (
            "[picture1]", "[Picture 1]", "[img1]", "[pic 1]", "[photo1]", "[images1]", "[image #1]", "[image-1]",
            "[image_1]", "[image: 1]", "[image no. 1]", "[imageone]", "[image one]", "[first image]", "[1st picture]",
            "(image1)", "(picture 1)", "{image1}", "<image1>", "<|image1|>", "${image1}", '["image1"]', "\\[image1\\]",
            "［image1］", "【image1】", "［ｉｍａｇｅ１］", "「图1」", "[图片1]", "【图片１】", "[图像一]",
            "[第一张图片]",
            "（照片1）",
            "[image1)", "(image1]", "[image\u200b1]",
        )),
        *((written, (2,)) for written in ("[image２]", "[second photo]", "（图片2）", "[image二]")),
        ("[sound2]", (0, 2, 4)),
        ("[音频 1]", (0, 2, 1)),
        ("[txt1]", (0, 2, 3)),
        ("[text]", (0, 2, 3)),  # one text is connected
    ],
)  # fmt: skip
def test_what_can_only_mean_a_mark_is_one_and_the_node_says_so(written, order):
    """Sounds and texts alone have the images in front of them."""
    resolved = resolve_marks(f"put {written} here", MIXED)
    assert resolved.order == order
    assert resolved.text == f"{MARK} " * (len(order) - 1) + f"put {MARK} here"
    (note,) = resolved.notes
    kind = MIXED[order[-1]].modality
    assert note == f"{written} is read as [{kind}{[r.modality for r in MIXED[: order[-1] + 1]].count(kind)}]."


@pytest.mark.parametrize(
    ("instruction", "text", "order"),
    [
        ("[image1 in snow", f"{MARK} in snow", (0,)),
        ("let it snow on [image 1", f"let it snow on {MARK}", (0,)),
        ("image1] in snow", f"{MARK} in snow", (0,)),
        ("【image2 in snow", f"{MARK} in snow", (2,)),
        ("add audio1 to image2.", f"add {MARK} to {MARK}.", (1, 2)),
        ("@image1 with @audio2", f"{MARK} with {MARK}", (0, 4)),
        ("image1's dog", f"{MARK}'s dog", (0,)),
        ("[image1, image2]", f"{MARK}, {MARK}", (0, 2)),
        ("(see [picture 1]) [open]", f"(see {MARK}) [open]", (0,)),
        ("[[image1]] ([image2])", f"[{MARK}] ({MARK})", (0, 2)),
    ],
)
def test_half_a_mark_or_none_of_its_brackets(instruction, text, order):
    resolved = resolve_marks(instruction, MIXED)
    assert (resolved.text, resolved.order) == (text, order)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("[iamge1] in snow", r"contains \[iamge1\], which is not a mark. Write \[image1\] if you mean"),
        ("[imgae2]", r"Write \[image2\]"),
        ("[imаge1]", r"Write \[image1\]"),  # a Cyrillic а
        ("(audoi1)", r"Write \[audio1\]"),
        ("[pcitrue 2]", r"Write \[image2\]"),
        (
            "[image]",
            r"contains \[image\], but 2 image references are connected. Write which one: \[image1\] to \[image2\]",
        ),
        ("[image 1 and 2]", r"these brackets hold more than one mark.*\[image1\]"),
        ("[photo 2 of the dog]", r"more than one mark"),
        ("[picture3]", r"names \[picture3\], that is \[image3\], but only 2 image references are connected"),
        ("(image3)", r"names \(image3\), that is \[image3\], but only 2"),
        ("[image3", r"names \[image3, that is \[image3\], but only 2"),
        ("[图片3]", r"\[image3\], but only 2"),
        ("[picture0]", "Marks count from 1"),
    ],
)
def test_what_names_nothing_or_several_things_is_an_error(instruction, message):
    with pytest.raises(ValueError, match=message):
        resolve_marks(instruction, MIXED)


@pytest.mark.parametrize(
    ("instruction", "note"),
    [
        ("put image 1 in snow", "image 1 is read as words. To name the reference, write [image1]."),
        ("把图片1变成雪景", "图片1 is read as words. To name the reference, write [image1]."),
        ("image7 in snow", "image7 is read as words: there is no [image7]."),
        ("(picture 5)", "(picture 5) is read as words: there is no [image5]."),
        ("open [video1]", "[video1] is read as words: marks are [image1], [audio1] and [text1]."),
    ],
)
def test_what_may_be_words_stays_words_and_the_node_says_so(instruction, note):
    resolved = resolve_marks(instruction, MIXED)
    assert resolved.order == ALL and resolved.text.endswith(instruction)
    assert resolved.notes == (note,)


def test_a_kind_in_brackets_without_any_such_reference_is_words():
    resolved = resolve_marks("a sign that says [text]", connected("image"))
    assert resolved.order == (0,) and resolved.notes == ("[text] is read as words: no text reference is connected.",)


@pytest.mark.parametrize(
    "instruction",
    [
        "a sign that says [sic]",
        "[a red balloon] and (a blue one)",
        "a picture 1 metre wide (image quality 2)",
        "a photo 2 m away, a sound 3 seconds long, 照片2张, 图1张",
        "(image) {sound} <text>",
        "img2img text2image image1.png http://a.b/image1/ sub-image1",
        "[1] (2) [] {}",
        "the 2 images, 3 sounds",
        "[a picture 1 metre wide]",
        "scale (image 2x)",
        "[image quality 2] [soundtrack 3 of the film]",
        "a clip 1, a son 2",
        "[open] {x|y} <base> </s> <video>",
    ],
)
def test_what_is_no_mark_is_text_without_a_word(instruction):
    resolved = resolve_marks(instruction, MIXED)
    assert resolved.order == ALL and resolved.text.endswith(instruction)
    assert resolved.notes == ()


def test_exact_marks_are_read_without_a_note():
    assert resolve_marks("[image1] [Image 2] [ audio1 ] [TEXT1] [image02] [image\xa01]", MIXED).notes == ()


def test_notes_are_few_and_said_once():
    resolved = resolve_marks(" ".join(["(image1) image 2"] + [f"[video{n}]" for n in range(20)]), MIXED)
    assert len(resolved.notes) == MOST_NOTES + 1 and resolved.notes[-1] == f"And {22 - MOST_NOTES} more."
    assert len(resolve_marks("(image1) " * 9, MIXED).notes) == 1


@pytest.mark.parametrize("typed", [MARK, f"[{MARK}1]"])
def test_a_typed_placeholder_is_no_reference(typed):
    resolved = resolve_marks(f"a {typed} b", ())
    assert resolved.order == () and MARK not in resolved.text


def test_halves_of_characters_are_replaced():
    resolved = resolve_marks("a \ud83d cat \ud83d\ude00", ())
    assert resolved.text == "a \ufffd cat \U0001f600"


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "(a",
        "[image 1 ",
        "image1 ",
        "[image1] ",
        "@",
        "\\",
        "[image1 no",
        "$[",
        "[picture",
        "图",
        "no.",
        "image",
        "1",
        "[image1",
    ],
)
def test_a_long_instruction_takes_time_in_proportion(piece):
    """100,000 characters in a tenth of a second or so; a pattern that goes back and forth would take minutes."""
    text = piece * (100_000 // len(piece))
    start = time.process_time()
    with contextlib.suppress(ValueError):
        resolve_marks(text, MIXED)
    assert time.process_time() - start < 5


def test_ten_thousand_references_are_counted_once():
    start = time.process_time()
    assert resolve_marks("[image10000]", connected(*["image"] * 10_000)).order == (9_999,)
    assert time.process_time() - start < 2


def test_a_number_of_a_thousand_digits_is_named():
    with pytest.raises(ValueError, match="names .image9{10,}…, .*only 2 image references") as error:
        resolve_marks(f"[image{'9' * 5000}]", MIXED)
    assert len(str(error.value)) < 300
    assert resolve_marks(f"[image{'0' * 5000}1]", MIXED).order == (0,)


@pytest.mark.parametrize(
    ("word", "meant", "count"),
    [("iamge", "image", 1), ("image", "image", 0), ("imge", "image", 1), ("voice", "image", 4), ("", "text", 4)],
)
def test_slips_of_the_keyboard_are_counted(word, meant, count):
    assert slips(word, meant) == count
