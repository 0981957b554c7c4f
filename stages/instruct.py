"""The instruction LLM at work: references and an instruction -> EditPlan, one at a time or in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.mm_llm import MultimodalLLM
from .decode import Answer, Progress, Question, chooser, generate
from .marks import ResolvedInstruction, resolve_marks
from .prompt import EOS, PromptIds, build_prompt, parse_answer, special_id
from .types import EditPlan, References, Subject

MAX_NEW_TOKENS = 100  # the released decoding
BATCH = 16  # instructions read at once: 7B in 16 bits keeps 0.5 MB a token and row, about 2 GB for 16 of 256 tokens


@dataclass(frozen=True)
class InstructJob:
    """One instruction of a batch. ``generator`` draws its tokens above temperature 0: one of its own makes its answer
    independent of what else is in the batch."""

    references: References
    instruction: str
    generator: torch.Generator | None = None


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
    job = InstructJob(references, instruction, generator)
    (plan,) = instruct_batch(llm, [job], temperature, max_new_tokens, callback, device)
    if isinstance(plan, ValueError):
        raise plan
    return plan


@torch.no_grad()
def instruct_batch(
    llm: MultimodalLLM,
    jobs: Sequence[InstructJob],
    temperature: float = 0.0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    callback: Progress | None = None,
    device: torch.device | str | None = None,
    batch: int = BATCH,
) -> list[EditPlan | ValueError]:
    """The plan of every job, each what ``instruct`` gives for it alone, ``batch`` of them read at once.

    An answer without an edit in it does not stop the others: its place holds the ValueError that says so. What is wrong
    with the jobs themselves (an unknown mark, a prompt too long) is raised before the LLM runs. ``callback(step, total)``
    counts the tokens of all batches.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(
            f"temperature is 0 or more and max_new_tokens 1 or more, not {temperature} and {max_new_tokens}."
        )
    if batch < 1:
        raise ValueError(f"batch is 1 or more, not {batch}.")
    end, device = special_id(llm.tokenizer, EOS), device or llm.lm_head.weight.device
    resolved = [resolve_marks(job.instruction, job.references) for job in jobs]
    questions = [_question(llm, job, at, temperature, max_new_tokens) for job, at in zip(jobs, resolved)]
    plans: list[EditPlan | ValueError] = []
    for start in range(0, len(jobs), batch):
        chunk = questions[start : start + batch]
        progress = _counted(callback, start // batch, -(-len(jobs) // batch))
        answers = generate(llm, chunk, end, max_new_tokens, progress, device)
        plans += [_plan(llm, answer, at) for answer, at in zip(answers, resolved[start:])]
    return plans


def _question(
    llm: MultimodalLLM, job: InstructJob, resolved: ResolvedInstruction, temperature: float, max_new_tokens: int
) -> Question:
    prompt = build_prompt(llm.tokenizer, resolved)
    _check_room(llm, prompt, max_new_tokens)
    shown = _stack(llm, [job.references[index].embedding for index in resolved.order])
    return Question(prompt, shown, chooser(temperature, job.generator))


def _plan(llm: MultimodalLLM, answer: Answer, resolved: ResolvedInstruction) -> EditPlan | ValueError:
    try:
        parsed = parse_answer(llm.tokenizer, answer.tokens)
    except ValueError as unreadable:
        return unreadable
    states = answer.states
    return EditPlan(
        edit=_predict(llm, states[parsed.gen_position]),
        base=None if parsed.base_position is None else _predict(llm, states[parsed.base_position]),
        caption=parsed.caption,
        subjects=tuple(Subject(name, _predict(llm, states[position])) for name, position in parsed.additions),
        answer=parsed.text,
        mentioned=tuple(dict.fromkeys(resolved.order)),
    )


def _counted(callback: Progress | None, done: int, batches: int) -> Progress | None:
    """The progress of one of several batches as that of all."""
    if callback is None:
        return None
    return lambda step, total: callback(done * total + step, batches * total)


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
