"""The workflows for the published weights. The files cannot be had here, so they run with stand-ins for the loaders
alone; the page opens them as they are, and says what to download."""

import json
from pathlib import Path

import numpy as np
import pytest
from any2pix.loading.kinds import KINDS
from any2pix.stages.any2pix.options import RELEASED_NEGATIVE, RELEASED_PROMPT
from comfyui_client.client import Client
from comfyui_client.graphs import all_nodes, blueprint_files, nodes_of, the_node, workflow_files
from harness.graphs import with_inputs
from harness.published_graph import with_stand_ins
from workflow_data.published_files import OF_LOADERS, OF_STOCK_NODES, ModelFile
from workspace import ROOT

PLAIN, LCM, REFINED = "published_edit", "published_edit_lcm", "published_edit_refiner"
PUBLISHED = (PLAIN, LCM, REFINED)
REFINER_WORDS = ",high quality,well-formed,award-winning"  # of the released pipeline
CAPTION_OUTPUT = 2  # of Multimodal Instruction LLM
SEEN = 0.02  # mean change of a channel, 1 is white against black
ROUNDING = 2 / 255  # two pictures that went through a file each


@pytest.fixture(scope="module")
def run_published(server, example, made_for_stock_nodes, two_view_file):
    """(name of a workflow, changes: class type -> inputs) -> (its graph, its Run, {title: pictures})."""
    client = Client(server.url)

    def run(name: str, **changes):
        graph = with_stand_ins(example(name))
        for class_type, inputs in changes.items():
            graph = with_inputs(graph, the_node(graph, class_type), **inputs)
        done = client.run(graph)
        return graph, done, client.pictures(done)

    yield run
    client.close()


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def test_the_whole_edit_runs_and_hears_words_and_embedding(run_published):
    _, _, (picture,) = run_published(PLAIN)
    assert picture.shape == (128, 128, 3) and np.isfinite(picture).all()
    _, _, (without_adapter,) = run_published(PLAIN, Any2PixSampler={"scale": 0.0})
    assert distance(picture, without_adapter) > SEEN, "the adapter is not felt"
    _, _, (other_words,) = run_published(PLAIN, StringConcatenate={"string_a": "a blurred photograph"})
    assert distance(picture, other_words) > ROUNDING, "the words are not felt"


def test_the_prompt_is_the_released_one(run_published):
    graph, _, _ = run_published(PLAIN)
    joined, sampler = the_node(graph, "StringConcatenate"), graph[the_node(graph, "Any2PixSampler")]["inputs"]
    instruct = the_node(graph, "Any2PixInstruct")
    assert graph[joined]["inputs"] == {
        "string_a": RELEASED_PROMPT,
        "string_b": [instruct, CAPTION_OUTPUT],
        "delimiter": "",
    }
    positive, negative = (graph[sampler[side][0]]["inputs"]["text"] for side in ("positive", "negative"))
    assert (positive, negative) == ([joined, 0], RELEASED_NEGATIVE)


def test_lcm_needs_few_steps(run_published):
    graph, run, (picture,) = run_published(LCM)
    sampler = the_node(graph, "KSamplerAdvanced")
    assert steps_taken(run, sampler) == graph[sampler]["inputs"]["steps"] <= 8
    assert np.isfinite(picture).all() and picture.std() > SEEN, "an empty picture"
    _, _, (unpatched,) = run_published(LCM, LoraLoaderModelOnly={"strength_model": 0.0})
    assert distance(picture, unpatched) > ROUNDING, "the LoRA is not felt"


def test_the_refiner_goes_over_the_result(run_published):
    graph, run, (first, refined) = run_published(REFINED)
    _, _, (plain,) = run_published(PLAIN)
    np.testing.assert_array_equal(first, plain)
    sampler = the_node(graph, "KSampler")
    assert steps_taken(run, sampler) == graph[sampler]["inputs"]["steps"]
    assert distance(first, refined) > SEEN
    praised = next(
        node for node in nodes_of(graph, "StringConcatenate") if REFINER_WORDS in graph[node]["inputs"].values()
    )
    assert graph[praised]["inputs"]["string_a"] == [the_node(graph, "Any2PixInstruct"), CAPTION_OUTPUT]


def steps_taken(run, node: str) -> int:
    """The length that a node's progress bar had."""
    told = [data["max"] for _, kind, data in run.messages if kind == "progress" and data.get("node") == node]
    assert told, f"node {node} told no progress"
    return told[-1]


def files_of(workflow: dict) -> list[dict]:
    """Every entry of properties.models, once."""
    entries = [entry for node in all_nodes(workflow) for entry in node["properties"].get("models", [])]
    return [entry for place, entry in enumerate(entries) if entry not in entries[:place]]


def chosen(workflow: dict) -> list[dict]:
    """The entries whose name a widget has."""
    values = {
        value for node in all_nodes(workflow) for value in node.get("widgets_values") or [] if isinstance(value, str)
    }
    return [entry for entry in files_of(workflow) if entry["name"] in values]


@pytest.mark.parametrize("path", [*workflow_files(), *blueprint_files()], ids=lambda path: path.stem)
def test_every_loader_says_what_it_can_load(path):
    workflow = json.loads(path.read_text("utf-8"))
    for node in all_nodes(workflow):
        if node["type"] in OF_LOADERS:
            assert node["properties"]["models"] == [file.entry() for file in OF_LOADERS[node["type"]]]
    entries = files_of(workflow)
    assert len({entry["url"] for entry in entries}) == len(entries), "the page takes files of one address for one"
    assert all(entry["name"].endswith(".safetensors") for entry in entries)
    assert bool(chosen(workflow)) == (path.stem in PUBLISHED)


def test_the_folders_are_those_that_the_pack_registers(client):
    registered = {folder["name"] for folder in client.get("/experiment/models")}
    files = {file for files in OF_LOADERS.values() for file in files}
    assert {file.directory for file in (*files, *OF_STOCK_NODES)} <= registered


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_the_page_asks_for_the_files_that_are_missing_and_for_no_other(path, front_end, screenshots):
    workflow = json.loads(path.read_text("utf-8"))
    wanted = chosen(workflow)
    front_end.load(workflow, path.stem)
    if not wanted:
        assert not front_end.shown_errors()
        return
    text = front_end.missing_models()
    front_end.screenshot(screenshots / f"{path.stem}_missing.png")
    for entry in wanted:
        assert entry["name"] in text
    assert front_end.inspect() == {"missing": [], "unknown": not_offered(workflow, wanted)}


def not_offered(workflow: dict, wanted: list[dict]) -> list[str]:
    """As `inspect` tells of the widgets that hold the missing files."""
    widgets = {"CheckpointLoaderSimple": "ckpt_name", "LoraLoaderModelOnly": "lora_name"}
    names = {entry["name"] for entry in wanted}
    return [
        f"{node['type']}.{widgets.get(node['type'], 'name')} = {value}"
        for node in workflow["nodes"]
        for value in node.get("widgets_values") or []
        if value in names
    ]


@pytest.fixture
def downloaded(server):
    """The published files in their folders: empty ones, as the page looks at names only."""
    files = {file for files in OF_LOADERS.values() for file in files} | set(OF_STOCK_NODES)
    paths = [folder_of(file, server.base / "models") / file.name for file in files]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    yield
    for path in paths:
        path.unlink()


def folder_of(file: ModelFile, models: Path) -> Path:
    folders = {kind.folder.replace("/", "_"): kind.folder for kind in KINDS.values()}
    return models / folders.get(file.directory, file.directory)


@pytest.mark.parametrize("name", PUBLISHED)
def test_with_the_files_there_it_opens_in_peace(name, downloaded, front_end, screenshots):
    front_end.page.evaluate("() => app.refreshComboInNodes()")
    front_end.load(json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8")), name)
    front_end.page.wait_for_timeout(1000)  # a dialog would come late
    assert front_end.inspect() == {"missing": [], "unknown": []}
    assert not front_end.shown_errors()
    front_end.screenshot(screenshots / f"{name}.png")
