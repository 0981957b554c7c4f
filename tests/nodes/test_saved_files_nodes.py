"""Where and under which name it is saved; files that cannot be read; nothing else is touched or believed."""

import errno
import os

import pytest
import torch
from any2pix.loading import saved as saved_files
from any2pix.loading.errors import CheckpointError
from any2pix.loading.saved import clean_name, write_saved
from any2pix.nodes import LoadReferences, SaveEmbedding, SaveReferences
from any2pix.nodes.saved import NOTHING_SAVED, saved_names
from any2pix.nodes.sockets import Embedding
from any2pix.stages.types import Reference
from harness.saved_files import (  # noqa: F401
    KINDS,
    clean_fixture,
    contents_fixture,
    files_in,
    folders_fixture,
    invert_fixture,
    keep,
    references_fixture,
    rewrite,
    vector_fixture,
)
from safetensors.torch import save_file

pytestmark = pytest.mark.one_host


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_content_gives_the_same_bytes_and_another_one_a_number(run, contents, folders, kind):
    _, one, other = contents[kind]
    keep(run, kind, one, "a")
    first = (folders[kind] / "a.safetensors").read_bytes()
    for _ in range(3):
        keep(run, kind, one, "a")
    assert files_in(folders[kind]) == ["a.safetensors"]
    keep(run, kind, other, "a")
    keep(run, kind, other, "a.safetensors")
    assert files_in(folders[kind]) == ["a.safetensors", "a_00002.safetensors"]
    assert (folders[kind] / "a.safetensors").read_bytes() == first
    keep(run, kind, one, "b")
    assert (folders[kind] / "b.safetensors").read_bytes() == first


@pytest.mark.parametrize("kind", KINDS)
def test_overwrite_replaces_what_is_of_its_kind_only(run, contents, folders, kind):
    _, one, other = contents[kind]
    keep(run, kind, one, "a")
    before = (folders[kind] / "a.safetensors").read_bytes()
    keep(run, kind, other, "a", overwrite=True)
    assert files_in(folders[kind]) == ["a.safetensors"] and (folders[kind] / "a.safetensors").read_bytes() != before
    for content in (b"", b"somebody's notes", (folders[kind].parent / "foreign").write_bytes(b"x") and b"\0" * 100):
        (folders[kind] / "b.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="It was not changed: write another name"):
            keep(run, kind, one, "b", overwrite=True)
        assert (folders[kind] / "b.safetensors").read_bytes() == content
    save_file({"any_weight": torch.zeros(3)}, folders[kind] / "c.safetensors")
    with pytest.raises(CheckpointError, match="It was not changed"):
        keep(run, kind, one, "c", overwrite=True)


@pytest.mark.parametrize(
    "name", ["", "  ", "..", "../a", "a/../../b", "/etc/a", "\\\\host\\a", "C:\\a", "a//b", "a\0b", "a\nb", "con",
    "nul.x", "a.",
             ".hidden", "what?", "é" * 101]
)  # fmt: skip
def test_a_name_that_is_none_is_named_and_nothing_is_written(run, vector, folders, name):
    with pytest.raises(ValueError, match="(?s)name.*Write (one|another one)"):
        keep(run, "embedding", vector, name)
    said = SaveEmbedding.validate_inputs(name=name)
    assert isinstance(said, str) and "name" in said
    assert files_in(folders["embedding"].parent) == []


@pytest.mark.parametrize(
    "name, parts", [("a", ("a",)), (" b /c.safetensors", ("b", "c")), ("x\\y", ("x", "y")), ("v1.5 猫", ("v1.5 猫",))]
)
def test_good_names(name, parts):
    assert clean_name(name) == parts
    assert SaveReferences.validate_inputs(name=name) is True and SaveReferences.validate_inputs() is True


def test_composed_and_decomposed_letters_are_one_name():
    assert clean_name("u\u0308") == clean_name("\u00fc") == ("\u00fc",)


def test_a_link_that_leads_out_is_not_followed(run, vector, folders, tmp_path):
    (tmp_path / "outside").mkdir()
    folders["embedding"].mkdir()
    (folders["embedding"] / "out").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(ValueError, match="points outside .* through a link"):
        keep(run, "embedding", vector, "out/a")
    (folders["embedding"] / "b.safetensors").symlink_to(tmp_path / "outside" / "theirs.safetensors")
    keep(run, "embedding", vector, "b")
    assert files_in(tmp_path / "outside") == []
    assert (folders["embedding"] / "b_00002.safetensors").is_file()


def test_a_file_in_the_place_of_a_folder_is_named(run, vector, folders):
    folders["embedding"].mkdir()
    (folders["embedding"] / "a").write_text("")
    with pytest.raises(CheckpointError, match="a part of its path is a file"):
        keep(run, "embedding", vector, "a/b")


@pytest.mark.parametrize(
    "number, said", [(errno.ENOSPC, "the disk is full, 0.1 MB are needed. Free disk space"), (errno.EROFS,
    "is not writable"),
                     (errno.EACCES, "is not writable"), (errno.EIO, "was not saved")]
)  # fmt: skip
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_does_not_take_it_is_named_and_the_old_file_stays(
    run, contents, folders, monkeypatch, number, said, overwrite
):
    _, one, other = contents["embedding"]
    keep(run, "embedding", one, "a")
    before = (folders["embedding"] / "a.safetensors").read_bytes()

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(saved_files.os, "fsync", fail)
    with pytest.raises(CheckpointError, match=said):
        keep(run, "embedding", other, "a", overwrite=overwrite)
    assert files_in(folders["embedding"]) == ["a.safetensors"]
    assert (folders["embedding"] / "a.safetensors").read_bytes() == before


def test_a_full_disk_is_named(run, vector, folders):
    """A limit on the size of files, as a quota is."""
    import resource
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, old[1]))
        with pytest.raises(CheckpointError, match="the disk is full"):
            keep(run, "embedding", vector, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert files_in(folders["embedding"]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_named_before_anything_runs(kind, folders):
    load = KINDS[kind][1]
    assert saved_names(kind) == [NOTHING_SAVED]
    said = load.validate_inputs(name=NOTHING_SAVED)
    assert (
        "Nothing is saved in" in said
        and str(folders[kind]) in said
        and load.fingerprint_inputs(name=NOTHING_SAVED) == "missing"
    )
    for name in ("gone.safetensors", "../a.safetensors", "/etc/passwd", "miniature"):
        said = load.validate_inputs(name=name)
        assert str(folders[kind]) in said and "Save it with" in said
    assert load.validate_inputs() is True, "a name that another node gives"


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_again(run, contents, folders, kind):
    _, one, other = contents[kind]
    keep(run, kind, one, "a")
    state = KINDS[kind][1].fingerprint_inputs
    before = state(name="a.safetensors")
    keep(run, kind, one, "a", overwrite=True)
    assert state(name="a.safetensors", model=None, references=()) == before
    keep(run, kind, other, "a", overwrite=True)
    assert state(name="a.safetensors") != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named_with_its_place(run, contents, folders, kind):
    for other in set(KINDS) - {kind}:
        keep(run, other, contents[other][1], "a")
        folders[kind].mkdir(exist_ok=True)
        (folders[other] / "a.safetensors").rename(folders[kind] / "theirs.safetensors")
        with pytest.raises(CheckpointError, match=f"belongs in models/any2pix/{other}"):
            run(KINDS[kind][1], name="theirs.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_or_foreign_file_is_one_clear_error(run, contents, folders, kind):
    keep(run, kind, contents[kind][1], "a")
    whole = (folders[kind] / "a.safetensors").read_bytes()
    header = (10**18).to_bytes(8, "little")
    for broken in (
        b"",
        whole[:5],
        whole[:100],
        whole[:-1],
        header + whole[8:],
        b"\xff" * 64,
        b"<html>",
        whole + b"more",
    ):
        (folders[kind] / "a.safetensors").write_bytes(broken)
        with pytest.raises(CheckpointError, match="a.safetensors"):
            run(KINDS[kind][1], name="a.safetensors")
    save_file({"any_weight": torch.zeros(3)}, folders[kind] / "a.safetensors")
    with pytest.raises(CheckpointError, match="it holds 'any_weight'"):
        run(KINDS[kind][1], name="a.safetensors")


def test_sizes_are_known_before_anything_is_read(run, contents, folders, monkeypatch):
    keep(run, "references", contents["references"][1], "a")
    monkeypatch.setattr(saved_files, "MOST_BYTES", 1000)
    monkeypatch.setattr(saved_files.WeightFile, "tensor", lambda *_: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match="more than a reference library may have"):
        run(LoadReferences, name="a.safetensors")


DAMAGES = {
    "references": [
        lambda r: r["references"].pop(),
        lambda r: r.update(references=[]),
        lambda r: r.update(references="none"),
        lambda r: r["references"].__setitem__(0, {"modality": "image"}),
        lambda r: r["references"][0].update(modality="film"),
        lambda r: r["references"][0].update(label=7),
        lambda r: r["references"].append(dict(r["references"][0])),
        lambda r: r.update(format=2),
        lambda r: r.update(format="new"),
        lambda r: r.update(kind="embedding"),
    ],
    "embedding": [
        lambda r: r.update(dims=63),
        lambda r: r.update(candidates=None),
        lambda r: r.update(candidates=[-1]),
        lambda r: r.update(candidates=["0"]),
        lambda r: r.update(origin="elsewhere"),
        lambda r: r.update(blank="yes"),
        lambda r: r.pop("kind"),
    ],
    "inversion": [
        lambda r: r.pop("steps"),
        lambda r: r.update(steps="4"),
        lambda r: r.update(steps=10**9),
        lambda r: r.update(scheduler=None),
        lambda r: r.update(settings=[1]),
        lambda r: r.update(settings={"cfg": "1"}),
        lambda r: r.update(model={"family": "SDXL"}),
        lambda r: r.update(latent_format=None),
        lambda r: r.update(latent_format={"name": "os", "scale_factor": 1.0}),
        lambda r: r.update(latent_format={"name": "LatentFormat", "scale_factor": "1"}),
        lambda r: r.update(latent_format={"name": "SD3", "scale_factor": 1.0}),
        lambda r: r.update(extras={"samples": 1}),
        lambda r: r.update(extras={"batch_index": {"a": 1}}),
    ],
}


@pytest.mark.parametrize(
    "kind, place", [(kind, place) for kind, damages in DAMAGES.items() for place in range(len(damages))]
)
def test_a_damaged_record_is_one_clear_error(run, contents, folders, kind, place):
    keep(run, kind, contents[kind][1], "a")
    rewrite(folders[kind] / "a.safetensors", DAMAGES[kind][place])
    with pytest.raises(CheckpointError, match="a.safetensors"):
        run(KINDS[kind][1], name="a.safetensors")


@pytest.mark.parametrize(
    "kind, key, value",
    [
        ("references", "any2pix_reference.0.image", torch.zeros(4, 4)),
        ("references", "any2pix_reference.0.embedding", torch.zeros(2, 64)),
        ("references", "any2pix_reference.0.embedding", torch.zeros(63)),
        ("references", "any2pix_reference.0.embedding", torch.full((64,), torch.nan)),
        ("embedding", "any2pix_embedding", torch.zeros(64, dtype=torch.int64)),
        ("inversion", "any2pix_inversion.clean", torch.zeros(1, 4, 2, 2)),
        ("inversion", "any2pix_inversion.sigmas", torch.tensor([1.0, 2.0, 0.0])),
        ("inversion", "any2pix_inversion.sigmas", torch.tensor([3.0, 1.0])),
        ("inversion", "any2pix_inversion.sigmas", torch.zeros(2, 2)),
    ],
)
def test_tensors_that_do_not_fit_are_one_clear_error(run, contents, folders, kind, key, value):
    keep(run, kind, contents[kind][1], "a")
    rewrite(folders[kind] / "a.safetensors", tensors=lambda tensors: tensors.update({key: value}))
    with pytest.raises(CheckpointError, match="a.safetensors"):
        run(KINDS[kind][1], name="a.safetensors")


def test_nothing_and_nan_are_not_saved(run, folders):
    with pytest.raises(ValueError, match="Connect some"):
        keep(run, "references", (), "a")
    broken = torch.ones(64).index_fill(0, torch.tensor([3]), torch.nan)
    with pytest.raises(ValueError, match="1 values that are NaN"):
        keep(run, "embedding", Embedding(broken), "a")
    with pytest.raises(ValueError, match="reference 1 holds 1 values"):
        keep(run, "references", (Reference(broken, "audio"),), "a")
    assert files_in(folders["references"].parent) == []


def test_the_writer_is_whole_or_not_at_all(tmp_path):
    """A stop in the middle of writing leaves nothing behind."""
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        write_saved(tmp_path, "a", "embedding", {"any2pix_embedding": torch.ones(3)}, {}, overwrite=True)
    assert files_in(tmp_path) == []
