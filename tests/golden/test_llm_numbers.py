"""The instruction LLM against the numbers of the authors' code: prompt ids, logits, greedy tokens, the whole answer."""

import json

import pytest
import torch
from any2pix.loading.llm import _read_tokenizer
from any2pix.models.mm_llm import MMLLMDims, MultimodalLLM
from any2pix.stages.any2pix.instruct import instruct
from any2pix.stages.any2pix.marks import MARK, ResolvedInstruction
from any2pix.stages.any2pix.prompt import build_prompt, parse_answer
from any2pix.stages.types import Reference
from golden_inputs import seeded
from golden_inputs.llm import (
    EMBED,
    FREE_TOKENS,
    INSTRUCTION,
    INSTRUCTIONS,
    SIZES,
    TOKENIZER,
    lead,
    llama_arguments,
    references,
)
from tokenizers import Tokenizer
from transformers import DynamicCache

TOLERANCE = 1e-4  # relative error of every output, issue 3
VIDEO = "<video>"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Read from LLaMA's tokenizer.model and the added tokens, as the published folder has them."""
    return _read_tokenizer(TOKENIZER.parent)


@pytest.fixture(scope="module", params=["small", pytest.param("wide", marks=pytest.mark.slow)])
def case(request, tokenizer):
    """(our network on the golden's weights, the golden)."""
    golden, size = seeded.load(f"llm_{request.param}"), SIZES[request.param]
    dims = MMLLMDims(EMBED, llama_arguments(size, tokenizer.get_vocab_size()), size["hidden"])
    with seeded.Unfilled():
        llm = MultimodalLLM(dims).eval().requires_grad_(False)
    seeded.fill(llm, golden.notes["seed"])
    llm.tokenizer = tokenizer
    return llm, golden


def resolved(instruction: str) -> ResolvedInstruction:
    return ResolvedInstruction(instruction.replace(VIDEO, MARK), tuple(range(instruction.count(VIDEO))))


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_prompt_ids_are_the_authors(tokenizer, instruction):
    expected = seeded.load("prompts")[instruction].tolist()
    assert list(build_prompt(tokenizer, resolved(instruction)).ids) == expected


def test_the_answer_is_parsed_as_the_authors_do(tokenizer):
    answer = parse_answer(tokenizer, seeded.load("prompts")["answer"].tolist())
    assert answer.caption == "a cat in the rain"
    assert [name for name, _ in answer.additions] == ["cat", "rain"]


@torch.no_grad()
def test_logits_and_free_greedy_tokens_are_the_authors(case):
    llm, golden = case
    prompt = build_prompt(llm.tokenizer, resolved(INSTRUCTION))
    answer = seeded.load("prompts")["answer"]
    positions, shown = torch.tensor([prompt.positions]), references()[None]
    output = llm(torch.cat([torch.tensor(prompt.ids), answer])[None], shown, positions)
    start = len(prompt.ids)
    logits = output.logits[0, :: 1 if len(golden["logits"]) > 50 else 8]
    assert seeded.relative_error(logits, golden["logits"]) < TOLERANCE
    assert seeded.relative_error(output.hidden[0, start - 1 : -1 : 4], golden["states"]) < TOLERANCE

    cache, tokens, ids = DynamicCache(), [], torch.tensor([prompt.ids])
    while len(tokens) < FREE_TOKENS:
        output = llm(ids, None if tokens else shown, None if tokens else positions, past_key_values=cache)
        tokens.append(int(output.logits[0, -1].argmax()))
        ids = torch.tensor([tokens[-1:]])
    assert tokens == golden["free"].tolist()
    assert len(set(tokens)) > FREE_TOKENS / 4  # not one word over and over


@torch.no_grad()
def test_a_whole_greedy_edit_is_the_authors(case):
    llm, golden = case
    prompt = build_prompt(llm.tokenizer, resolved(INSTRUCTION))
    answer = seeded.load("prompts")["answer"].tolist()
    whole = torch.tensor([[*prompt.ids, *answer]])
    states = llm(whole, references()[None], torch.tensor([prompt.positions])).hidden[0, len(prompt.ids) - 1 : -1]
    untouched = llm.lm_head.weight.clone()
    llm.lm_head.weight.copy_(lead(untouched, states, answer))
    picture, sound = (
        Reference(row, kind, None, kind) for row, kind in zip(references(), ("image", "audio"), strict=True)
    )
    plan = instruct(llm, (picture, sound), "add [image1] to [audio1]")
    llm.lm_head.weight.copy_(untouched)

    texts = json.loads(bytes(golden["texts"].tolist()))
    assert golden["tokens"].tolist() == [*prompt.ids, *answer]
    assert plan.answer == llm.tokenizer.decode(answer, skip_special_tokens=False)
    assert plan.caption == texts["caption"]
    assert [subject.name for subject in plan.subjects] == [name.strip(" .") for name in texts["subjects"]]
    errors = {
        "edit": seeded.relative_error(plan.edit, golden["edit"]),
        "base": seeded.relative_error(plan.base, golden["base"]),
        "subjects": seeded.relative_error(torch.stack([s.embedding for s in plan.subjects]), golden["subjects"]),
    }
    assert max(errors.values()) < TOLERANCE, errors
