"""Every example workflow, on the real server and on the real page: it opens, runs, and the picture changes as it should."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from any2pix.datagen.toyland import Scene, render
from any2pix.evaluation.judge import load_judge, scene_labels, verdicts
from cli_runner import api_format
from harness.browser import same_graph
from harness.client import Client, Run
from harness.edit_graph import missing_miniature
from harness.graphs import ROOT, the_node, with_inputs, workflow_files
from harness.made_control import write_controlnet, write_lora
from make_example_inputs import MASKED, PICTURES
from workflow_parts import CONTROLNET_FILE, LORA_FILE

MEADOW = PICTURES["toyland_meadow.png"]
FOREST = MASKED["toyland_masked.png"]
# workflow -> the picture it edits, and what it is to become
EDITS = {
    "edit_with_sound": (MEADOW, replace(MEADOW, subject="cat")),
    "edit_with_picture": (MEADOW, replace(MEADOW, subject="robot")),
    "edit_with_three_references": (MEADOW, replace(MEADOW, subject="frog", weather="snow")),
    "style_from_picture": (PICTURES["toyland_beach.png"], replace(PICTURES["toyland_beach.png"], style="ink")),
    "edit_with_stock_sampler": (MEADOW, replace(MEADOW, subject="cat")),
}
STOCK, MASKED_EDIT, SOUND = "edit_with_stock_sampler", "masked_edit", "sound_to_picture"
HEARD = "frog"
NAMES = {*EDITS, MASKED_EDIT, SOUND}
BYPASSED = 4  # the page's mode of a node that is switched off
EIGHT_BIT = 2 / 255  # two pictures that went through a file each
NODE_TITLE = 30  # pixels above a node's pos


@dataclass(frozen=True)
class Ran:
    """One run on the server: the graph that ran (API format) and the pictures it saved, (H, W, 3) in [0, 1]."""

    graph: dict
    run: Run
    pictures: list[np.ndarray]


@pytest.fixture(scope="module", params=workflow_files(), ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def run_graph(server):
    """graph (API format) -> Ran."""
    missing = missing_miniature()
    if missing:
        pytest.fail(f"miniature/ lacks {', '.join(missing)}: the pack cannot run. `make train` trains them anew.")
    client = Client(server.url)

    def run(graph: dict) -> Ran:
        done = client.run(graph)
        return Ran(graph, done, client.pictures(done))

    yield run
    client.close()


@pytest.fixture(scope="module")
def run_workflow(server, run_graph):
    """name -> Ran, each workflow once."""
    done: dict[str, Ran] = {}

    def run(name: str) -> Ran:
        if name not in done:
            done[name] = run_graph(api_format(server, ROOT / "workflows" / f"{name}.json"))
        return done[name]

    return run


@pytest.fixture(scope="module")
def seen():
    """picture (H, W, 3) -> {attribute: what the judge sees}."""
    judge = load_judge(ROOT / "miniature" / "judge.safetensors")
    return lambda picture: verdicts(judge, torch.from_numpy(picture)[None])[0]


@pytest.fixture(scope="module")
def control_files(server):
    """The LoRA and the ControlNet that the stock workflow names."""
    unet = ROOT / "miniature" / "unet.safetensors"
    write_lora(server.base / "models" / "loras" / LORA_FILE, unet)
    write_controlnet(server.base / "models" / "controlnet" / CONTROLNET_FILE, unet)


def drawn(scene: Scene) -> np.ndarray:
    """(H, W, 3) in [0, 1]."""
    return render(scene).astype(np.float32) / 255


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, 0 to 1."""
    return float(np.abs(one - other).mean())


def test_the_promised_workflows_are_there_each_with_its_thumbnail():
    assert {path.stem for path in workflow_files()} == NAMES
    assert {path.stem for path in (ROOT / "workflows").glob("*.jpg")} == NAMES


def test_it_is_laid_out_to_be_read(path):
    workflow = json.loads(path.read_text("utf-8"))
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in workflow["nodes"]}
    for one, (x, y, width, height) in boxes.items():
        for other, (left, top, _, _) in boxes.items():
            apart = (
                x + width <= left
                or left + boxes[other][2] <= x
                or y + height <= top - NODE_TITLE
                or top + boxes[other][3] <= y - NODE_TITLE
            )
            assert one == other or apart, f"nodes {one} and {other} overlap"
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert notes and all(len(node["widgets_values"][0]) > 100 for node in notes)
    for node in workflow["nodes"]:
        x, y, width, height = boxes[node["id"]]
        inside = [
            group
            for group in workflow["groups"]
            if group["bounding"][0] <= x and x + width <= group["bounding"][0] + group["bounding"][2]
            if group["bounding"][1] <= y - NODE_TITLE and y + height <= group["bounding"][1] + group["bounding"][3]
        ]
        assert len(inside) == (node["type"] != "MarkdownNote"), f"node {node['id']} ({node['type']}) is in no group"


@pytest.mark.parametrize("name", sorted(EDITS))
def test_an_edit_gives_what_was_asked_and_keeps_the_rest(name, run_workflow, seen):
    source, target = EDITS[name]
    (picture,) = run_workflow(name).pictures
    assert distance(picture, drawn(source)) > 0.02, "the picture did not change"
    assert seen(picture) == scene_labels(target)


def test_a_sound_is_painted(run_workflow, seen):
    pictures = run_workflow(SOUND).pictures
    assert len(pictures) == 4
    assert sum(seen(picture)["subject"] == HEARD for picture in pictures) >= 3


def test_a_masked_edit_stays_under_its_mask(run_workflow, run_graph):
    ran = run_workflow(MASKED_EDIT)
    (picture,) = ran.pictures
    (round_trip,) = run_graph(without_sampling(ran.graph)).pictures
    half, target = picture.shape[1] // 2, drawn(replace(FOREST, weather="snow"))
    assert distance(picture[:, :half], round_trip[:, :half]) < EIGHT_BIT
    assert distance(picture[:, half:], target[:, half:]) < distance(picture[:, half:], drawn(FOREST)[:, half:])


def without_sampling(graph: dict) -> dict:
    """The picture straight from VAE Encode to VAE Decode."""
    encoded, decoded = the_node(graph, "VAEEncode"), the_node(graph, "VAEDecode")
    changed = with_inputs(graph, decoded, samples=[encoded, 0])
    return with_inputs(changed, the_node(graph, "SaveImage"), filename_prefix="round_trip")


def test_the_stock_sampler_gives_the_same_picture_as_ours(run_workflow):
    (stock,), (ours,) = run_workflow(STOCK).pictures, run_workflow("edit_with_sound").pictures
    np.testing.assert_allclose(stock, ours, atol=EIGHT_BIT)


def test_a_lora_and_a_controlnet_steer_the_stock_sampler(
    control_files, run_workflow, run_graph, server, seen, tmp_path
):
    ran = run_graph(api_format(server, switched_on(ROOT / "workflows" / f"{STOCK}.json", tmp_path)))
    assert {"LoraLoaderModelOnly", "ControlNetApplyAdvanced"} <= ran.run.classes(ran.run.executed)
    (steered,), (plain,) = ran.pictures, run_workflow(STOCK).pictures
    assert distance(steered, plain) > 0.005
    assert seen(steered)["subject"] == EDITS[STOCK][1].subject


def switched_on(path: Path, folder: Path) -> Path:
    """A copy of a workflow with nothing bypassed."""
    workflow = json.loads(path.read_text("utf-8"))
    bypassed = [node for node in workflow["nodes"] if node["mode"] == BYPASSED]
    assert bypassed
    for node in bypassed:
        node["mode"] = 0
    copy = folder / path.name
    copy.write_text(json.dumps(workflow), "utf-8")
    return copy


def test_the_page_opens_it_and_runs_what_the_server_ran(
    path, run_workflow, control_files, front_end, client, screenshots
):
    ran = run_workflow(path.stem)
    front_end.page.evaluate("() => app.refreshComboInNodes()")  # the page may be older than the files
    front_end.load(json.loads(path.read_text("utf-8")), path.stem)
    assert front_end.inspect() == {"missing": [], "unknown": []}
    assert same_graph(front_end.prompt(), ran.graph)
    prompt_id = front_end.run()
    history = client.get(f"/history/{prompt_id}")[prompt_id]
    assert history["status"]["status_str"] == "success"
    assert same_graph(history["prompt"][2], ran.graph)
    assert front_end.screenshot(screenshots / f"{path.stem}.png").stat().st_size > 10_000
