"""A batch of instructions gives what each of them gives alone."""

import pytest
import torch
from any2pix.loading.llm import load_llm
from any2pix.miniature import manifest
from any2pix.models.mm_llm import MMLLMDims, MultimodalLLM
from any2pix.stages.any2pix.decode import Question, chooser, generate
from any2pix.stages.any2pix.instruct import InstructJob, instruct, instruct_batch
from any2pix.stages.any2pix.prompt import PromptIds
from any2pix.stages.types import Reference

END = 2


@pytest.fixture(scope="module")
def llm():
    """Random weights, sharp enough that no two tokens come near a tie."""
    torch.manual_seed(0)
    llama = dict(vocab_size=90, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    network = MultimodalLLM(MMLLMDims(embed=8, llama=llama, projector_hidden=32)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    return network


def questions(temperature=0.0, seeds=(0, 1, 2, 3)):
    """Prompts of 5, 17, 9 and 17 tokens, with 2, 0, 1 and 3 references."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for length, marks, seed in zip((5, 17, 9, 17), ((1, 3), (), (4,), (0, 8, 16)), seeds, strict=True):
        ids = tuple(torch.randint(3, 90, (length,), generator=generator).tolist())
        shown = torch.randn(len(marks), 8, generator=generator)
        choose = chooser(temperature, torch.Generator().manual_seed(seed))
        made.append(Question(PromptIds(ids, marks), shown, choose))
    return made


def answers(llm, asked, tokens=25, end=END, callback=None):
    return generate(llm, asked, end, tokens, callback, "cpu")


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@torch.no_grad()
def test_every_row_says_what_it_says_alone(llm, temperature):
    together = answers(llm, questions(temperature))
    alone = [answers(llm, [question])[0] for question in questions(temperature)]
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(torch.stack(one.states), torch.stack(other.states), rtol=1e-4, atol=1e-4)
    assert len({tuple(answer.tokens) for answer in alone}) == 4


@torch.no_grad()
def test_a_row_that_has_ended_leaves_and_the_others_go_on(llm):
    free = [answer.tokens for answer in answers(llm, questions(), end=-1)]
    end = free[0][6]  # the first row now ends at its seventh token at the latest
    expected = [tokens[: tokens.index(end) + 1] if end in tokens else tokens for tokens in free]
    sizes = []
    hook = llm.lm_head.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[0]))
    together = answers(llm, questions(), end=end)
    hook.remove()
    assert [answer.tokens for answer in together] == expected
    longest = max(map(len, expected))
    assert sizes == [sum(len(tokens) > step for tokens in expected) for step in range(longest)]
    assert sizes[0] == 4 and sizes[-1] < 4


@torch.no_grad()
def test_a_drawn_answer_does_not_depend_on_its_batch_mates(llm):
    first, second = (answers(llm, questions(0.8, seeds)) for seeds in ((0, 1, 2, 3), (0, 11, 12, 13)))
    assert first[0].tokens == second[0].tokens and first[1].tokens != second[1].tokens


@torch.no_grad()
def test_the_vocabulary_is_scored_at_one_position_only(llm):
    shapes = []
    hook = llm.lm_head.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape[:2])))
    answers(llm, questions(), tokens=3, end=-1)
    hook.remove()
    assert shapes == [(4, 1)] * 3


@torch.no_grad()
def test_last_only_is_the_end_of_the_whole(llm):
    ids = torch.randint(3, 90, (2, 7), generator=torch.Generator().manual_seed(1))
    whole, last = llm(ids), llm(ids, last_only=True)
    torch.testing.assert_close(last.logits, whole.logits[:, -1:])
    assert last.hidden.untyped_storage().nbytes() == last.hidden.numel() * last.hidden.element_size()


@pytest.fixture(scope="module")
def miniature():
    return load_llm(manifest.FOLDER / manifest.LLM)


def jobs(seeds=(0, 1, 2)):
    generator = torch.Generator().manual_seed(3)
    references = tuple(Reference(torch.randn(64, generator=generator), kind) for kind in ("image", "audio", "image"))
    asked = ("add [audio1] to [image1]", "make [image2] an ink drawing", "remove the cat from [image1]")
    return [
        InstructJob(references, text, torch.Generator().manual_seed(seed))
        for text, seed in zip(asked, seeds, strict=True)
    ]


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_plans_of_a_batch_are_those_of_single_instructions(miniature, batch):
    plans = instruct_batch(miniature, jobs(), batch=batch)
    for job, plan in zip(jobs(), plans, strict=True):
        alone = instruct(miniature, job.references, job.instruction)
        assert plan.answer == alone.answer and plan.mentioned == alone.mentioned
        torch.testing.assert_close(plan.edit, alone.edit, rtol=1e-4, atol=1e-4)


def test_an_unreadable_answer_does_not_stop_the_others(miniature):
    plans = instruct_batch(miniature, jobs(), max_new_tokens=3)
    assert len(plans) == 3 and all("raise max_new_tokens" in str(plan) for plan in plans)
    with pytest.raises(ValueError, match="raise max_new_tokens"):
        instruct(miniature, jobs()[0].references, jobs()[0].instruction, max_new_tokens=3)


def test_a_bad_job_is_named_before_the_llm_runs(miniature):
    bad = [*jobs(), InstructJob((), "add [image1]")]
    with pytest.raises(ValueError, match=r"names \[image1\], but no image reference is connected"):
        instruct_batch(miniature, bad, callback=lambda *_: pytest.fail("the LLM ran"))
    with pytest.raises(ValueError, match="it must be 1 or more"):
        instruct_batch(miniature, jobs(), batch=0)


def test_no_jobs_no_plans(miniature):
    assert instruct_batch(miniature, []) == []


def test_progress_counts_the_tokens_of_all_batches(miniature):
    steps = []
    instruct_batch(miniature, jobs(), max_new_tokens=3, batch=2, callback=lambda *step: steps.append(step))
    assert steps == [(step, 6) for step in range(6)]
