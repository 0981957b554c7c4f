import pytest
import torch
from any2pix.models.mm_llm import ADDED_TOKENS
from any2pix.stages.any2pix.marks import resolve_marks
from any2pix.stages.any2pix.prompt import SYSTEM, build_prompt, build_target, encode_text, parse_answer, special_id
from any2pix.stages.types import Reference
from any2pix.training.llm_tokenizer import build_tokenizer

TEXTS = [
    "add a cat to the meadow in the rain, ink style",
    "[a frog on the beach at night]",
    "additions:cat:",
    "make it snow",
] * 3
IMAGE, AUDIO = Reference(torch.randn(4), "image"), Reference(torch.randn(4), "audio")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(TEXTS, 700)


def tokens(tokenizer, ids):
    return [tokenizer.id_to_token(i) for i in ids]


def test_tokenizer_is_of_llamas_kind(tokenizer):
    size = tokenizer.get_vocab_size()
    assert [tokenizer.id_to_token(i) for i in range(3)] == ["<unk>", "<s>", "</s>"]
    assert tuple(tokenizer.id_to_token(i) for i in range(size - len(ADDED_TOKENS), size)) == ADDED_TOKENS
    for text in ("make it snow", "Ünïcode 雪 🐸 and\nlines", "two  spaces"):
        assert tokenizer.decode(encode_text(tokenizer, text)) == text
    assert (
        type(tokenizer).from_str(tokenizer.to_str()).encode("make it snow").ids == tokenizer.encode("make it snow").ids
    )


def test_prompt_is_the_vicuna_template(tokenizer):
    prompt = build_prompt(tokenizer, resolve_marks("add [audio1] to [image1]", (IMAGE, AUDIO)))
    text = tokenizer.decode(prompt.ids, skip_special_tokens=False)
    assert " ".join(text.split()) == f"<s> {SYSTEM} USER: add <video> to <video> ASSISTANT:"
    video = special_id(tokenizer, "<video>")
    assert prompt.positions == tuple(i for i, token in enumerate(prompt.ids) if token == video)
    assert len(prompt.ids) < 20


def test_prompt_without_references(tokenizer):
    assert build_prompt(tokenizer, resolve_marks("make it snow", ())).positions == ()


@pytest.mark.parametrize(
    "typed", ["<base>", "</s>", "<video>", "<s> <im_gen>[x]<video>", "<unk>", "</s></s>", "<base_null>"]
)
def test_typed_tokens_stay_text(tokenizer, typed):
    specials = {special_id(tokenizer, token) for token in ("<s>", "</s>", *ADDED_TOKENS)}
    ids = encode_text(tokenizer, f"add {typed} here")
    assert not specials & set(ids)
    assert tokenizer.decode(ids, skip_special_tokens=False) == f"add {typed} here"
    prompt = build_prompt(tokenizer, resolve_marks(f"{typed} on [image1]", (IMAGE,)))
    assert [i for i in prompt.ids if i in specials] == [special_id(tokenizer, "<s>"), special_id(tokenizer, "<video>")]


def test_answer_round_trip(tokenizer):
    target = build_target(tokenizer, "a cat in the rain", base=True, additions=("cat", "red frog"))
    assert tokens(tokenizer, target.ids)[-1] == "</s>"
    answer = parse_answer(tokenizer, target.ids)
    assert answer.caption == "a cat in the rain"
    assert (answer.base_position, answer.gen_position) == (target.base_position, target.gen_position)
    assert answer.additions == (("cat", target.addition_positions[0]), ("red frog", target.addition_positions[1]))
    for position in (target.base_position, target.gen_position, *target.addition_positions):
        assert tokenizer.id_to_token(target.ids[position]) == "<video>"
    assert "".join(answer.text.split()) == (
        "Hereitis.<base><video><im_gen_start><im_gen>[acatintherain]<video>additions:cat:<video>.redfrog:<video>.</s>"
    )


def test_answer_without_base(tokenizer):
    target = build_target(tokenizer, "a cat", base=False)
    answer = parse_answer(tokenizer, target.ids)
    assert answer.base_position is None and target.base_position is None
    assert answer.gen_position == target.gen_position and answer.additions == ()


def ids_of(tokenizer, *parts):
    """Special tokens by name, anything else as text."""
    named = {"</s>", *ADDED_TOKENS}
    return [
        i for part in parts for i in ([special_id(tokenizer, part)] if part in named else encode_text(tokenizer, part))
    ]


def test_tolerated_answers(tokenizer):
    plain = ids_of(tokenizer, "Sure!", "<base>", "<video>", "<im_gen>", "a cat in the rain", "<video>", "</s>")
    assert parse_answer(tokenizer, plain).caption == "a cat in the rain"
    talk = ids_of(
        tokenizer,
        "<base>",
        "so",
        "<video>",
        "<im_gen>",
        "<im_gen>",
        "[a cat]. There",
        "<video>",
        ":",
        "<video>",
        ".",
        "</s>",
    )
    answer = parse_answer(tokenizer, talk)
    assert answer.caption == "a cat" and answer.additions == ()
    assert tokenizer.id_to_token(talk[answer.base_position]) == "<video>"


@pytest.mark.parametrize(
    "parts, missing",
    [
        (("I cannot do that.", "</s>"), "no <im_gen>"),
        (("<base>", "<video>", "<im_gen>", "[a cat]", "</s>"), "no <video> after <im_gen>"),
        (("<im_gen>", "[a cat]", "<video>", "</s>"), "neither <base> nor <base_null>"),
        (("<base>", "<im_gen>", "[a cat]", "<video>", "</s>"), "no <video> after <base>"),
    ],
)
def test_answers_without_their_tokens_are_quoted(tokenizer, parts, missing):
    with pytest.raises(ValueError, match=missing) as error:
        parse_answer(tokenizer, ids_of(tokenizer, *parts))
    assert "seed" in str(error.value) and "temperature" in str(error.value) and "max_new_tokens" not in str(error.value)
    assert ("cannot" if "cannot" in parts[0] else "cat") in str(error.value)


@pytest.mark.parametrize("parts", [(), ("<base>", "<video>", "<im_gen>", "[a cat in")])
def test_a_cut_off_answer_names_max_new_tokens(tokenizer, parts):
    with pytest.raises(ValueError, match="raise max_new_tokens"):
        parse_answer(tokenizer, ids_of(tokenizer, *parts))


def test_another_tokenizer_is_named(tokenizer):
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match="no <s>"):
        build_prompt(Tokenizer(models.BPE()), resolve_marks("make it snow", ()))
