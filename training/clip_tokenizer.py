"""A small tokenizer of CLIP's kind (lower-cased byte-level BPE with word ends), for the miniature's text encoders."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ..stages.preprocess import END_OF_TEXT, START_OF_TEXT

WORD_END = "</w>"
SPACE = "\u0120"  # how byte-level BPE writes a space
# CLIP's words: contractions, letters, single digits, anything else (openai/CLIP, simple_tokenizer.py).
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_clip_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """BPE of at most ``size`` tokens: every byte, every byte at a word's end, merges, start and end of text.

    The end of text comes last: CLIP's text encoders find it as the highest id.
    """
    learner = _shell(models.BPE(end_of_word_suffix=WORD_END))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, end_of_word_suffix=WORD_END, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]["merges"]
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in learned]
    base = [*alphabet, *(byte + WORD_END for byte in alphabet)]
    merges = merges[: size - len(base) - 2]
    tokens = list(dict.fromkeys([*base, *("".join(pair) for pair in merges), START_OF_TEXT, END_OF_TEXT]))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = _shell(models.BPE(vocabulary, merges, end_of_word_suffix=WORD_END, unk_token=END_OF_TEXT))
    tokenizer.add_special_tokens([START_OF_TEXT, END_OF_TEXT])
    return tokenizer


def _shell(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace(WORD_END, SPACE), decoders.ByteLevel()])
    return tokenizer
