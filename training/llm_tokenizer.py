"""A small tokenizer of LLaMA's kind: byte-fallback BPE, ``<unk> <s> </s>`` first, the added tokens last."""

import json
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ..models.mm_llm import ADDED_TOKENS
from ..stages.any2pix.prompt import ADDITIONS, ASSISTANT, BOS, EOS, OPENING, SYSTEM, USER

UNK = "<unk>"
SPACE = "\u2581"  # SentencePiece's mark of a word's start
FIXED = (f"{SYSTEM} {USER}", OPENING)  # always the same words, so each becomes one piece and the prompt stays short


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train on ``texts``; ``vocab_size`` counts the specials, the 256 bytes and the added tokens too.

    Trained with words kept apart, then used without a pre-tokenizer as LLaMA's is: no merge crosses a space, except
    those that make the fixed phrases of the template one piece each.
    """
    specials = [UNK, BOS, EOS, *(f"<0x{byte:02X}>" for byte in range(256))]
    pairs = sum(len(phrase.split()) - 1 for phrase in FIXED)
    tokenizer = Tokenizer(models.BPE(unk_token=UNK, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    learned = vocab_size - len(ADDED_TOKENS) - pairs
    trainer = trainers.BpeTrainer(vocab_size=learned, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(_with_template(texts), trainer)
    return _as_llama(tokenizer)


def _with_template(texts: Iterable[str]) -> Iterator[str]:
    """The texts, and the template often enough that each of its words becomes one piece."""
    template = " ".join([*FIXED, ASSISTANT, ADDITIONS])
    count = 0
    for count, text in enumerate(texts, start=1):
        yield text
    yield from [template] * (count + 10)


def _as_llama(trained: Tokenizer) -> Tokenizer:
    """Drop the pre-tokenizer, merge the fixed phrases, mark only ``<unk> <s> </s>`` special, add our tokens."""
    data = json.loads(trained.to_str())
    vocabulary, merges = data["model"]["vocab"], data["model"]["merges"]
    for phrase in FIXED:
        joined, *words = [SPACE + word for word in phrase.split()]
        if missing := [word for word in (joined, *words) if word not in vocabulary]:
            raise ValueError(
                f"vocab_size is too small for the template: {missing[0]!r} did not become one piece. "
                "Raise it to 700 or more."
            )
        for word in words:
            merges.append([joined, word])
            joined += word
            vocabulary.setdefault(joined, len(vocabulary))
    data["pre_tokenizer"] = None
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in (UNK, BOS, EOS)]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ADDED_TOKENS])
    return tokenizer
