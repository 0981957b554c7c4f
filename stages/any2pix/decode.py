"""Answers of the instruction LLM, token by token, for one prompt or a batch of them.

One pass over the prompts, then one token per row and pass on the key-value cache. Rows of different length are padded
on the left, where the attention never looks and no position is counted, so every row says what it says alone. A row
that has said its end token leaves the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...models.mm_llm import MultimodalLLM
from ...models.transformers_networks import key_value_cache
from .prompt import PromptIds

COLDEST = 1e-4  # temperature; below it float32 may not hold logits divided by it, and only the likeliest would be drawn
Chooser = Callable[[Tensor], int]  # logits (V,) -> the next token
Progress = Callable[[int, int], None]
OVERFLOW = "The LLM's numbers overflowed. Load it in another precision (bf16 or fp32)."


@dataclass(frozen=True)
class Question:
    """A prompt, the embeddings ``shown`` (N, D) at its N marks, and how the next token is chosen."""

    prompt: PromptIds
    shown: Tensor
    choose: Chooser


@dataclass(frozen=True)
class Answer:
    """Generated ids, up to and with the end token, and for each the state (width,) that predicted it."""

    tokens: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)


def chooser(temperature: float, generator: torch.Generator | None) -> Chooser:
    """The likeliest token at ``temperature`` 0 (or below COLDEST); above, drawn with ``generator`` on the device that
    generator lives on."""

    def choose(logits: Tensor) -> int:
        logits = logits.float()
        if not torch.isfinite(logits).all():
            raise ValueError(OVERFLOW)
        if temperature < COLDEST:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / temperature, dim=-1).to(generator.device if generator else logits.device)
        return int(torch.multinomial(probabilities, 1, generator=generator))

    return choose


def generate(
    llm: MultimodalLLM,
    questions: Sequence[Question],
    end: int,
    max_new_tokens: int,
    callback: Progress | None,
    device: torch.device | str,
) -> list[Answer]:
    """One answer per question, each at most ``max_new_tokens`` long, ``end`` its last token where it came to that.

    ``callback(step, total)`` runs before every token and may raise to cancel. A ``<video>`` that the model itself
    writes keeps its plain token embedding, as in the published decoding.
    """
    answers = [Answer() for _ in questions]
    rows = list(range(len(questions)))  # which question each row of the batch is
    cache = key_value_cache()
    ids, mask = _pad_left([question.prompt.ids for question in questions], device)
    references, places = _references(questions, ids.shape[1], device)
    for step in range(max_new_tokens):
        if callback is not None:
            callback(step, max_new_tokens)
        output = llm(ids, references, places, attention_mask=mask, past_key_values=cache, last_only=True)
        for row, hidden, logits in zip(rows, output.hidden[:, -1], output.logits[:, -1], strict=True):
            answers[row].states.append(hidden)
            answers[row].tokens.append(questions[row].choose(logits))
        going = [place for place, row in enumerate(rows) if answers[row].tokens[-1] != end]
        if not going:
            break
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            kept = torch.tensor(going, device=device)
            cache.batch_select_indices(kept)
            mask = None if mask is None else mask[kept]
        mask = None if mask is None else torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        ids = torch.tensor([[answers[row].tokens[-1]] for row in rows], device=device)
        references, places = None, None
    return answers


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor | None]:
    """Ids (B, L) and their mask (B, L), 1 on tokens and 0 on padding; no mask where all are of one length."""
    length = max(map(len, prompts))
    ids = torch.tensor([[0] * (length - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    if all(len(prompt) == length for prompt in prompts):
        return ids, None
    missing = torch.tensor([length - len(prompt) for prompt in prompts], device=device)
    return ids, (torch.arange(length, device=device) >= missing[:, None]).long()


def _references(questions: Sequence[Question], length: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """What is shown (B, N, D) and where in prompts padded to ``length`` (B, N), -1 where a row shows fewer than N."""
    count = max(len(question.shown) for question in questions)
    shown = questions[0].shown.new_zeros(len(questions), count, questions[0].shown.shape[1])
    places = torch.full((len(questions), count), -1)
    for row, question in enumerate(questions):
        used = len(question.shown)
        shown[row, :used] = question.shown
        places[row, :used] = (
            torch.tensor(question.prompt.positions, dtype=torch.long) + length - len(question.prompt.ids)
        )
    return shown.to(device), places.to(device)
