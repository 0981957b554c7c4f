import json

import pytest
from any2pix.miniature import manifest
from any2pix.training import miniature
from any2pix.training.miniature import STAGES, Stage, is_done, main, run_stage, write_result
from any2pix.training.recipe_files import load_recipe


def record(stage, out):
    return {"results": {}, "minutes": 1.0, "config": load_recipe(stage.name), "inputs": stage.inputs(out)}


def finish(stage, out):
    (out / stage.file).write_bytes(b"weights")
    write_result(stage, record(stage, out), out)


@pytest.fixture
def trained(monkeypatch):
    """The stages that would have been trained, in order; none takes time."""
    names = []

    def fake(stage, work, out, threads):
        names.append(stage.name)
        (out / stage.file).write_bytes(b"weights")
        return record(stage, out)

    monkeypatch.setattr(miniature, "run_stage", fake)
    return names


def test_a_stage_is_done_with_its_file_and_its_configuration(tmp_path):
    stage = STAGES[0]
    assert not is_done(stage, tmp_path)
    finish(stage, tmp_path)
    assert is_done(stage, tmp_path)
    write_result(stage, {**record(stage, tmp_path), "config": {"loop": "other"}}, tmp_path)
    assert not is_done(stage, tmp_path)
    finish(stage, tmp_path)
    (tmp_path / stage.file).unlink()
    assert not is_done(stage, tmp_path)


def test_the_shipped_checkpoint_is_complete():
    assert [stage.name for stage in STAGES if not is_done(stage, manifest.FOLDER)] == []


def test_everything_is_trained_once_and_in_order(tmp_path, trained):
    arguments = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    main(arguments)
    assert trained == [stage.name for stage in STAGES]
    assert set(json.loads((tmp_path / "out/training.json").read_text())) == set(trained)
    trained.clear()
    main(arguments)
    assert trained == []
    main([*arguments, "--only", "llm"])
    assert trained == ["llm"]


def test_a_network_made_from_others_is_trained_again_when_one_of_them_changes(tmp_path, trained):
    arguments = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    main(arguments)
    trained.clear()
    (tmp_path / "out/vae.safetensors").write_bytes(b"another VAE")
    main(arguments)
    assert trained == ["diffusion", "text_diffusion", "instructpix2pix"]


def test_what_finished_is_written_down_when_its_neighbour_fails(tmp_path, monkeypatch, trained):
    train = miniature.run_stage

    def fail_first(stage, work, out, threads):
        if stage.name == "autoencoder":
            raise RuntimeError("no VAE")
        return train(stage, work, out, threads)

    monkeypatch.setattr(miniature, "run_stage", fail_first)
    with pytest.raises(RuntimeError, match="no VAE"):
        main(["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")])
    assert list(miniature.read_results(tmp_path / "out")) == ["imagebind"]


def test_every_stage_has_a_script_and_a_configuration():
    for stage in STAGES:
        assert load_recipe(stage.name)
        assert (manifest.FOLDER.parent / f"training/train_{stage.name}.py").is_file()


def test_a_failed_stage_names_its_log(tmp_path):
    with pytest.raises(RuntimeError, match="Training nothing ended with code 1.*nothing.log"):
        run_stage(Stage("nothing", "nothing.safetensors"), tmp_path, tmp_path, threads=1)
