"""Model folders of every kind of disorder: listed without a stop, within bounds, and named where they cannot be
read."""

import logging
import os
import shutil
import time
from pathlib import Path

import pytest
from any2pix.loading.kinds import KINDS
from any2pix.nodes.host import example_inputs, folders, listing

pytestmark = pytest.mark.one_host

ENDINGS = {".safetensors", ".bin"}
MARK = '"hidden_size"'


@pytest.fixture(autouse=True)
def forgotten():
    """No list of another test is kept, and everything is told anew."""
    listing._listings.clear()
    listing._told.clear()


@pytest.fixture
def place(tmp_path):
    """A function that makes a file below a model folder; the folder."""

    def put(name: str, content: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return put


def age(root: Path) -> None:
    """Everything below ``root`` was changed an hour ago, so that a list of it may be kept."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (time.time() - 3600,) * 2, follow_symlinks=False)


def names(root: Path, mark: str | None = None) -> tuple[list[str], list[str]]:
    found = listing.list_folder(str(root), ENDINGS, mark)
    return found.files, found.folders


@pytest.fixture
def scans(monkeypatch):
    """The folders that were read."""
    seen, real = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(str(path)) or real(path))
    return seen


def test_files_and_folders_as_comfyui_lists_them(place, tmp_path):
    for name in ("b.safetensors", "sub/deeper/A.BIN", "notes.txt", ".git/x.safetensors"):
        place(name)
    place("llm/config.json", '{"hidden_size": 3}')
    place("llm/model-1.safetensors")
    place("other/config.json", "{}")
    place("other/y.bin")
    assert names(tmp_path, MARK) == (["b.safetensors", "other/y.bin", "sub/deeper/A.BIN"], ["llm"])
    assert "llm/model-1.safetensors" in names(tmp_path)[0]


def test_an_unchanged_folder_is_not_read_again_and_a_changed_one_is(place, tmp_path, scans):
    place("sub/a.bin")
    place("llm/config.json", "{}")
    age(tmp_path)
    scans.clear()
    assert names(tmp_path, MARK) == (["sub/a.bin"], []) and len(scans) == 3
    assert names(tmp_path, MARK) == (["sub/a.bin"], []) and len(scans) == 3
    place("sub/b.bin")
    assert names(tmp_path, MARK)[0] == ["sub/a.bin", "sub/b.bin"]
    age(tmp_path)
    names(tmp_path, MARK)
    (tmp_path / "llm" / "config.json").write_text('{"hidden_size": 3}')
    assert names(tmp_path, MARK)[1] == ["llm"]
    shutil.rmtree(tmp_path / "sub")
    assert names(tmp_path, MARK)[0] == []


def test_a_folder_that_changed_just_now_is_read_again(place, tmp_path):
    place("a.bin")
    stamp = os.stat(tmp_path).st_mtime_ns
    assert names(tmp_path)[0] == ["a.bin"]
    place("b.bin")
    os.utime(tmp_path, ns=(stamp, stamp))  # in the same tick of the clock
    assert names(tmp_path)[0] == ["a.bin", "b.bin"]


def test_a_slow_folder_is_named_and_not_asked_each_time(place, tmp_path, monkeypatch, scans, caplog):
    place("a.bin")
    monkeypatch.setattr(listing, "SLOW", -1.0)  # whatever it took was slow
    monkeypatch.setattr(listing, "KEPT", float("inf"))  # times any time, however short, the longest is kept
    assert names(tmp_path)[0] == ["a.bin"]
    place("b.bin")
    assert names(tmp_path)[0] == ["a.bin"] and len(scans) == 1
    assert f"{tmp_path} answers slowly" in caplog.text and "up to 60 s late" in caplog.text
    listing._listings[next(iter(listing._listings))].trusted_until = 0.0  # the minute is over
    assert names(tmp_path)[0] == ["a.bin", "b.bin"]


def test_a_folder_that_takes_too_long_is_left_with_what_was_found(place, tmp_path, monkeypatch, caplog):
    for index in range(5):
        place(f"sub{index}/a.bin")
    place("near.bin")
    monkeypatch.setattr(listing, "MOST_ENTRIES", 7)
    found = names(tmp_path)[0]
    assert found == ["near.bin", "sub0/a.bin"]
    assert f"{tmp_path} has more than 7 entries, or is too slow" in caplog.text
    monkeypatch.setattr(listing, "MOST_ENTRIES", 50)
    monkeypatch.setattr(listing, "MOST_SECONDS", -1.0)
    listing._listings.clear()
    assert names(tmp_path)[0] == []


def test_folders_that_contain_themselves_or_each_other(place, tmp_path):
    place("a.bin")
    for name in "xyzuvw":
        (tmp_path / name).mkdir()
    for name in "xyzuvw":
        for other in "xyzuvw":
            (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other, target_is_directory=True)
        (tmp_path / name / "up").symlink_to(tmp_path, target_is_directory=True)
    began = time.monotonic()
    assert names(tmp_path)[0] == ["a.bin"]
    assert time.monotonic() - began < 10


def test_endless_depth(tmp_path, place, caplog):
    place("/".join(["d"] * (listing.DEEPEST + 5)) + "/far.bin")
    place("near.bin")
    assert names(tmp_path)[0] == ["near.bin"]
    assert "folders deep" in caplog.text


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_folder_that_cannot_be_read(error, place, tmp_path, monkeypatch, caplog):
    place("closed/a.bin")
    place("open/b.bin")
    real = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise error
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names(tmp_path)[0] == ["open/b.bin"]
    assert names(tmp_path)[0] == ["open/b.bin"]
    assert caplog.text.count(f"closed cannot be read ({error.strerror})") == 1


def test_a_folder_that_vanishes_while_it_is_read(place, tmp_path, monkeypatch):
    place("a/x.bin")
    place("b/y.bin")
    real = os.scandir

    def vanish(path):
        if str(path) == str(tmp_path):
            found = real(path)
            shutil.rmtree(tmp_path / "a")
            return found
        return real(path)

    monkeypatch.setattr(os, "scandir", vanish)
    assert names(tmp_path)[0] == ["b/y.bin"]


@pytest.mark.parametrize("root", ["gone", "a_file", "a_file/below", "x\0y", "n" * 300])
def test_a_root_that_is_no_folder(root, place, tmp_path):
    place("a_file")
    assert names(tmp_path / root, MARK) == ([], [])


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.symlink_to("gone"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.write_bytes(bytes(listing.CONFIG_LIMIT + 1)),
    ],
)
def test_a_config_that_cannot_be_read_has_its_folder_offered_and_is_named(make, place, tmp_path, caplog):
    place("llm/model.bin")
    make(tmp_path / "llm" / "config.json")
    assert names(tmp_path, MARK) == (["llm/model.bin"], ["llm"])
    assert "config.json (in " in caplog.text


# --- the loaders' names
# -------------------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path, monkeypatch):
    """ComfyUI's model folder is an empty one, and none of our kinds is known yet."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    known = {key: value for key, value in folder_paths.folder_names_and_paths.items() if not key.startswith("any2pix")}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    return tmp_path / "models"


def test_the_folders_are_made(models):
    folders.register_folders()
    for kind in folders.LOADED_KINDS + folders.SAVED_KINDS:
        assert (models / KINDS[kind].folder).is_dir()
    assert all(folders.list_names(kind) == ["miniature"] for kind in folders.LOADED_KINDS)


@pytest.mark.parametrize(
    "error",
    [OSError(30, "Read-only file system"), FileExistsError(17, "File exists"), OSError(28, "No space left on device")],
)
def test_a_model_folder_that_may_not_be_written_to_is_read(error, models, monkeypatch, caplog):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(os, "makedirs", refuse)
    folders.register_folders()
    assert folders.list_names("llm") == ["miniature"]
    assert error.strerror in caplog.text and str(models) in caplog.text


def test_comfyuis_own_list_may_fail(models, monkeypatch):
    import folder_paths

    def fail(_):
        raise FileNotFoundError("a folder of its cache is gone")

    folders.register_folders()
    monkeypatch.setattr(folder_paths, "get_filename_list", fail)
    assert folders.list_names("prior") == ["miniature"]


OUTSIDE = [
    "../secret.safetensors", "sub/../../secret.safetensors", "..\\secret.safetensors",
    "sub\\..\\..\\secret.safetensors", "/etc/passwd",
    "\\etc\\passwd", "C:\\secret.safetensors", "C:secret.safetensors", "//host/share/x.safetensors",
    "\\\\?\\C:\\x.safetensors",
    "..", ".", "", "a\0b", "n" * 5000, "/".join(["n"] * 3000), None, 5, ["x"], {"a": 1}, True, 1.5,
]  # fmt: skip


@pytest.mark.parametrize("kind", ["imagebind", "llm"])
@pytest.mark.parametrize("name", OUTSIDE, ids=lambda name: repr(name)[:20])
def test_a_name_never_leads_out_of_the_folders(kind, name, models):
    folders.register_folders()
    (models / "any2pix" / "secret.safetensors").write_bytes(b"x")
    (models / "any2pix" / kind / "sub").mkdir()
    told = folders.check_name(kind, name)
    assert isinstance(told, str) and "is not in" in told and len(told) < 5000


def test_a_good_file_in_a_later_folder_is_taken_where_an_earlier_one_has_a_dead_link(models, tmp_path):
    import folder_paths

    folders.register_folders()
    folder_paths.add_model_folder_path("any2pix_prior", str(tmp_path / "other"))
    (models / "any2pix" / "prior" / "a.bin").symlink_to("gone.bin")
    assert "'a.bin' in " in folders.check_name("prior", "a.bin") and "gone.bin" in folders.check_name("prior", "a.bin")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.bin").write_bytes(b"x")
    assert folders.find_weights("prior", "a.bin") == tmp_path / "other" / "a.bin"


@pytest.mark.parametrize(
    "error",
    [PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), OSError(116, "Stale file handle")],
)
def test_a_file_that_cannot_be_reached_is_named(error, models, monkeypatch):
    folders.register_folders()
    path, real = models / "any2pix" / "prior" / "a.bin", os.stat

    def refuse(given, **options):
        if str(given) == str(path):
            raise error
        return real(given, **options)

    monkeypatch.setattr(os, "stat", refuse)
    told = folders.check_name("prior", "a.bin")
    assert "'a.bin' in " in told and ("cannot be read" in told or error.strerror in told)


# --- the example inputs
# ------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path / "input"))
    return tmp_path / "input"


def test_what_is_missing_is_copied_and_nothing_is_overwritten(inputs):
    inputs.mkdir()
    first, second, *_ = sorted(path.name for path in example_inputs.EXAMPLES.iterdir())
    (inputs / first).write_text("mine")
    (inputs / second).symlink_to("gone.png")
    copied = example_inputs.copy_example_inputs()
    assert first not in copied and (inputs / first).read_text() == "mine"
    assert second not in copied and (inputs / second).is_symlink()
    assert all((inputs / name).read_bytes() == (example_inputs.EXAMPLES / name).read_bytes() for name in copied)
    assert example_inputs.copy_example_inputs() == []


@pytest.mark.parametrize("where", ["replace", "fsync", "mkdir", "lexists"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(30, "Read-only file system"),
        OSError(5, "Input/output error"),
        ValueError("embedded null byte"),
    ],
)
def test_an_input_folder_that_takes_nothing_is_told(where, error, inputs, monkeypatch, caplog):
    def refuse(*_, **__):
        raise error

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(os.path if where == "lexists" else os, where, refuse)
    assert example_inputs.copy_example_inputs() == []
    assert "The example inputs could not be copied" in caplog.text
    monkeypatch.undo()
    assert not inputs.exists() or list(inputs.iterdir()) == []


def test_a_pack_without_its_examples_still_starts(inputs, monkeypatch, tmp_path):
    monkeypatch.setattr(example_inputs, "EXAMPLES", tmp_path / "gone")
    assert example_inputs.copy_example_inputs() == []
