"""The instruction LLM at work: references and an instruction -> EditPlan, one at a time or in a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.mm_llm import MultimodalLLM
from ..types import EditPlan, References, Subject
from .decode import COLDEST, OVERFLOW, Answer, Progress, Question, chooser, generate
from .marks import ResolvedInstruction, resolve_marks
from .prompt import EOS, RETRY, RETRY_GREEDY, PromptIds, build_prompt, fewest_tokens, parse_answer, special_id

MAX_NEW_TOKENS = 100  # the released decoding
MANY_REFERENCES = 16  # from which on it is their number, and not the words, that fills an LLM
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

    An answer without an edit in it does not stop the others: its place holds the ValueError. What is wrong
    with the jobs themselves (an unknown mark, a prompt too long) is raised before the LLM runs. ``callback(step,
    total)`` counts the tokens of all batches.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be 1 or more.")
    end, device = special_id(llm.tokenizer, EOS), device or llm.lm_head.weight.device
    resolved, questions = _prepare(llm, jobs, temperature, max_new_tokens)
    retry = RETRY if temperature >= COLDEST else RETRY_GREEDY
    plans: list[EditPlan | ValueError] = []
    for start in range(0, len(jobs), batch):
        chunk = slice(start, start + batch)
        progress = _counted(callback, start // batch, -(-len(jobs) // batch))
        answers = generate(llm, questions[chunk], end, max_new_tokens, progress, device)
        plans += [_plan(llm, answer, at, retry) for answer, at in zip(answers, resolved[chunk], strict=True)]
    return plans


def check_instruction(
    llm: MultimodalLLM,
    references: References,
    instruction: str,
    temperature: float = 0.0,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> None:
    """What ``instruct`` raises before the LLM runs, for who has yet to load the weights."""
    _prepare(llm, [InstructJob(references, instruction)], temperature, max_new_tokens)


def _prepare(
    llm: MultimodalLLM, jobs: Sequence[InstructJob], temperature: float, max_new_tokens: int
) -> tuple[list[ResolvedInstruction], list[Question]]:
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature is {temperature}; it must be 0 or more (0.3 in the published demo).")
    if max_new_tokens < 1:
        raise ValueError(
            f"max_new_tokens is {max_new_tokens}; it must be 1 or more ({MAX_NEW_TOKENS} in the published demo)."
        )
    resolved, questions = [], []
    for number, job in enumerate(jobs, start=1):
        try:
            _check_length(llm, job.instruction)
            resolved.append(resolve_marks(job.instruction, job.references))
            questions.append(_question(llm, job, resolved[-1], temperature, max_new_tokens))
        except ValueError as error:
            raise error if len(jobs) == 1 else ValueError(f"Instruction {number} of {len(jobs)}: {error}") from None
    return resolved, questions


def _question(
    llm: MultimodalLLM, job: InstructJob, resolved: ResolvedInstruction, temperature: float, max_new_tokens: int
) -> Question:
    prompt = build_prompt(llm.tokenizer, resolved)
    _check_room(llm, prompt, len(resolved.order), max_new_tokens)
    shown = _stack(llm, job.references, resolved.order)
    return Question(prompt, shown, chooser(temperature, job.generator))


def _plan(llm: MultimodalLLM, answer: Answer, resolved: ResolvedInstruction, retry: str) -> EditPlan | ValueError:
    try:
        parsed = parse_answer(llm.tokenizer, answer.tokens, retry)
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
        notes=resolved.notes,
    )


def _counted(callback: Progress | None, done: int, batches: int) -> Progress | None:
    """The progress of one of several batches as that of all."""
    if callback is None:
        return None
    return lambda step, total: callback(done * total + step, batches * total)


def _predict(llm: MultimodalLLM, state: Tensor) -> Tensor:
    embedding = llm.predict_embedding(state[None])[0].float()
    if not embedding.isfinite().all():
        raise ValueError(OVERFLOW)
    return embedding


def _stack(llm: MultimodalLLM, references: References, order: Sequence[int]) -> Tensor:
    """The embeddings (D,) of N references -> (N, D), each checked."""
    for index in dict.fromkeys(order):
        embedding = references[index].embedding
        if embedding.shape[0] != llm.dims.embed:
            raise ValueError(
                f"The LLM reads embeddings of {llm.dims.embed} numbers, a reference has {embedding.shape[0]}. "
                "Load an ImageBind and an LLM that belong together (both miniature, or both published)."
            )
        if not embedding.isfinite().all():
            raise ValueError(
                f"Reference {index + 1} of {len(references)} in the chain, {references[index].modality}, holds NaN or "
                "infinite numbers. Check the node it comes from."
            )
    shown = [references[index].embedding.float().cpu() for index in order]
    return torch.stack(shown) if shown else torch.zeros(0, llm.dims.embed)


def _check_length(llm: MultimodalLLM, instruction: str) -> None:
    """Texts of megabytes are turned away before anything reads them."""
    if len(instruction) > llm.context and (fewest := fewest_tokens(llm.tokenizer, instruction)) > llm.context:
        raise _too_long(f"{len(instruction)} characters, which are {fewest} tokens or more", 0, llm.context)


def _check_room(llm: MultimodalLLM, prompt: PromptIds, shown: int, max_new_tokens: int) -> None:
    left = llm.context - len(prompt.ids)
    if left < 1:
        raise _too_long(f"{len(prompt.ids)} tokens", shown, llm.context)
    if left < max_new_tokens:
        raise ValueError(
            f"The instruction takes {len(prompt.ids)} tokens and the answer up to {max_new_tokens}, but the LLM's "
            f"limit is {llm.context} in all. Shorten the instruction, or lower max_new_tokens to {left} or less."
        )


def _too_long(size: str, shown: int, context: int) -> ValueError:
    many = (
        f" {shown} references are part of it: name those that it needs, or shorten it."
        if shown > MANY_REFERENCES
        else ""
    )
    return ValueError(
        f"The instruction takes {size}, but the LLM's limit is {context} in all.{many or ' Shorten the instruction.'}"
    )
