"""Every example workflow, on the server and on the page, as an artist would open it."""

import functools
import json
from collections import Counter

import numpy as np
import pytest
from cli_runner import api_format, run_cli
from harness.graphs import ROOT, differences, nodes_of, workflow_files
from PIL import Image

PLANNED = {
    "edit_with_sound",
    "edit_with_picture",
    "edit_with_three_references",
    "style_from_picture",
    "sound_to_picture",
    "edit_with_stock_sampler",
    "masked_edit",
}
# What the judge must see in the result. What the instruction does not touch is named too: it has to stay.
EXPECTED = {
    "edit_with_sound": {"background": "meadow", "subject": "cat", "weather": "sunny", "style": "flat"},
    "edit_with_picture": {"background": "meadow", "subject": "robot", "weather": "sunny", "style": "flat"},
    "edit_with_three_references": {"background": "meadow", "subject": "frog", "weather": "snow", "style": "flat"},
    "style_from_picture": {"background": "beach", "subject": "car", "weather": "sunny", "style": "ink"},
    "sound_to_picture": {"subject": "frog"},
    "edit_with_stock_sampler": {"background": "meadow", "subject": "cat", "weather": "sunny", "style": "flat"},
}
SEEN = 0.02  # mean change of a channel, 1 is white against black, from which on a picture is another one
BYPASSED, ACTIVE = 4, 0
ADDITIONS = {"LoraLoaderModelOnly", "ControlNetLoader", "Canny", "ControlNetApplyAdvanced"}

workflows = pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
pytestmark = pytest.mark.usefixtures("made_for_stock_nodes")


def input_picture(name: str) -> np.ndarray:
    picture = Image.open(ROOT / "workflows" / "inputs" / name).convert("RGB")
    return np.asarray(picture, dtype=np.float32) / 255


@pytest.fixture(scope="module")
def graphs(server):
    """Path of a workflow -> the graph that the server is asked to run."""
    return functools.cache(lambda path: api_format(server, path))


def test_the_planned_workflows_are_there():
    assert {path.stem for path in workflow_files()} == PLANNED


@workflows
def test_it_runs_as_it_opens_and_the_result_is_what_was_asked_for(client, graphs, judge, path):
    graph = graphs(path)
    pictures = client.pictures(client.run(graph))
    assert pictures
    sources = [input_picture(graph[node]["inputs"]["image"]) for node in nodes_of(graph, "LoadImage")]
    for picture in pictures:
        assert picture.std() > SEEN, "the picture is blank"
        assert all(np.abs(picture - source).mean() > SEEN for source in sources), "nothing was edited"
    for attribute, expected in EXPECTED.get(path.stem, {}).items():
        seen = Counter(judge(picture)[attribute] for picture in pictures)
        assert seen.most_common(1)[0][0] == expected, f"{attribute}: {dict(seen)}"


def test_the_masked_edit_leaves_the_rest_alone(client, graphs):
    path = ROOT / "workflows" / "masked_edit.json"
    graph = graphs(path)
    (picture,) = client.pictures(client.run(graph))
    masked = Image.open(ROOT / "workflows" / "inputs" / graph[nodes_of(graph, "LoadImage")[0]]["inputs"]["image"])
    source, painted = input_picture(masked.filename.rsplit("/")[-1]), np.asarray(masked)[..., 3] < 128
    change = np.abs(picture - source).mean(axis=-1)
    assert change[painted].mean() > 2 * change[~painted].mean()
    assert change[~painted].mean() < 2 * SEEN


def test_a_lora_and_a_controlnet_change_the_picture(client, server, graphs, tmp_path):
    path = ROOT / "workflows" / "edit_with_stock_sampler.json"
    (plain,) = client.pictures(client.run(graphs(path)))
    workflow = json.loads(path.read_text())
    for switched_on in ({"LoraLoaderModelOnly"}, ADDITIONS - {"LoraLoaderModelOnly"}):
        for node in workflow["nodes"]:
            if node["type"] in ADDITIONS:
                node["mode"] = ACTIVE if node["type"] in switched_on else BYPASSED
        file = tmp_path / "switched.json"
        file.write_text(json.dumps(workflow))
        graph = api_format(server, file)
        assert switched_on <= {body["class_type"] for body in graph.values()}
        (picture,) = client.pictures(client.run(graph))
        assert np.abs(picture - plain).max() > 3 / 255, f"{switched_on} had no effect"


@workflows
def test_comfy_cli_runs_it(server, path):
    envelope = run_cli(server, "--workflow", path, "--wait")[-1]
    assert envelope["ok"] and envelope["data"]["outputs"]


@workflows
def test_the_page_opens_it_whole_and_runs_the_same_graph(front_end, client, graphs, screenshots, path):
    front_end.load(json.loads(path.read_text()), path.stem)
    assert front_end.inspect() == {"missing": [], "unknown": []}
    assert not differences(front_end.prompt(), graphs(path))
    prompt_id = front_end.run()
    assert client.get(f"/history/{prompt_id}")[prompt_id]["status"]["status_str"] == "success"
    front_end.screenshot(screenshots / f"{path.stem}.png")
    assert not front_end.shown_errors()


@workflows
def test_it_is_laid_out_to_be_read(path):
    workflow = json.loads(path.read_text())
    notes = [node for node in workflow["nodes"] if node["type"] in ("Note", "MarkdownNote")]
    assert notes and all(note["widgets_values"][0].strip() for note in notes)
    assert len(workflow["groups"]) >= 3
    assert path.with_suffix(".jpg").is_file(), "it needs a thumbnail of its name"
