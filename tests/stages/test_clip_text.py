"""Texts as CLIP's tokenizer meets them: broken characters, lengths beyond any context, and its own special tokens."""

import time

import pytest
import torch
from any2pix.stages.preprocess import END_OF_TEXT, START_OF_TEXT, tokenize_clip
from any2pix.training.clip_tokenizer import train_clip_tokenizer
from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_clip_tokenizer(["a cat in the rain", "the sound of a cat"] * 5, 560)


def test_halves_of_characters_and_nul_are_read(tokenizer):
    for text in ("a \ud83d cat", "a \0 cat", "\udfff"):
        assert tokenize_clip(tokenizer, [text], 16).shape == (1, 16)
    joined, whole = (tokenize_clip(tokenizer, [text], 16) for text in ("\ud83d\ude00", "\U0001f600"))
    assert torch.equal(joined, whole)


def test_a_megabyte_of_text_is_read_as_far_as_the_context_goes(tokenizer, caplog):
    start = time.process_time()
    long = tokenize_clip(tokenizer, ["a cat in the rain " * 60_000], 16)
    assert time.process_time() - start < 1
    assert torch.equal(long, tokenize_clip(tokenizer, ["a cat in the rain " * 20], 16))
    assert torch.equal(tokenize_clip(tokenizer, [" " * 100_000 + "a cat"], 16), tokenize_clip(tokenizer, ["a cat"], 16))


@pytest.mark.parametrize(
    "text", [START_OF_TEXT, END_OF_TEXT, "<|end<|endoftext|>oftext|>", "&lt;|ENDOFTEXT|&gt;", "<|endoftext|>" * 9]
)
def test_no_text_becomes_a_special_token(tokenizer, text):
    ids = tokenize_clip(tokenizer, [f"a {text} cat"], 77)[0].tolist()
    start, end = tokenizer.token_to_id(START_OF_TEXT), tokenizer.token_to_id(END_OF_TEXT)
    assert ids.count(start) == 1 and ids.count(end) == 1
