"""The evaluation plans its cases in batches; a plan is what the instruction gives alone."""

import torch
from any2pix.evaluation.cases import draw_cases
from any2pix.evaluation.editor import MINIATURE, prepare
from any2pix.loading.imagebind import load_imagebind
from any2pix.loading.llm import load_llm
from any2pix.stages.any2pix.instruct import instruct
from any2pix.stages.any2pix.pipeline import Networks


def networks():
    return Networks(
        imagebind=load_imagebind(MINIATURE / "imagebind.safetensors"),
        llm=load_llm(MINIATURE / "llm.safetensors"),
        diffusion=None,
        vae=None,
    )


def test_plans_are_those_of_single_instructions():
    pair, cases = networks(), draw_cases(seed=6, count=1)[:5]
    for case, edit in zip(cases, prepare(pair, cases), strict=True):
        alone = instruct(pair.llm, edit.planned.references, case.sample.instruction)
        assert edit.case is case and edit.planned.plan.answer == alone.answer
        torch.testing.assert_close(edit.planned.plan.edit, alone.edit, rtol=1e-4, atol=1e-4)


def test_drawn_plans_repeat_for_a_seed():
    pair, cases = networks(), draw_cases(seed=6, count=1)[:2]

    def drawn(seed):
        prepared = prepare(pair, cases, temperature=2.5, generator=torch.Generator().manual_seed(seed))
        return [edit.planned.plan.answer if edit.planned else None for edit in prepared]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(3)}) > 1
