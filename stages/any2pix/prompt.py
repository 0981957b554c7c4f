"""Text to token ids for the instruction LLM, and its answer back: the Vicuna v1 template and the published answer
format.

Prompt:  ``<s>SYSTEM USER: add <video> to <video> ASSISTANT:``
Answer:  ``Here it is.<base><video><im_gen_start><im_gen>[caption]<video>additions:cat:<video>.</s>``, with
``<base_null>`` in place of ``<base><video>`` where there is no picture to start from.

Text is always encoded with special tokens switched off and ids of special tokens are put in by us, so nothing a person
types ("<base>", "</s>") can become one. Each stretch of text between two special tokens is encoded by itself, as the
published (legacy LLaMA) tokenizer does.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tokenizers import Tokenizer

from ..characters import well_formed
from .marks import ResolvedInstruction

# Vicuna v1's system sentence and roles; the published LLM was trained with exactly these.
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
USER, ASSISTANT = "USER:", "ASSISTANT:"
OPENING = "Here it is."  # the free text our own training puts before the tokens
ADDITIONS = "additions:"
BOS, EOS = "<s>", "</s>"
VIDEO, BASE, BASE_NULL, IM_GEN_START, IM_GEN = "<video>", "<base>", "<base_null>", "<im_gen_start>", "<im_gen>"
RETRY = "Try another seed, a temperature nearer to 0, or other words"
RETRY_GREEDY = "Try other words, or a temperature of 0.3 and other seeds"  # at temperature 0 a seed changes nothing
WITHOUT_LLM = "Or edit without the LLM: example workflow edit_without_llm."


class UnreadableAnswer(ValueError):
    """The LLM's answer holds no edit. Any other ValueError is a fault of what it was asked, or of the LLM."""


@dataclass(frozen=True)
class PromptIds:
    """``positions``: where each mark's ``<video>`` stands in ``ids``, as in ``ResolvedInstruction.order``."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True)
class TargetIds:
    """An answer to train on.

    Positions of the ``<video>`` tokens in ``ids``: the base's (or None), the result's, one per addition.
    """

    ids: tuple[int, ...]
    base_position: int | None
    gen_position: int
    addition_positions: tuple[int, ...]


@dataclass(frozen=True)
class ParsedAnswer:
    """The answer taken apart; positions are those of its ``<video>`` tokens. ``additions``: (name, position) each."""

    caption: str
    gen_position: int
    base_position: int | None
    additions: tuple[tuple[str, int], ...]
    text: str


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of one special token; an error when the vocabulary lacks it."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"The tokenizer has no {token}: it is not the tokenizer of an InstructAny2Pix LLM.")
    return found


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Plain text -> ids, never a special token, whatever the text says."""
    if not text:
        return []
    tokenizer.encode_special_tokens = True  # means: encode "<base>" as the characters it is made of
    return tokenizer.encode(well_formed(text), add_special_tokens=False).ids


def fewest_tokens(tokenizer: Tokenizer, text: str) -> int:
    """What a text takes at the least, without the seconds that reading megabytes would take."""
    return len(text) // max(map(len, tokenizer.get_vocab()))


def build_prompt(tokenizer: Tokenizer, resolved: ResolvedInstruction) -> PromptIds:
    """The prompt up to and with ``ASSISTANT:``; every mark becomes ``<video>``."""
    pieces = list(resolved.pieces)
    pieces[0] = f"{SYSTEM} {USER} {pieces[0]}"
    pieces[-1] = f"{pieces[-1]} {ASSISTANT}"
    ids = [special_id(tokenizer, BOS), *encode_text(tokenizer, pieces[0])]
    positions = []
    for piece in pieces[1:]:
        positions.append(len(ids))
        ids += [special_id(tokenizer, VIDEO), *encode_text(tokenizer, piece)]
    return PromptIds(tuple(ids), tuple(positions))


def build_target(
    tokenizer: Tokenizer, caption: str, base: bool, additions: Sequence[str] = (), opening: str = OPENING
) -> TargetIds:
    """The answer to train on, ``</s>`` included. ``base``: whether there is a picture to start from."""
    video = special_id(tokenizer, VIDEO)
    ids = encode_text(tokenizer, opening)
    base_position = len(ids) + 1 if base else None
    ids += [special_id(tokenizer, BASE), video] if base else [special_id(tokenizer, BASE_NULL)]
    ids += [special_id(tokenizer, IM_GEN_START), special_id(tokenizer, IM_GEN), *encode_text(tokenizer, f"[{caption}]")]
    gen_position = len(ids)
    ids.append(video)
    addition_positions = []
    for number, name in enumerate(additions):
        ids += encode_text(tokenizer, f"{'.' if number else ADDITIONS}{name}:")
        addition_positions.append(len(ids))
        ids.append(video)
    ids += encode_text(tokenizer, ".") if additions else []
    return TargetIds((*ids, special_id(tokenizer, EOS)), base_position, gen_position, tuple(addition_positions))


def parse_answer(tokenizer: Tokenizer, ids: Sequence[int], retry: str = RETRY) -> ParsedAnswer:
    """Find the caption and the ``<video>`` tokens in the generated ``ids``; ``retry`` is the remedy that an error
    names.

    The result's ``<video>`` is the first after the last ``<im_gen>``, the base's the first between ``<base>`` and the
    image. A caption without brackets is taken as it stands; an answer without its image, or that says nothing about a
    base, is an error.
    """
    ids = list(ids)
    text = tokenizer.decode(ids, skip_special_tokens=False)
    cut_off = not ids or ids[-1] != special_id(tokenizer, EOS)
    error = partial(_answer_error, text, cut_off, retry)
    im_gen = _last(ids, special_id(tokenizer, IM_GEN))
    if im_gen is None:
        raise error(f"has no {IM_GEN}")
    videos = [position for position, token in enumerate(ids) if token == special_id(tokenizer, VIDEO)]
    after = [position for position in videos if position > im_gen]
    if not after:
        raise error(f"has no {VIDEO} after {IM_GEN}")
    caption = tokenizer.decode(ids[im_gen + 1 : after[0]], skip_special_tokens=True).strip()
    caption = caption[1:].split("]")[0].strip() if caption.startswith("[") else caption
    return ParsedAnswer(
        caption,
        after[0],
        _base_position(tokenizer, ids[:im_gen], error),
        _additions(tokenizer, ids, after),
        text,
    )


def _base_position(tokenizer: Tokenizer, before_image: list[int], error: Callable[[str], ValueError]) -> int | None:
    """The position of the base's ``<video>``; None where the answer says that there is no base."""
    base = special_id(tokenizer, BASE)
    if base in before_image:
        video = special_id(tokenizer, VIDEO)
        start = before_image.index(base)
        if video in before_image[start:]:
            return before_image.index(video, start)
        raise error(f"has no {VIDEO} after {BASE}")
    if special_id(tokenizer, BASE_NULL) in before_image:
        return None
    raise error(f"has neither {BASE} nor {BASE_NULL}")


def _additions(tokenizer: Tokenizer, ids: list[int], videos: list[int]) -> tuple[tuple[str, int], ...]:
    """(name, position) of each ``NAME:<video>`` that follows the result's ``<video>``; a nameless one is dropped."""
    found = []
    for previous, position in itertools.pairwise(videos):
        name = tokenizer.decode(ids[previous + 1 : position], skip_special_tokens=True).strip().removeprefix(ADDITIONS)
        name = name.strip(" .:")
        if name:
            found.append((name, position))
    return tuple(found)


def _last(ids: list[int], token: int) -> int | None:
    return len(ids) - 1 - ids[::-1].index(token) if token in ids else None


def _answer_error(text: str, cut_off: bool, retry: str, what: str) -> UnreadableAnswer:
    remedy = f"{retry}, or raise max_new_tokens: the answer was cut off." if cut_off else f"{retry}."
    return UnreadableAnswer(
        f'The LLM\'s answer {what}, so there is no edit to paint. {remedy} {WITHOUT_LLM} It said: "{text}"'
    )
