"""The instruction LLM at work: references and an instruction -> EditPlan."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from ..models.mm_llm import MultimodalLLM
from .marks import resolve_marks
from .prompt import EOS, PromptIds, build_prompt, parse_answer, special_id
from .types import EditPlan, References, Subject

MAX_NEW_TOKENS = 100  # the released decoding

Progress = Callable[[int, int], None]


@torch.no_grad()
def instruct(
    llm: MultimodalLLM,
    references: References,
    instruction: str,
    generator: torch.Generator | None = None,
    temperature: float = 0.0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    callback: Progress | None = None,
    device: torch.device | str | None = None,
) -> EditPlan:
    """Ask the LLM what the instruction means.

    ``temperature`` 0 takes the likeliest token each time; above 0 tokens are drawn with ``generator``. ``callback(step,
    total)`` runs before every token and may raise to cancel. ``device``: where to compute, by default where the weights
    are.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(
            f"temperature is 0 or more and max_new_tokens 1 or more, not {temperature} and {max_new_tokens}."
        )
    resolved = resolve_marks(instruction, references)
    prompt = build_prompt(llm.tokenizer, resolved)
    _check_room(llm, prompt, max_new_tokens)
    shown = _stack(llm, [references[index].embedding for index in resolved.order])
    choose = _chooser(temperature, generator)
    tokens, states = generate(llm, prompt, shown, choose, max_new_tokens, callback, device or llm.lm_head.weight.device)
    answer = parse_answer(llm.tokenizer, tokens)
    return EditPlan(
        edit=_predict(llm, states[answer.gen_position]),
        base=None if answer.base_position is None else _predict(llm, states[answer.base_position]),
        caption=answer.caption,
        subjects=tuple(Subject(name, _predict(llm, states[position])) for name, position in answer.additions),
        answer=answer.text,
        mentioned=tuple(dict.fromkeys(resolved.order)),
    )


def generate(
    llm: MultimodalLLM,
    prompt: PromptIds,
    shown: Tensor,
    choose: Callable[[Tensor], int],
    max_new_tokens: int,
    callback: Progress | None,
    device: torch.device | str,
) -> tuple[list[int], list[Tensor]]:
    """Generated ids up to and with ``</s>``, and for each the state (width,) that predicted it.

    One pass over the prompt, then one per token on the key-value cache. ``shown`` (N, D) goes to the N marks of the
    prompt; a ``<video>`` that the model itself writes keeps its plain token embedding, as in the published decoding.
    """
    end = special_id(llm.tokenizer, EOS)
    cache = DynamicCache()
    ids = torch.tensor([prompt.ids], device=device)
    references: Tensor | None = shown[None].to(device)
    positions: Tensor | None = torch.tensor([prompt.positions], dtype=torch.long, device=device)
    tokens: list[int] = []
    states: list[Tensor] = []
    while len(tokens) < max_new_tokens and (not tokens or tokens[-1] != end):
        if callback is not None:
            callback(len(tokens), max_new_tokens)
        output = llm(ids, references, positions, past_key_values=cache)
        states.append(output.hidden[0, -1])
        tokens.append(choose(output.logits[0, -1]))
        ids, references, positions = torch.tensor([[tokens[-1]]], device=device), None, None
    return tokens, states


def _chooser(temperature: float, generator: torch.Generator | None) -> Callable[[Tensor], int]:
    """logits (V,) -> the next token."""

    def choose(logits: Tensor) -> int:
        logits = logits.float()
        if not torch.isfinite(logits).all():
            raise ValueError("The LLM's numbers overflowed. Load it in another precision (bf16 or fp32).")
        if temperature == 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / temperature, dim=-1).to(generator.device if generator else logits.device)
        return int(torch.multinomial(probabilities, 1, generator=generator))

    return choose


def _predict(llm: MultimodalLLM, state: Tensor) -> Tensor:
    return llm.predict_embedding(state[None])[0].float()


def _stack(llm: MultimodalLLM, embeddings: Sequence[Tensor]) -> Tensor:
    """N embeddings (D,) -> (N, D), D checked against the LLM's."""
    for embedding in embeddings:
        if embedding.shape[0] != llm.dims.embed:
            raise ValueError(
                f"The LLM reads embeddings of {llm.dims.embed} numbers, a reference has {embedding.shape[0]}. "
                "Load an ImageBind and an LLM that belong together (both miniature, or both published)."
            )
    return torch.stack([e.float().cpu() for e in embeddings]) if embeddings else torch.zeros(0, llm.dims.embed)


def _check_room(llm: MultimodalLLM, prompt: PromptIds, max_new_tokens: int) -> None:
    needed = len(prompt.ids) + max_new_tokens
    if needed > llm.context:
        raise ValueError(
            f"The instruction takes {len(prompt.ids)} tokens and the answer up to {max_new_tokens}, but the LLM has "
            f"room for {llm.context} in all. Shorten the instruction, or lower max_new_tokens."
        )
