import time
from types import SimpleNamespace

import pytest
import torch
from any2pix.models.mm_llm import LLMOutput, MMLLMDims, MultimodalLLM
from any2pix.stages.any2pix.decode import chooser
from any2pix.stages.any2pix.instruct import InstructJob, instruct, instruct_batch
from any2pix.stages.any2pix.prompt import build_target
from any2pix.stages.types import Reference
from any2pix.training.llm_tokenizer import build_tokenizer

WIDTH = 4


class ScriptedLLM:
    """Says ``answer`` whatever it is asked. The state that predicts answer token k is (k, k, k, k)."""

    def __init__(self, tokenizer, answer):
        self.tokenizer, self.answer = tokenizer, list(answer)
        self.dims, self.context = SimpleNamespace(embed=WIDTH), 500
        self.lm_head = SimpleNamespace(weight=torch.zeros(1))
        self.seen = []

    def __call__(
        self, ids, references=None, positions=None, attention_mask=None, past_key_values=None, last_only=False
    ):
        self.seen.append((ids, references, positions))
        step = len(self.seen) - 1
        logits = torch.full((1, ids.shape[1], self.tokenizer.get_vocab_size()), -5.0)
        logits[0, -1, self.answer[step]] = 5.0
        return LLMOutput(logits, torch.full((1, ids.shape[1], WIDTH), float(step)), past_key_values)

    def predict_embedding(self, hidden):
        return hidden * 10


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(
        ["add a cat to the meadow in the rain, ink style", "[a cat]", "additions:cat:", "make it snow"] * 3, 700
    )


REFERENCES = (
    Reference(torch.arange(4.0), "image"),
    Reference(torch.ones(4), "audio"),
    Reference(torch.full((4,), 3.0), "image"),
)


def test_plan_takes_the_states_that_predicted_the_video_tokens(tokenizer):
    target = build_target(tokenizer, "a cat", base=True, additions=("cat",))
    llm = ScriptedLLM(tokenizer, target.ids)
    plan = instruct(llm, REFERENCES, "add [audio1] to [image2] [image2]")
    assert plan.caption == "a cat" and "<base>" in plan.answer
    torch.testing.assert_close(plan.edit, torch.full((WIDTH,), 10.0 * target.gen_position))
    torch.testing.assert_close(plan.base, torch.full((WIDTH,), 10.0 * target.base_position))
    assert [subject.name for subject in plan.subjects] == ["cat"]
    torch.testing.assert_close(plan.subjects[0].embedding, torch.full((WIDTH,), 10.0 * target.addition_positions[0]))
    assert plan.mentioned == (1, 2)


def test_one_pass_over_the_prompt_then_one_token_each(tokenizer):
    target = build_target(tokenizer, "a cat", base=False)
    llm = ScriptedLLM(tokenizer, target.ids)
    assert instruct(llm, REFERENCES, "add [audio1] to [image2] [image2]").base is None
    ids, shown, positions = llm.seen[0]
    torch.testing.assert_close(shown[0], torch.stack([REFERENCES[i].embedding for i in (1, 2, 2)]))
    assert [tokenizer.id_to_token(ids[0, p]) for p in positions[0]] == ["<video>"] * 3
    assert [ids.shape[1] for ids, _, _ in llm.seen[1:]] == [1] * (len(target.ids) - 1)
    assert all(references is None for _, references, _ in llm.seen[1:])  # a <video> it writes keeps its token embedding


def test_progress_and_cancel(tokenizer):
    target = build_target(tokenizer, "a cat", base=False)
    steps = []
    instruct(
        ScriptedLLM(tokenizer, target.ids),
        (),
        "make it snow",
        callback=lambda *step: steps.append(step),
        max_new_tokens=50,
    )
    assert steps == [(i, 50) for i in range(len(target.ids))]

    class Cancelled(Exception):
        pass

    def cancel(step, total):
        if step == 3:
            raise Cancelled

    llm = ScriptedLLM(tokenizer, target.ids)
    with pytest.raises(Cancelled):
        instruct(llm, (), "make it snow", callback=cancel)
    assert len(llm.seen) == 3


def test_too_few_new_tokens(tokenizer):
    llm = ScriptedLLM(tokenizer, build_target(tokenizer, "a cat", base=True).ids)
    with pytest.raises(ValueError, match="raise max_new_tokens"):
        instruct(llm, REFERENCES, "make it snow", max_new_tokens=3)


@pytest.mark.parametrize(
    "options",
    [{"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"max_new_tokens": 0}],
)
def test_options_out_of_range(tokenizer, options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be"):
        instruct(ScriptedLLM(tokenizer, []), REFERENCES, "make it snow", **options)


def test_long_instruction(tokenizer):
    with pytest.raises(ValueError, match="limit is 500 in all. Shorten the instruction"):
        instruct(ScriptedLLM(tokenizer, []), REFERENCES, "make it snow " * 300)
    with pytest.raises(ValueError, match="Shorten the instruction, or lower max_new_tokens to 4.. or less"):
        instruct(ScriptedLLM(tokenizer, []), REFERENCES, "make it snow", max_new_tokens=600)


def test_a_megabyte_is_turned_away_before_it_is_read(tokenizer):
    start = time.process_time()
    with pytest.raises(ValueError, match="takes 1000000 characters, which are .* tokens or more, .*Shorten"):
        instruct(ScriptedLLM(tokenizer, []), REFERENCES, "snow " * 200_000)
    assert time.process_time() - start < 1


def test_too_many_references_are_named(tokenizer):
    with pytest.raises(ValueError, match="10000 references are part of it: name those that it needs"):
        instruct(ScriptedLLM(tokenizer, []), REFERENCES[:1] * 10_000, "make it snow")


def test_a_broken_reference_is_named_and_not_the_llm(tokenizer):
    broken = Reference(torch.full((4,), float("nan")), "audio")
    with pytest.raises(ValueError, match="Reference 2 of 2 in the chain, audio, holds NaN"):
        instruct(ScriptedLLM(tokenizer, []), (REFERENCES[0], broken), "make it snow")


def test_how_marks_were_read_is_told_with_the_plan(tokenizer):
    llm = ScriptedLLM(tokenizer, build_target(tokenizer, "a cat", base=True).ids)
    assert instruct(llm, REFERENCES, "(image1) in snow").notes == ("(image1) is read as [image1].",)


@pytest.mark.parametrize(
    ("temperature", "remedy"), [(0.0, "Try other words, or a temperature of 0.3"), (0.5, "Try another seed")]
)
def test_the_remedy_fits_the_temperature_and_offers_the_edit_without_the_llm(tokenizer, temperature, remedy):
    llm = ScriptedLLM(tokenizer, build_target(tokenizer, "a cat", base=True).ids)
    with pytest.raises(ValueError, match=f"{remedy}.*Or edit without the LLM: example workflow edit_without_llm"):
        instruct(llm, REFERENCES, "make it snow", torch.Generator(), temperature, max_new_tokens=3)


def test_the_coldest_temperature_takes_the_likeliest():
    logits = torch.tensor([1.0, 3.0, 2.0])
    assert chooser(5e-324, torch.Generator())(logits) == 1


def test_a_bad_instruction_of_a_batch_has_its_number(tokenizer):
    jobs = [InstructJob(REFERENCES, text) for text in ("make it snow", "[image9] in snow")]
    with pytest.raises(ValueError, match=r"Instruction 2 of 2: The instruction names \[image9\]"):
        instruct_batch(ScriptedLLM(tokenizer, []), jobs)


def test_embeddings_of_another_imagebind(tokenizer):
    with pytest.raises(ValueError, match="embeddings of 4 numbers, a reference has 9"):
        instruct(ScriptedLLM(tokenizer, []), (Reference(torch.zeros(9), "image"),), "make it snow")


def test_overflow_is_named(tokenizer):
    llm = ScriptedLLM(tokenizer, build_target(tokenizer, "a cat", base=True).ids)
    nan = LLMOutput(torch.full((1, 1, 5), float("nan")), torch.zeros(1, 1, WIDTH), None)
    llm.__class__ = type("Overflowing", (ScriptedLLM,), {"__call__": lambda *args, **kwargs: nan})
    with pytest.raises(ValueError, match="another precision"):
        instruct(llm, REFERENCES, "make it snow")


@pytest.fixture(scope="module")
def small_llm(tokenizer):
    torch.manual_seed(0)
    llama = dict(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    llm = MultimodalLLM(MMLLMDims(embed=4, llama=llama, projector_hidden=64)).eval()
    llm.tokenizer = tokenizer
    return llm


def teach(llm, tokenizer, instruction, caption):
    """Overfit one answer, so that a real network can be decoded."""
    from any2pix.stages.any2pix.marks import resolve_marks
    from any2pix.stages.any2pix.prompt import build_prompt
    from any2pix.training.llm_samples import Example, collate

    prompt = build_prompt(tokenizer, resolve_marks(instruction, REFERENCES))
    target = build_target(tokenizer, caption, base=True)
    start = len(prompt.ids)
    shown = torch.stack([REFERENCES[i].embedding for i in resolve_marks(instruction, REFERENCES).order])
    ends = (start + target.base_position, start + target.gen_position)
    example = Example(
        prompt.ids,
        target.ids,
        shown,
        prompt.positions,
        torch.stack([REFERENCES[0].embedding, REFERENCES[1].embedding]),
        ends,
    )
    optimizer = torch.optim.AdamW(llm.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        llm.training_loss(collate([example], pad=2), embedding_weight=0.05)["loss"].backward()
        optimizer.step()


def test_a_trained_network_answers_and_samples_by_seed(small_llm, tokenizer):
    instruction = "add [audio1] to [image1]"
    teach(small_llm, tokenizer, instruction, "a cat in the rain")
    plan = instruct(small_llm, REFERENCES, instruction)
    assert plan.caption == "a cat in the rain"
    cosine = torch.nn.functional.cosine_similarity
    assert (
        cosine(plan.base, REFERENCES[0].embedding, dim=0) > 0.95
        and cosine(plan.edit, REFERENCES[1].embedding, dim=0) > 0.95
    )
    again = instruct(small_llm, REFERENCES, instruction)
    assert torch.equal(again.edit, plan.edit)

    def sampled(seed):
        try:
            return instruct(
                small_llm,
                REFERENCES,
                instruction,
                torch.Generator().manual_seed(seed),
                temperature=3.0,
                max_new_tokens=30,
            ).answer
        except ValueError as error:
            return str(error)

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(4)}) > 1
