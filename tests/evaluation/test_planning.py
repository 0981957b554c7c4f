"""Edits are planned in batches; a plan is what the instruction gives alone."""

import pytest
import torch
from any2pix.evaluation.checkpoint import load_networks
from any2pix.evaluation.datasets import Draw, load_cases
from any2pix.stages.any2pix.instruct import instruct
from any2pix.stages.any2pix.options import EditOptions
from any2pix.stages.any2pix.pipeline import EditJob, plan_edits


@pytest.fixture(scope="module")
def networks():
    return load_networks()


@pytest.fixture(scope="module")
def cases():
    return load_cases("toyland", Draw("seen", seed=6, count=1))[:5]


def planned(networks, cases, seeds, options):
    jobs = [EditJob(case.instruction, case.references, seed=seed) for case, seed in zip(cases, seeds, strict=True)]
    return plan_edits(networks, jobs, options)


def test_plans_are_those_of_single_instructions(networks, cases):
    for case, edit in zip(cases, planned(networks, cases, range(5), EditOptions()), strict=True):
        alone = instruct(networks.llm, edit.references, case.instruction)
        assert edit.plan.answer == alone.answer
        torch.testing.assert_close(edit.plan.edit, alone.edit, rtol=1e-4, atol=1e-4)


def test_drawn_plans_repeat_for_a_seed(networks, cases):
    def drawn(seed):
        found = planned(networks, cases[:2], (seed, seed + 7), EditOptions(temperature=2.5))
        return [None if isinstance(edit, ValueError) else edit.plan.answer for edit in found]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(3)}) > 1
