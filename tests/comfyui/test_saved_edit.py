"""On the real server: what was saved gives the same edit another day, bit for bit, in another process too."""

import comfy_server
import numpy as np
import pytest
import workspace
from comfyui_client.client import Client, PromptRejected
from harness.edit_graph import edit_graph, node, only
from harness.graphs import with_inputs

INVERSION_NODES = {"Any2PixDDIMInvert", "VAEEncode", "Any2PixImageEmbedding", "Any2PixLoadImageBind", "Any2PixInstruct"}


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A ComfyUI folder that outlives its server."""
    return workspace.make_base(tmp_path_factory.mktemp("another_day"))


@pytest.fixture
def start(base_folder):
    """A function that starts a server on the folder and gives a client; a server before it is stopped."""
    running = []

    def stop():
        for thing in running:
            thing.close() if isinstance(thing, Client) else thing.__exit__()
        running.clear()

    def started() -> Client:
        stop()
        server = comfy_server.ComfyServer(base_folder, arguments=["--cpu", "--disable-api-nodes"])
        running.append(server.__enter__())
        client = Client(server.url)
        running.insert(0, client)
        return client

    yield started
    stop()


def keeping(graph: dict) -> dict:
    """The whole edit, its references, embedding and inversion saved under way."""
    return {
        **graph,
        "kept references": node("Any2PixSaveReferences", references=["heard", 0], name="day/one", overwrite=False),
        "kept embedding": node("Any2PixSaveEmbedding", embedding=["mixed", 0], name="day/one", overwrite=False),
        "kept inversion": node("Any2PixSaveInversion", latent=["inverted", 0], name="day/one", overwrite=False),
    }


def from_disk(graph: dict) -> dict:
    """The same edit from the three files: no picture, no sound, no ImageBind, no LLM, no prior, no inversion."""
    graph = {
        **graph,
        "mixed": node("Any2PixLoadEmbedding", name="day/one.safetensors"),
        "inverted": node("Any2PixLoadInversion", name="day/one.safetensors", model=["diffusion", 0]),
        "chain": node("Any2PixLoadReferences", name="day/one.safetensors"),
        "base": node("Any2PixPickReference", references=["chain", 0], mark="image1"),
    }
    graph["sampled"]["inputs"]["negative_embedding"] = ["base", 0]
    return only(graph, "saved")


def the_picture(client: Client, run) -> np.ndarray:
    (picture,) = client.pictures(run)
    return picture


def test_the_saved_edit_is_the_same_picture_in_another_process(start):
    client = start()
    graph = edit_graph(client.get("/object_info"))
    first = client.run(keeping(graph))
    painted = the_picture(client, first)
    shown = first.outputs["kept inversion"]["text"][0]
    assert "scheduler normal" in shown and "saved: day/one.safetensors" in shown

    client = start()
    again = client.run(from_disk(graph))
    np.testing.assert_array_equal(the_picture(client, again), painted)
    assert not INVERSION_NODES & again.classes(again.executed)
    told = again.outputs["inverted"]["text"][0]
    assert "made with SDXL" in told and "iterations 10" in told

    other = client.run(with_inputs(from_disk(graph), "noise", alpha=0.3))
    assert np.abs(the_picture(client, other) - painted).max() > 0.02, "a knob still turns"


def test_nothing_is_saved_twice_and_a_changed_file_runs_again(start, base_folder):
    client = start()
    graph = only(keeping(edit_graph(client.get("/object_info"))), "kept references")
    graph["kept references"]["inputs"]["name"] = "twice"
    folder = base_folder / "models" / "any2pix" / "references"
    client.run(graph)
    client.free()
    client.run(graph)
    assert [file.name for file in folder.iterdir() if file.is_file()] == ["twice.safetensors"]

    offered = client.get("/object_info/Any2PixLoadReferences")["Any2PixLoadReferences"]["input"]["required"]["name"]
    assert "twice.safetensors" in (offered[0] if isinstance(offered[0], list) else offered[1]["options"])

    load = {
        "chain": node("Any2PixLoadReferences", name="twice.safetensors"),
        "shown": node("PreviewAny", source=["chain", 0]),
    }
    client.run(load)
    assert not client.run(load).executed, "an unchanged file is not read again"
    graph["kept references"]["inputs"].update(references=["seen", 0], overwrite=True)
    client.run(only(graph, "kept references"))
    assert "chain" in client.run(load).executed

    bad = with_inputs(load, "chain", name="gone.safetensors")
    with pytest.raises(PromptRejected) as caught:
        client.queue(bad)
    assert "gone.safetensors" in str(caught.value.answer["node_errors"]["chain"])
    with pytest.raises(PromptRejected) as caught:
        client.queue(with_inputs(graph, "kept references", name="../out"))
    assert "points outside the folder" in str(caught.value.answer["node_errors"]["kept references"])
