"""Edits under the mask that they find, with the bundled miniature on validation edits, and in both pipelines."""

from dataclasses import replace

import pytest
import torch
from any2pix.evaluation.case import Output
from any2pix.evaluation.checkpoint import Checkpoint
from any2pix.evaluation.datasets import Draw, load_cases
from any2pix.evaluation.methods import build_method
from any2pix.evaluation.metrics import METRICS, Tools
from any2pix.stages.any2pix import pipeline
from any2pix.stages.any2pix.options import EditOptions
from any2pix.stages.any2pix.pipeline import EditJob, edit_pictures, invert_edits, mask_edits, mix_edits, plan_edits
from any2pix.stages.latents import draw_noise
from any2pix.stages.pix2pix.pipeline import TextEditOptions, edit_by_text

STEPS = 10
MARGIN = 1.5  # dB that the mask wins outside, the mean of these edits; on 36 validation edits it is 6


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint()


@pytest.fixture(scope="module")
def cases():
    """Local edits, given in words."""
    found = load_cases("toyland", Draw("validation", 1, 2, ("remove", "replace")))
    return [case for case in found if case.tags["given_as"] == "text"]


@pytest.fixture(scope="module")
def planned(checkpoint, cases):
    """Edits, embeddings and inverted pictures of InstructAny2Pix."""
    options = EditOptions(steps=STEPS)
    edits = plan_edits(checkpoint.networks, [EditJob(case.instruction, case.references) for case in cases], options)
    return edits, mix_edits(checkpoint.networks, edits), invert_edits(checkpoint.networks, edits, options)


def masks_of(checkpoint, planned, **options):
    return [edit.job.mask for edit in mask_edits(checkpoint.networks, *planned, EditOptions(find_mask=True, **options))]


@pytest.mark.parametrize("method", ["any2pix", "pix2pix"])
def test_the_mask_keeps_what_the_edit_should_leave(checkpoint, cases, method):
    def outside(find_mask):
        edit = build_method(method, checkpoint, 1, [f"steps={STEPS}", f"find_mask={find_mask}"]).edit
        metric = METRICS["psnr_outside"].measure
        found = [metric(case, output, Tools()) for case, output in zip(cases, edit(cases), strict=True)]
        return sum(found) / len(found)

    assert outside("true") > outside("false") + MARGIN


def test_the_mask_lies_on_what_changes(checkpoint, cases, planned):
    for case, mask in zip(cases, masks_of(checkpoint, planned), strict=True):
        assert mask.shape == case.target.shape[:2]
        assert mask[case.region].mean() > 0.6 and mask[~case.region].mean() < 0.3, case.name


def test_a_style_gets_the_whole_picture(checkpoint):
    (case, *_) = load_cases("toyland", Draw("validation", 1, 1, ("style",)))
    edits = plan_edits(checkpoint.networks, [EditJob(case.instruction, case.references)])
    inverted = invert_edits(checkpoint.networks, edits, EditOptions(steps=2))
    (mask,) = masks_of(checkpoint, (edits, mix_edits(checkpoint.networks, edits), inverted))
    assert mask.min() == 1


def test_the_jobs_own_mask_limits_the_found_one(checkpoint, planned):
    edits, embeddings, inverted = planned
    half = torch.zeros(128, 128)
    half[:, 64:] = 0.5
    limited = [replace(edit, job=replace(edit.job, mask=half)) for edit in edits]
    for alone, both in zip(
        masks_of(checkpoint, planned), masks_of(checkpoint, (limited, embeddings, inverted)), strict=True
    ):
        torch.testing.assert_close(both, alone * half, atol=2e-4, rtol=0)


def test_off_by_default_and_without_a_picture_nothing_is_masked(checkpoint, planned):
    edits, embeddings, inverted = planned
    assert mask_edits(checkpoint.networks, edits, embeddings, inverted) == list(edits)
    blank = [replace(edit, index=None) for edit in edits]
    found = mask_edits(checkpoint.networks, blank, embeddings, [None] * len(edits), EditOptions(find_mask=True))
    assert [edit.job.mask for edit in found] == [None] * len(edits)


def test_the_hook_runs_the_step_and_may_give_other_masks(checkpoint, cases, planned, monkeypatch):
    monkeypatch.setattr(pipeline, "plan_edits", lambda *_: planned[0][:1])
    empty = [replace(edit, job=replace(edit.job, mask=torch.zeros(128, 128))) for edit in planned[0][:1]]
    options = EditOptions(steps=2, find_mask=True)
    (found,) = edit_pictures(
        checkpoint.networks, [None], options, lambda name, step: empty if name == "find mask" else step()
    )
    beneath = build_method("copy", checkpoint, 1, []).edit(cases[:1])[0].picture
    assert METRICS["psnr"].measure(replace(cases[0], target=beneath), Output(found.image), Tools()) > 25


def test_an_edit_by_text_under_both_masks(checkpoint, cases):
    ran = []

    def hook(name, step):
        ran.append((name, step()))
        return ran[-1][1]

    pictures, noise = cases[0].source[None], draw_noise((1, 4, 16, 16), 1)
    given = torch.zeros(1, 128, 128)
    given[:, :64] = 1
    options = TextEditOptions(steps=2, find_mask=True)
    for masks in (None, given):
        edit_by_text(checkpoint.pix2pix, checkpoint.vae, pictures, [cases[0].words], noise, options, masks, hook)
    alone, both = (result for name, result in ran if name == "find mask")
    assert alone.shape == (1, 128, 128) and 0 < alone.mean() < 0.9
    torch.testing.assert_close(both, alone * given)
