"""The whole edit on a card with hardly any memory, after running out of memory, and fifty times over."""

import shutil
import time
from pathlib import Path

import comfy_server
import numpy as np
import psutil
import pytest
import workspace
from comfyui_client.client import Client
from harness import edit_graph as graphs
from harness.graphs import with_inputs

MEGABYTE = 2**20
NETWORKS = {"ImageBind", "MultimodalLLM", "RefinementPrior", "UnclipProjector", "SDXL", "FirstStage"}
STARVED = 0.2  # megabytes of weights: less than the smallest network has
CROWDED = 9.0  # room for each of the miniature's networks but the UNet, not for two
EDITS, WARM_UP = 50, 10
GROWTH = 16  # megabytes in 40 edits; measured none, within 8 up and down


@pytest.fixture(scope="module")
def small_card(tmp_path_factory):
    """A server whose card the tests make small."""
    base = workspace.make_base(tmp_path_factory.mktemp("small_card"))
    shutil.copy(Path(graphs.__file__).with_name("small_card.py"), base / "custom_nodes")
    with comfy_server.ComfyServer(base, arguments=["--cpu", "--disable-api-nodes"]) as running:
        yield running


def on_card(client) -> list[dict]:
    """What lies on the card: name, bytes loaded, bytes in all."""
    return client.get("/small_card")["models"]


def empty(client) -> None:
    """/free until the server's worker has acted on it: it overlooks a request that comes while it collects garbage."""
    deadline = time.monotonic() + 60
    client.free()
    while on_card(client) and time.monotonic() < deadline:
        client.free()
    assert on_card(client) == []


@pytest.fixture
def card_client(small_card):
    client = Client(small_card.url)
    yield client
    client.post("/small_card", {})
    empty(client)
    client.close()


@pytest.fixture
def edit(small_card):
    return graphs.edit_graph(small_card.get("/object_info"))


@pytest.fixture
def brief(edit):
    """The edit, every network of it, in few steps."""
    return graphs.in_few_steps(edit)


@pytest.fixture(scope="module")
def roomy(small_card):
    """The brief edit's picture where everything fits."""
    client = Client(small_card.url)
    run = client.run(graphs.in_few_steps(graphs.edit_graph(small_card.get("/object_info"))))
    loads = client.get("/small_card")["loads"]
    empty(client)
    client.close()
    assert all(model["loaded"] == model["size"] for models in loads for model in models)
    (picture,) = client.pictures(run)
    return picture


@pytest.mark.parametrize("megabytes", [STARVED, CROWDED])
def test_a_card_that_holds_hardly_anything_gives_the_same_picture(card_client, brief, roomy, megabytes):
    card_client.post("/small_card", {"megabytes": megabytes})
    (picture,) = card_client.pictures(card_client.run(brief))
    np.testing.assert_array_equal(picture, roomy)
    loads = card_client.get("/small_card")["loads"]
    assert {model["name"] for models in loads for model in models} == NETWORKS
    assert max(sum(model["loaded"] for model in models) for models in loads) <= megabytes * MEGABYTE
    partly = {model["name"] for models in loads for model in models if model["loaded"] < model["size"]}
    assert partly == NETWORKS if megabytes == STARVED else "SDXL" in partly


# a layer of each stage, and the node that runs it
LAYERS = {
    "Trunk": "Any2PixImageEmbedding",
    "LlamaModel": "Any2PixInstruct",
    "GPT2Model": "Any2PixRefine",
    "UNetModel": "Any2PixDDIMInvert",
}


@pytest.mark.parametrize("layer, node", LAYERS.items())
def test_running_out_of_memory_ends_as_comfyui_ends_it_and_the_next_run_works(
    small_card, card_client, brief, roomy, layer, node
):
    card_client.post("/small_card", {"fail_in": layer})
    run = card_client.wait(card_client.queue(brief))
    assert run.error["node_type"] == node
    assert "you ran out of memory on your GPU" in run.error["exception_message"]
    assert on_card(card_client) == [], "everything is unloaded"
    (picture,) = card_client.pictures(card_client.run(brief))
    np.testing.assert_array_equal(picture, roomy)


def test_fifty_edits_leave_the_memory_as_it_is(small_card, card_client, edit):
    """Every edit samples anew, every fifth asks the LLM anew, so the server's cache makes none of them a no-op."""
    for name in ("inverted", "sampled"):
        edit = with_inputs(edit, name, steps=2)
    resident, models = [], []
    for number in range(EDITS):
        changed = with_inputs(edit, "noise", alpha=round(0.3 + 0.01 * number, 2), seed=number)
        changed = with_inputs(changed, "instruct", seed=number // 5)
        run = card_client.run(with_inputs(changed, "sampled", seed=number))
        assert "Any2PixSampler" in run.classes(run.executed)
        resident.append(psutil.Process(small_card.process.pid).memory_info().rss / MEGABYTE)
        models.append(sorted(model["name"] for model in on_card(card_client)))
    assert models[WARM_UP:] == models[WARM_UP : WARM_UP + 1] * (EDITS - WARM_UP)
    assert len(models[-1]) == len(set(models[-1])), "one of each"
    assert max(resident[-5:]) - max(resident[:WARM_UP]) < GROWTH, f"MB after each edit: {resident}"
    assert "memory leak" not in small_card.log.read_text(errors="replace")


def test_free_empties_the_card(card_client, brief):
    card_client.run(brief)
    assert on_card(card_client)
    empty(card_client)
