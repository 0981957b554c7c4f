"""The metrics of the registry, on pictures whose figures are known, and on a smear that a judge calls right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from any2pix.evaluation.case import Case, Output
from any2pix.evaluation.cases import draw_cases
from any2pix.evaluation.checkpoint import Checkpoint
from any2pix.evaluation.datasets.toyland import case_of
from any2pix.evaluation.judge import load_judge, probabilities
from any2pix.evaluation.methods import painter
from any2pix.evaluation.metrics import METRICS, Tools, metric
from any2pix.evaluation.metrics.fidelity import HIGHEST_PSNR, changed_region, grown
from any2pix.evaluation.run import measure_output
from any2pix.miniature import manifest
from any2pix.stages.similarity import Embedder
from any2pix.stages.sources import Source
from PIL import Image

SMEAR = Path(__file__).with_name("smear.png")  # painted by InstructAny2Pix: the forest is gone, the labels are right
SIDE = 32


def figure(name, case, picture, tools=None, **output):
    return METRICS[name].measure(case, Output(picture, **output), tools or Tools())


@pytest.fixture
def case():
    """A random picture whose left half the edit may change, to half as bright."""
    source = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    target, region = source.clone(), torch.zeros(SIDE, SIDE, dtype=torch.bool)
    target[:, : SIDE // 2] *= 0.5
    region[:, : SIDE // 2] = True
    references = (Source("image", source), Source("text", "dark"))
    return Case("a/0", "a", "darken it", references, 0, source=source, target=target, region=region)


def test_psnr_is_that_of_the_mean_square(case):
    """An error of 0.1 everywhere: 20 dB; in a quarter of the picture: 6 dB more."""
    assert figure("psnr", case, case.target + 0.1) == pytest.approx(20.0, abs=1e-3)
    wrong = case.target.clone()
    wrong[: SIDE // 2, : SIDE // 2] += 0.1
    assert figure("psnr", case, wrong) == pytest.approx(20 + 20 * np.log10(2), abs=1e-3)
    assert figure("psnr", case, case.target) == HIGHEST_PSNR


def test_outside_counts_what_the_edit_should_leave(case):
    inside, outside = case.target.clone(), case.target.clone()
    inside[:, : SIDE // 2] += 0.1
    outside[:, SIDE // 2 :] += 0.1
    assert figure("psnr_outside", case, inside) == HIGHEST_PSNR
    assert figure("psnr_outside", case, outside) == pytest.approx(20.0, abs=1e-3)
    assert figure("ssim_outside", case, outside) < figure("ssim_outside", case, inside)
    assert figure("psnr_outside", case, case.source) == HIGHEST_PSNR, "a copy leaves it"


def test_ssim_agrees_with_its_formula(case):
    """Wang et al. 2004, eq. 13, for a picture of one colour: the term of the brightness alone."""
    flat = replace(case, target=torch.full((SIDE, SIDE, 3), 0.5), region=None)
    c1 = 0.01**2
    wanted = (2 * 0.5 * 0.7 + c1) / (0.5**2 + 0.7**2 + c1)
    assert figure("ssim", flat, torch.full((SIDE, SIDE, 3), 0.7)) == pytest.approx(wanted, abs=1e-4)
    assert figure("ssim", case, case.target) == pytest.approx(1.0, abs=1e-5)


def test_what_means_nothing_is_left_out(case):
    bare = replace(case, target=None, region=None, source=None, base=None)
    assert measure_output(bare, Output(case.target), Tools(), METRICS.names()) == {}
    painted = replace(case, source=None, base=None)
    assert measure_output(painted, Output(case.target), Tools(), METRICS.names()) == {}, "one of many right pictures"
    everywhere = replace(case, region=torch.ones(SIDE, SIDE, dtype=torch.bool))
    assert figure("psnr_outside", everywhere, case.target) is None
    assert figure("psnr", everywhere, case.target) is not None


def test_a_result_of_another_size_is_brought_to_the_targets(case):
    flat = replace(case, target=torch.full((SIDE, SIDE, 3), 0.5), region=None)
    assert figure("psnr", flat, torch.full((20, 24, 3), 0.6)) == pytest.approx(20.0, abs=1e-2)


def test_a_region_grows_by_its_margin():
    before, after = torch.zeros(9, 9, 3), torch.zeros(9, 9, 3)
    after[4, 4, 1], after[0, 0, 0] = 0.5, 0.001
    region = changed_region(before, after, least=0.01, margin=2)
    assert region.sum() == 25 and region[2:7, 2:7].all()
    assert torch.equal(grown(region, 0), region)


def test_planning_counts_for_methods_that_plan(case):
    told = replace(case, target_caption="a dark cat")
    assert figure("caption_right", told, case.source) is None and figure("base_right", told, case.source) is None
    assert figure("caption_right", told, case.source, planned=True, caption="a dark cat ") == 1.0
    assert figure("base_right", told, case.source, planned=True, base=0) == 1.0
    assert figure("base_right", told, case.source, planned=True, base=1) == 0.0
    painted = replace(told, base=None, source=None)
    assert figure("base_right", painted, case.source, planned=False) == 0.0, "no plan is not a right one"


def test_directions_are_those_of_the_embedder(case):
    """An embedder of two numbers: brightness left and right."""

    def pictures(images):
        values = [np.asarray(image, dtype=float) / 255 for image in images]
        return torch.tensor(np.array([(v[:, : SIDE // 2].mean(), v[:, SIDE // 2 :].mean()) for v in values])).float()

    def texts(lines):
        return torch.tensor([[1.0, 1.0] if line == "light" else [0.5, 1.0] for line in lines])

    tools = Tools(embedder=Embedder(pictures, texts, lambda images: pictures(images)[:, None]))
    told = replace(case, source_caption="light", target_caption="half dark")
    assert figure("direction", told, case.target, tools) > 0.98
    assert figure("image_similarity", told, case.source, tools) == pytest.approx(1.0)
    assert figure("image_similarity", told, case.target, tools) == pytest.approx(1.5 / np.sqrt(2 * 1.25), abs=0.02)
    nearer, farther = (figure("caption_similarity", told, picture, tools) for picture in (case.target, case.source))
    assert nearer > farther
    assert figure("direction", case, case.target, tools) is None, "there are no captions"


@pytest.fixture(scope="module")
def judge():
    return load_judge(manifest.FOLDER / manifest.JUDGE)


@pytest.fixture(scope="module")
def smeared():
    """The validation case of the smear: a car in a pastel forest, in the snow."""
    (edit,) = [
        edit
        for edit in draw_cases(14, 7, "validation", ("atmosphere",))
        if edit.number == 6 and edit.modality == "text"
    ]
    return case_of(edit)


def test_probabilities_are_those_behind_the_verdict(judge, smeared):
    (found,) = probabilities(judge, smeared.target[None])
    assert all(sum(shares.values()) == pytest.approx(1.0, abs=1e-5) for shares in found.values())
    assert figure("subject_confidence", smeared, smeared.target, Tools(judge)) == pytest.approx(found["subject"]["car"])
    assert figure("confidence", smeared, smeared.target, Tools(judge)) == pytest.approx(
        min(found[name][after] for name, (_, after) in smeared.labels.items())
    )


def test_the_source_itself_is_not_done_and_its_weather_not_recognised(judge, smeared):
    tools = Tools(judge)
    assert figure("done", smeared, smeared.source, tools) == 0.0
    assert figure("kept", smeared, smeared.source, tools) == 1.0
    assert figure("confidence", smeared, smeared.source, tools) < 0.1
    assert figure("subject_confidence", smeared, smeared.source, tools) > 0.9, "the car is there"


def test_a_subject_that_fades_is_less_and_less_recognised(judge):
    """By the probability, before the likeliest label changes."""
    (edit,) = [edit for edit in draw_cases(2, 1, "validation", ("add",)) if edit.modality == "text"]
    case = case_of(edit)
    shares = [
        figure("subject_confidence", case, torch.lerp(case.target, case.source, fade), Tools(judge))
        for fade in (0.0, 0.7, 1.0)
    ]
    assert shares[0] > 0.9 and shares[2] < 0.1 and shares[0] > shares[1] > shares[2]


def test_a_smear_scores_badly_whatever_the_judge_says_of_it(judge, smeared):
    """The bundled judge finds every attribute in it, with confidence; the figures against the true target do not."""
    smear = torch.from_numpy(np.array(Image.open(SMEAR))).float() / 255
    tools = Tools(judge)
    (drawn,) = painter(Checkpoint())([smeared])
    found, reachable = (measure_output(smeared, output, tools, METRICS.names()) for output in (Output(smear), drawn))
    assert found["done"] == found["all_right"] == 1.0 and found["confidence"] > 0.9
    assert found["drawn_right"] == 0.0 and reachable["drawn_right"] == 1.0
    assert found["psnr"] < 20 and reachable["psnr"] > 35
    assert found["psnr_outside"] < 20 and reachable["psnr_outside"] > 35
    assert found["ssim"] < 0.7 and reachable["ssim"] > 0.95
    assert found["structure_target"] < 0.45 and reachable["structure_target"] > 0.95


def test_a_new_metric_is_one_function(case):
    @metric("brightness_of_the_test", unit="share", better="lower")
    def brightness(case, output, tools):
        return float(output.picture.mean())

    try:
        assert figure("brightness_of_the_test", case, torch.full((SIDE, SIDE, 3), 0.25)) == 0.25
        with pytest.raises(ValueError, match="two entries for the metric 'brightness_of_the_test'"):
            metric("brightness_of_the_test")(brightness)
    finally:
        METRICS.entries.pop("brightness_of_the_test")
    with pytest.raises(ValueError, match="no metric 'beauty'. Choose from: all_right, base_right"):
        METRICS["beauty"]
