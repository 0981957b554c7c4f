"""The judge as a network, and the bundled judge on drawings it has never seen."""

import numpy as np
import pytest
import torch
from any2pix.datagen.toyland import ATTRIBUTES as LABELS
from any2pix.datagen.toyland import render, sample_scene
from any2pix.evaluation.judge import ATTRIBUTES, JUDGE_KIND, load_judge, verdicts
from any2pix.loading.files import CheckpointError, write_network_file
from any2pix.miniature import manifest
from any2pix.models.judge import Judge, JudgeDims

DIMS = JudgeDims(heads=tuple((name, LABELS[name]) for name in ATTRIBUTES), widths=(8, 16))


def test_logits_have_one_number_a_label():
    logits = Judge(DIMS)(torch.rand(2, 3, 128, 128))
    assert {name: tuple(x.shape) for name, x in logits.items()} == {name: (2, len(LABELS[name])) for name in ATTRIBUTES}


def test_the_loss_reaches_every_weight():
    judge = Judge(DIMS)
    judge.training_loss(torch.rand(2, 3, 64, 64), torch.zeros(2, 4, dtype=torch.long))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judge.parameters())


def test_a_file_gives_the_same_judge_back(tmp_path):
    judge = Judge(DIMS).eval()
    write_network_file(tmp_path / "judge.safetensors", JUDGE_KIND, judge.state_dict(), DIMS.to_dict())
    loaded = load_judge(tmp_path / "judge.safetensors")
    assert loaded.dims == DIMS
    pictures = torch.rand(3, 128, 128, 3)
    assert verdicts(loaded, pictures) == verdicts(judge, pictures)


def test_a_file_of_another_kind_is_refused(tmp_path):
    write_network_file(
        tmp_path / "vae.safetensors", "vae", {"encoder.a": torch.zeros(1), "decoder.a": torch.zeros(1)}, {}
    )
    with pytest.raises(CheckpointError, match="judge"):
        load_judge(tmp_path / "vae.safetensors")


def test_pictures_of_another_layout_are_refused():
    with pytest.raises(ValueError, match=r"\(B, H, W, 3\)"):
        verdicts(Judge(DIMS), torch.rand(2, 3, 128, 128))


def test_the_bundled_judge_is_right_on_held_out_drawings():
    judge = load_judge(manifest.FOLDER / manifest.JUDGE)
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, "test") for _ in range(48)]
    pictures = torch.stack([torch.from_numpy(render(scene)).float() / 255 for scene in scenes])
    answers = verdicts(judge, pictures)
    right = np.mean(
        [
            answer[name] == getattr(scene, name)
            for answer, scene in zip(answers, scenes, strict=True)
            for name in ATTRIBUTES
        ]
    )
    assert right >= 0.97
