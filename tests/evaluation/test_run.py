"""The whole way from cases to rows: with methods whose quality is known, and with the bundled networks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from any2pix.evaluation import run
from any2pix.evaluation.case import Case, Method, Output
from any2pix.evaluation.checkpoint import Checkpoint
from any2pix.evaluation.datasets import Draw, load_cases
from any2pix.evaluation.gallery import Gallery
from any2pix.evaluation.methods import TITLES, build_method, noise_of
from any2pix.evaluation.metrics import Tools
from any2pix.evaluation.results import code_digest, read_rows, weights_digest
from any2pix.stages.sources import Source
from PIL import Image

FEW = ["any2pix.steps=2", "any2pix.iterations=1", "pix2pix.steps=2", "sdedit.steps=2"]


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint()


@pytest.fixture(scope="module")
def cases():
    return load_cases("toyland", Draw(count=1, kinds=("add", "generate")))


def test_every_method_measures_the_bundled_networks(tmp_path, monkeypatch):
    """One added subject and a picture from nothing, as few steps as will do."""
    out, sheet = tmp_path / "rows.parquet", tmp_path / "sheet.png"
    told = ["--samples", "1", "--kinds", "add", "generate", "--options", *FEW, "--sweep", "sdedit.strength=0.5,1"]
    kept = ["--pictures", str(tmp_path / "pictures"), "--out", str(out), "--sheet", str(sheet)]
    run.main([*told, *kept])
    frame = read_rows([out])
    cases = frame.groupby(["method", "setting"])["case"].nunique().to_dict()
    assert cases == {
        ("copying", ""): 3, ("perfect painter", ""): 4, ("InstructAny2Pix", ""): 4, ("InstructPix2Pix", ""): 1,
        ("SDEdit", "strength=0.5"): 3, ("SDEdit", "strength=1"): 3,
    }  # fmt: skip
    means = frame.groupby(["metric", "method"])["value"].mean()
    assert means["done", "copying"] == 0.0 and means["done", "perfect painter"] == 1.0
    assert means["psnr", "perfect painter"] > means["psnr", "copying"] + 10
    assert means["psnr_outside", "copying"] == 60.0
    assert set(frame[frame["metric"] == "base_right"]["method"]) == {"InstructAny2Pix"}
    assert frame[["weights", "code", "embedder"]].drop_duplicates().shape == (1, 3)
    assert Image.open(sheet).width > 6 * 160

    def forbidden(*_):
        raise AssertionError("painted again")

    monkeypatch.setattr("any2pix.evaluation.methods.edit_pictures", forbidden)
    monkeypatch.setattr("any2pix.evaluation.methods.sdedit", forbidden)
    run.main([*told, *kept[:2], "--metrics", "structure", "--out", str(tmp_path / "more.jsonl")])
    assert set(read_rows([tmp_path / "more.jsonl"])["metric"]) == {"structure"}


def test_a_folder_of_ones_own_is_edited(tmp_path, cases):
    """Of another size than the miniature's."""
    picture = (cases[0].source.numpy() * 255).round().astype(np.uint8)
    Image.fromarray(picture).resize((96, 64)).save(tmp_path / "a.png")
    (tmp_path / "edits.jsonl").write_text(
        json.dumps(
            {"source": "a.png", "instruction": "make [image1] rainy", "target_caption": "rain", "target": "a.png"}
        )
    )
    run.main(["--data", f"folder:{tmp_path}", "--options", *FEW, "--out", str(tmp_path / "rows.jsonl")])
    frame = read_rows([tmp_path / "rows.jsonl"])
    assert set(frame["method"]) == set(TITLES.values()) and set(frame["case"]) == {"1"}
    assert {"psnr", "ssim", "structure"} <= set(frame["metric"]) and "done" not in set(frame["metric"])
    copied = frame[(frame["method"] == "copying") & (frame["metric"] == "psnr")]["value"].item()
    edited = frame[(frame["method"] == "InstructAny2Pix") & (frame["metric"] == "psnr")]["value"].item()
    assert copied == 60.0 > edited


def test_the_final_seeds_are_drawn_by_no_slip(capsys):
    for asked in (["--split", "final"], ["--final-report"]):
        with pytest.raises(SystemExit):
            run.main(asked)
        assert "go together: its seeds are drawn once" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["--out", "rows.csv"])


def test_what_there_is_not_is_named(checkpoint):
    with pytest.raises(ValueError, match="no method 'paint'. Choose from: copy, painter"):
        build_method("paint", checkpoint, 1, [])
    with pytest.raises(ValueError, match="'copy' has no options, but 'cfg=3' was given"):
        build_method("copy", checkpoint, 1, ["cfg=3"])
    with pytest.raises(ValueError, match="'guidance=3' is not an option"):
        build_method("sdedit", checkpoint, 1, ["guidance=3"])
    given = run._arguments().parse_args(["--methods", "copy", "--options", "steps=3"])
    with pytest.raises(ValueError, match="'steps=3' names no method"):
        run.methods_of(given, checkpoint)


def test_a_sweep_gives_a_method_for_each_value(checkpoint):
    told = ["--methods", "sdedit", "copy", "--options", "sdedit.cfg=2", "--sweep", "sdedit.strength=0.5,0.7"]
    methods = run.methods_of(run._arguments().parse_args(told), checkpoint)
    assert [method.title for method in methods] == ["SDEdit strength=0.5", "SDEdit strength=0.7", "copying"]
    assert [method.options.get("strength") for method in methods] == [0.5, 0.7, None]
    assert methods[0].options["cfg"] == 2.0


def test_noise_is_that_of_the_scene(checkpoint, cases):
    first, again = (noise_of(case, (128, 128, 3), checkpoint.vae, 1) for case in cases[:2])
    other = noise_of(replace(cases[0], scene="another"), (128, 128, 3), checkpoint.vae, 1)
    assert first.shape == (4, 16, 16) and torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, noise_of(cases[0], (128, 128, 3), checkpoint.vae, 2))


def test_a_batch_gives_what_its_cases_give_alone(checkpoint, cases):
    """InstructAny2Pix, whose cases are planned and painted together; each draws its own noise."""
    edits = [case for case in cases if case.source is not None]
    edit = build_method("any2pix", checkpoint, 1, ["steps=2", "iterations=1", "alpha=0.5"]).edit
    for case, output in zip(edits[:2], edit(edits), strict=False):
        (alone,) = edit([case])
        assert (output.caption, output.base, output.planned) == (alone.caption, alone.base, True)
        torch.testing.assert_close(output.picture, alone.picture, atol=1e-3, rtol=0)


def test_an_answer_without_an_edit_counts_as_failed(checkpoint, cases, monkeypatch):
    monkeypatch.setattr("any2pix.evaluation.methods.edit_pictures", lambda *_: [ValueError("no edit")])
    (output,) = build_method("any2pix", checkpoint, 1, []).edit(cases[:1])
    assert output.planned is False
    found = run.measure_output(cases[0], output, Tools(), ("caption_right", "base_right", "psnr", "done"))
    assert found["caption_right"] == 0.0 and found["psnr"] < 20 and "done" not in found


class Counted:
    """A method that paints grey and counts."""

    def __init__(self, **options):
        self.painted = 0
        self.method = Method("grey", "", options, lambda case: True, self.edit)

    def edit(self, cases):
        self.painted += len(cases)
        return [Output(torch.full((8, 8, 3), 0.25), True, "a caption", 0) for _ in cases]


def test_pictures_are_kept_for_what_made_them(tmp_path):
    case = Case("a/0", "a", "x", (Source("text", "b"),))
    counted = Counted(cfg=1)
    first, second = (Gallery(tmp_path, "w1").edit(counted.method, [case])[0] for _ in range(2))
    assert counted.painted == 1
    assert torch.equal(first.picture, second.picture) and first.picture[0, 0, 0] == pytest.approx(0.25, abs=1 / 510)
    assert (second.caption, second.base, second.planned) == ("a caption", 0, True)
    Gallery(tmp_path, "w2").edit(counted.method, [case])
    Gallery(tmp_path, "w2").edit(counted.method, [replace(case, instruction="y")])
    assert counted.painted == 3, "other weights, another instruction"
    changed = Counted(cfg=2)
    Gallery(tmp_path, "w2").edit(changed.method, [replace(case, instruction="y")])
    assert changed.painted == 1, "another option"


def test_digests_follow_the_files(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"1")
    first = weights_digest(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"2")
    assert weights_digest(tmp_path) != first and len(first) == 12
    assert code_digest() == code_digest() != code_digest(("models",))


def test_cases_are_chosen_by_their_tags():
    def asked(*where):
        told = ["--samples", "1", "--kinds", "add", "style", "--where", *where]
        return [case.name for case in run.cases_of(run._arguments().parse_args(told))]

    assert asked("given_as=text,audio") == ["add/0/text", "add/0/audio", "style/0/text"]
    assert asked("given_as=text", "kind=style") == ["style/0/text"]
    with pytest.raises(ValueError, match="'way=text' names no tag of the cases.*kind, given_as, background"):
        asked("way=text")
    with pytest.raises(ValueError, match="No case has given_as=mixed"):
        asked("given_as=mixed")
