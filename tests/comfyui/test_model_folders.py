"""Where weights are found: an artist's extra_model_paths.yaml, nested folders, links, files that arrive while ComfyUI
runs."""

import os
import shutil
import socket
from pathlib import Path

import comfy_server
import pytest
import workspace
from any2pix.miniature import manifest
from comfyui_client.client import Client, PromptRejected
from harness.edit_graph import NODE_IDS, node

LOADERS = {
    "imagebind": "Any2PixLoadImageBind",
    "llm": "Any2PixLoadLLM",
    "prior": "Any2PixLoadPrior",
    "adapter": "Any2PixLoadAdapter",
    "unet": "Any2PixLoadDiffusion",
    "pix2pix": "Any2PixLoadInstructPix2Pix",
}
# As in the example that ComfyUI brings: one base_path, folders below it, several of a kind on lines of their own.
CONFIG = """my_weights:
    base_path: {base}
    any2pix_imagebind: imagebind
    any2pix_llm: |
        language
        more/language
    any2pix_prior: prior
    any2pix_adapter: adapter
    any2pix_unet: unet
    any2pix_pix2pix: |
        pix2pix
        gone/with/the/old/disk
        a_file
"""
# What lies in a model folder besides models, and what choosing it says; every one of them stood in the way of a
# server's start.
ODD_FILES = {
    "dead.safetensors": "is a link to",
    "loop.safetensors": "leads back to itself",
    "pipe.safetensors": "is a named pipe",
    "socket.safetensors": "is a socket",
    "device.safetensors": "is a device",
    "two\nlines.safetensors": "is empty",
    "no\udcffletters.safetensors": "is empty",
}
ODD_FOLDERS = {
    "dead-config": "is a link to",
    "looped-config": "leads back to itself",
    "pipe-config": "is a named pipe",
    "huge-config": "at most",
    "model.safetensors": "holds no weights",
}
FOLDERS = {kind: "language" if kind == "llm" else kind for kind in LOADERS}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The artist's own folder, with the miniature's files in it under other names, one level deep."""
    base = tmp_path_factory.mktemp("elsewhere")
    for kind, folder in FOLDERS.items():
        place = base / folder / "sets" / f"my_{kind}.safetensors"
        place.parent.mkdir(parents=True)
        shutil.copy(manifest.FOLDER / manifest.OFFERED[kind], place)
    published = base / "more" / "language" / "a" / "b" / "llm-retrained"
    published.mkdir(parents=True)
    (published / "config.json").write_text('{"model_type": "instructany2pix", "hidden_size": 4096}')
    (published / "pytorch_model-00001-of-00002.bin").write_bytes(b"")
    make_odd_files(base / "imagebind")
    make_odd_folders(base / "language")
    (base / "a_file").write_text("a file in the place of a folder")
    return base


def make_odd_files(folder: Path) -> None:
    (folder / "dead.safetensors").symlink_to(folder / "unplugged" / "disk.safetensors")
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "socket.safetensors"))
    (folder / "device.safetensors").symlink_to("/dev/zero")
    for name in ("two\nlines.safetensors", "no\udcffletters.safetensors"):
        (folder / name).write_bytes(b"")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "once_more").symlink_to(folder, target_is_directory=True)


def make_odd_folders(folder: Path) -> None:
    for name in ODD_FOLDERS:
        (folder / name).mkdir()
    (folder / "dead-config" / "config.json").symlink_to("gone.json")
    (folder / "looped-config" / "config.json").symlink_to("config.json")
    os.mkfifo(folder / "pipe-config" / "config.json")
    with open(folder / "huge-config" / "config.json", "wb") as file:
        file.truncate(2 * 2**30)  # takes no room on the disk
    (folder / "model.safetensors" / "config.json").write_text('{"hidden_size": 4096}')


@pytest.fixture(scope="module")
def found(tmp_path_factory, elsewhere):
    """A server that was started with the artist's extra_model_paths.yaml."""
    base = workspace.make_base(tmp_path_factory.mktemp("folders"))
    config = base / "extra_model_paths.yaml"
    config.write_text(CONFIG.format(base=elsewhere))
    words = ["--cpu", "--disable-api-nodes", "--extra-model-paths-config", config]
    with comfy_server.ComfyServer(base, arguments=words) as running:
        yield running


@pytest.fixture
def found_client(found):
    client = Client(found.url)
    yield client
    client.close()


def offered(server, kind: str) -> list[str]:
    """What the loader's widget offers after the page's refresh."""
    kind_of_widget, options = server.get(f"/object_info/{LOADERS[kind]}")[LOADERS[kind]]["input"]["required"]["name"]
    return kind_of_widget if isinstance(kind_of_widget, list) else options["options"]


def load(name: str) -> dict:
    """A graph that loads an ImageBind and uses it."""
    return {
        "loader": node("Any2PixLoadImageBind", name=name),
        "used": node("Any2PixTextEmbedding", imagebind=["loader", 0], text="a cat"),
        "shown": node("PreviewAny", source=["used", 0]),
    }


@pytest.mark.parametrize("kind", LOADERS)
def test_every_kind_is_offered_from_the_artists_own_folder(found, kind):
    names = offered(found, kind)
    assert names[0] == "miniature" and f"sets/my_{kind}.safetensors" in names


def test_all_nodes_are_there_whatever_lies_in_the_folders(found):
    assert {name for name in found.get("/object_info") if name.startswith("Any2Pix")} == NODE_IDS


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [*(("imagebind", *item) for item in ODD_FILES.items()), *(("llm", *item) for item in ODD_FOLDERS.items())],
)
def test_an_odd_entry_is_offered_and_choosing_it_says_what_it_is(found, found_client, kind, name, said):
    assert name in offered(found, kind)
    graph = {"loader": node(LOADERS[kind], name=name), "shown": node("PreviewAny", source=["loader", 0])}
    try:
        run = found_client.wait(found_client.queue(graph), timeout=30)
        assert run.error["node_id"] == "loader"
        told = run.error["exception_message"]
    except PromptRejected as caught:
        (error,) = caught.answer["node_errors"]["loader"]["errors"]
        told = error["details"]
    assert said in told
    assert name.encode("ascii", "backslashreplace").decode().replace("\n", "\\n") in told


def test_a_folder_that_contains_itself_is_offered_once(found):
    names = offered(found, "imagebind")
    assert "sets/my_imagebind.safetensors" in names
    assert not any(name.startswith(("again", "once_more")) for name in names)


def test_a_language_model_is_offered_by_its_folder_however_deep(found):
    names = offered(found, "llm")
    assert "a/b/llm-retrained" in names
    assert not any(name.endswith(".bin") for name in names)


def test_a_file_from_there_runs_and_the_node_says_which_it_is(found_client):
    run = found_client.run(load("sets/my_imagebind.safetensors"))
    assert "sets/my_imagebind.safetensors" in run.outputs["loader"]["text"][0]


def test_a_workflow_saved_on_windows_finds_the_same_file(found_client):
    run = found_client.run(load("sets\\my_imagebind.safetensors"))
    assert "sets/my_imagebind.safetensors" in run.outputs["loader"]["text"][0]


def test_a_file_that_arrives_later_is_offered_after_a_refresh(found, found_client, elsewhere):
    assert "new/late.safetensors" not in offered(found, "imagebind")
    (elsewhere / "imagebind" / "new").mkdir()
    shutil.copy(manifest.FOLDER / manifest.IMAGEBIND, elsewhere / "imagebind" / "new" / "late.safetensors")
    assert "new/late.safetensors" in offered(found, "imagebind")
    found_client.run(load("new/late.safetensors"))


def test_of_two_files_of_one_name_the_artists_own_folder_wins(found, found_client, elsewhere):
    ours = found.base / "models" / "any2pix" / "imagebind" / "same.safetensors"
    ours.parent.mkdir(parents=True, exist_ok=True)
    ours.write_bytes(b"damaged")
    shutil.copy(manifest.FOLDER / manifest.IMAGEBIND, elsewhere / "imagebind" / "same.safetensors")
    assert offered(found, "imagebind").count("same.safetensors") == 1
    found_client.run(load("same.safetensors"))


def test_a_missing_file_is_told_with_every_folder_that_was_searched(found, found_client, elsewhere):
    with pytest.raises(PromptRejected) as caught:
        found_client.queue(load("gone.safetensors"))
    (error,) = caught.value.answer["node_errors"]["loader"]["errors"]
    told = error["details"]
    for word in (
        "gone.safetensors",
        str(elsewhere / "imagebind"),
        str(found.base / "models" / "any2pix" / "imagebind"),
    ):
        assert word in told
    assert "facebookresearch/ImageBind" in told and "choose the miniature" in told


@pytest.mark.parametrize("name", ["../prior/sets/my_prior.safetensors", "/etc/hostname", "C:\\secret.safetensors"])
def test_a_name_that_leads_out_of_the_folders_is_not_opened(found_client, name):
    with pytest.raises(PromptRejected) as caught:
        found_client.queue(load(name))
    assert "is not in" in caught.value.answer["node_errors"]["loader"]["errors"][0]["details"]


def test_linked_folders_are_followed(found, elsewhere, tmp_path):
    target = tmp_path / "on_another_disk" / "llm-linked"
    target.mkdir(parents=True)
    (target / "config.json").write_text('{"hidden_size": 4096}')
    link = Path(elsewhere, "language", "disk")
    link.symlink_to(target.parent, target_is_directory=True)
    try:
        assert "disk/llm-linked" in offered(found, "llm")
    finally:
        link.unlink()
