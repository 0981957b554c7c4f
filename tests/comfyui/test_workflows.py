"""Every example workflow, on the real server and page: it opens, it runs, the picture becomes what was asked."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from any2pix.datagen.toyland import Scene, render
from any2pix.evaluation.judge import scene_labels
from cli_runner import api_format
from comfyui_client.client import Client, Run
from comfyui_client.graphs import nodes_of, the_node, workflow_files
from harness.edit_graph import missing_miniature
from harness.graphs import differences, overlapping
from workflow_data.example_inputs import MASKED, PICTURES
from workspace import ROOT

MEADOW, BEACH = PICTURES["toyland_meadow.png"], PICTURES["toyland_beach.png"]
ROBOT = PICTURES["toyland_robot.png"]
FOREST = MASKED["toyland_masked.png"]
# workflow -> the picture it edits, and what it is to become: what the instruction does not touch has to stay
EDITS = {
    "edit_with_sound": (MEADOW, replace(MEADOW, subject="cat")),
    "edit_with_picture": (MEADOW, replace(MEADOW, subject="robot")),
    "edit_with_three_references": (MEADOW, replace(MEADOW, subject="frog", weather="snow")),
    "style_from_picture": (BEACH, replace(BEACH, style="ink")),
    "edit_with_stock_sampler": (MEADOW, replace(MEADOW, subject="cat")),
    "keep_the_rest": (MEADOW, replace(MEADOW, subject="cat")),
    "edit_without_llm": (MEADOW, replace(MEADOW, subject="cat")),
    "edit_in_one_node": (MEADOW, replace(MEADOW, subject="cat")),
    "edit_by_text": (ROBOT, replace(ROBOT, subject="frog")),
}
BY_TEXT, GRID, BESIDE = "edit_by_text", "edit_by_text_grid", "edit_by_text_beside"
OURS, STOCK, MASKED_EDIT, SOUND = "edit_with_sound", "edit_with_stock_sampler", "masked_edit", "sound_to_picture"
HEARD = "frog"
NEEDS_DOWNLOADS = "published_"  # how the names of workflows begin that test_workflows_published.py looks at
RUNNABLE = [path for path in workflow_files() if not path.stem.startswith(NEEDS_DOWNLOADS)]
ADDITIONS = {
    "LoraLoaderModelOnly": ["LoraLoaderModelOnly"],
    "ControlNet": ["ControlNetLoader", "Canny", "ControlNetApplyAdvanced"],
}
ACTIVE, BYPASSED = 0, 4  # the page's modes of a node that is switched on and off
SEEN = 0.02  # mean change of a channel, 1 is white against black, from which on a picture is another one
ROUNDING = 2 / 255  # two pictures that went through a file each
GRID_CELL, GRID_GAP = 128, 7  # pixels
NODE_TITLE = 30  # pixels above a node's pos

PICTURES_SHOWN = """() => app.graph.nodes.filter(node => ['SaveImage', 'PreviewImage'].includes(node.type))
    .every(node => node.imgs?.length && node.imgs.every(picture => picture.complete))"""

pytestmark = pytest.mark.usefixtures("made_for_stock_nodes")


@dataclass(frozen=True)
class Ran:
    """One run on the server: the graph that ran (API format) and the pictures it saved, (H, W, 3) in [0, 1]."""

    graph: dict
    run: Run
    pictures: list[np.ndarray]


@pytest.fixture(scope="module", params=RUNNABLE, ids=lambda path: path.stem)
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
def run_workflow(example, run_graph):
    """name -> Ran; every workflow runs once, however many tests look at it. ``from_page``: the graph as the page sends
    it, with the widgets that only the page uses, so that the server has it in its cache for the page."""
    done: dict[str, Ran] = {}

    def run(name: str, from_page: dict | None = None) -> Ran:
        graph = from_page or example(name)
        assert not differences(graph, example(name))
        if name not in done:
            done[name] = run_graph(graph)
        return done[name]

    return run


def drawn(scene: Scene) -> np.ndarray:
    """(H, W, 3) in [0, 1]."""
    return render(scene).astype(np.float32) / 255


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, 0 to 1."""
    return float(np.abs(one - other).mean())


def test_the_promised_workflows_are_there_each_with_its_thumbnail():
    assert {path.stem for path in RUNNABLE} == {*EDITS, MASKED_EDIT, SOUND, GRID, BESIDE}
    assert {path.stem for path in (ROOT / "workflows").glob("*.jpg")} == {path.stem for path in workflow_files()}


@pytest.mark.parametrize("path", workflow_files(), ids=lambda path: path.stem)
def test_it_is_laid_out_to_be_read(path):
    workflow = json.loads(path.read_text("utf-8"))
    boxes = {node["id"]: box_of(node) for node in workflow["nodes"]}
    assert not overlapping(boxes)
    groups = [
        (x, y, x + width, y + height) for x, y, width, height in (group["bounding"] for group in workflow["groups"])
    ]
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert notes and all(len(note["widgets_values"][0]) > 100 for note in notes)
    for node in workflow["nodes"]:
        left, top, right, bottom = boxes[node["id"]]
        around = [g for g in groups if g[0] <= left and g[1] <= top and right <= g[2] and bottom <= g[3]]
        assert len(around) == (node not in notes), f"{node['type']} {node['id']} is not in one group"


def box_of(node: dict) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a node with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - NODE_TITLE, x + width, y + height


def test_the_page_opens_it_and_runs_what_the_server_ran(path, run_workflow, front_end, client, screenshots):
    """Ahead of the tests that look at the pictures, so that each is painted once: what the page sends is what the
    server has just run."""
    front_end.page.evaluate("() => app.refreshComboInNodes()")  # the page may be older than the LoRA's file
    front_end.load(json.loads(path.read_text("utf-8")), path.stem)
    assert front_end.inspect() == {"missing": [], "unknown": []}
    ran = run_workflow(path.stem, front_end.prompt())
    prompt_id = front_end.run()
    history = client.get(f"/history/{prompt_id}")[prompt_id]
    assert history["status"]["status_str"] == "success"
    assert not differences(history["prompt"][2], ran.graph)
    front_end.show_all()  # the page gives a node its pictures as it draws the node
    front_end.page.wait_for_function(PICTURES_SHOWN)
    grown = {node["id"]: box_of(node) for node in front_end.serialize()["nodes"]}
    assert not overlapping(grown), "with what the nodes show after a run"
    assert front_end.screenshot(screenshots / f"{path.stem}.png").stat().st_size > 10_000
    assert not front_end.shown_errors()


@pytest.mark.parametrize("name", sorted(EDITS))
def test_an_edit_gives_what_was_asked_and_keeps_the_rest(name, run_workflow, judge):
    source, target = EDITS[name]
    (picture,) = run_workflow(name).pictures
    assert distance(picture, drawn(source)) > SEEN, "the picture did not change"
    assert judge(picture) == scene_labels(target)


def test_the_two_systems_both_follow_one_sentence(run_workflow, judge):
    source, target = EDITS[BY_TEXT]
    ran = run_workflow(BESIDE)
    assert len(ran.pictures) == 2
    for picture in ran.pictures:
        assert distance(picture, drawn(source)) > SEEN, "the picture did not change"
        assert judge(picture) == scene_labels(target)
    assert distance(*ran.pictures) > SEEN, "they are two systems, not one"


def test_the_grid_holds_the_edit_and_shows_what_the_guidances_do(run_workflow, judge):
    (sheet,), (edited,) = run_workflow(GRID).pictures, run_workflow(BY_TEXT).pictures
    guider = the_guider(run_workflow(BY_TEXT).graph)
    cells = cells_of(sheet, run_workflow(GRID).graph)
    np.testing.assert_allclose(cells[guider["text_guidance"], guider["image_guidance"]], edited, atol=ROUNDING)
    texts, images = ({pair[axis] for pair in cells} for axis in (0, 1))

    def changed(pairs) -> float:
        return float(np.mean([distance(cells[pair], drawn(EDITS[BY_TEXT][0])) for pair in pairs]))

    kept_less, kept_more = (changed([(text, end(images)) for text in texts]) for end in (min, max))
    asked_less, asked_more = (changed([(end(texts), image) for image in images]) for end in (min, max))
    assert kept_more < kept_less, "a higher image_guidance keeps more of the picture"
    assert asked_more > asked_less, "a higher text_guidance changes more of it"
    for image in images:
        assert judge(cells[0.0, image]) == scene_labels(EDITS[BY_TEXT][0]), (
            "without text guidance the picture comes back"
        )


def the_guider(graph: dict) -> dict:
    """The inputs of the only InstructPix2Pix Guidance."""
    return graph[the_node(graph, "Any2PixInstructPix2PixGuider")]["inputs"]


def cells_of(sheet: np.ndarray, graph: dict) -> dict[tuple[float, float], np.ndarray]:
    """(text guidance, image guidance) -> its picture in the grid; a gap stands at the right of and below each cell."""
    values = graph[the_node(graph, "Any2PixGridValues")]["inputs"]
    columns, rows = ([float(value) for value in values[axis].split(",")] for axis in ("x_values", "y_values"))
    step, side = GRID_CELL + GRID_GAP, GRID_CELL
    top, left = sheet.shape[0] - len(rows) * step, sheet.shape[1] - len(columns) * step
    return {
        (text, image): sheet[top + y * step :, left + x * step :][:side, :side]
        for y, image in enumerate(rows)
        for x, text in enumerate(columns)
    }


def test_a_sound_is_painted(run_workflow, judge):
    pictures = run_workflow(SOUND).pictures
    assert len(pictures) == 4
    seen = Counter(judge(picture)["subject"] for picture in pictures)
    assert seen[HEARD] >= 3, dict(seen)


def test_a_masked_edit_stays_under_its_mask(run_workflow, run_graph):
    ran = run_workflow(MASKED_EDIT)
    (picture,), (round_trip,) = ran.pictures, run_graph(without_sampling(ran.graph)).pictures
    half = picture.shape[1] // 2
    asked, before = drawn(replace(FOREST, weather="snow")), drawn(FOREST)
    np.testing.assert_allclose(picture[:, :half], round_trip[:, :half], atol=ROUNDING)
    assert distance(picture[:, half:], asked[:, half:]) < distance(picture[:, half:], before[:, half:])


def without_sampling(graph: dict) -> dict:
    """The picture through the VAE and back, and nothing else: what lies outside the mask has to be that."""
    (vae,) = nodes_of(graph, "Any2PixLoadDiffusion")
    (picture,) = nodes_of(graph, "LoadImage")
    return {
        vae: graph[vae],
        picture: graph[picture],
        "901": {"class_type": "VAEEncode", "inputs": {"pixels": [picture, 0], "vae": [vae, 1]}},
        "902": {"class_type": "VAEDecode", "inputs": {"samples": ["901", 0], "vae": [vae, 1]}},
        "903": {"class_type": "SaveImage", "inputs": {"images": ["902", 0], "filename_prefix": "round_trip"}},
    }


def test_the_stock_sampler_gives_the_same_picture_as_ours(run_workflow):
    (stock,), (ours,) = run_workflow(STOCK).pictures, run_workflow(OURS).pictures
    np.testing.assert_allclose(stock, ours, atol=ROUNDING)


@pytest.mark.parametrize("added", ADDITIONS)
def test_a_lora_or_a_controlnet_changes_the_picture(added, run_workflow, run_graph, server, judge, tmp_path):
    file = tmp_path / "switched_on.json"
    file.write_text(json.dumps(switched_on(ROOT / "workflows" / f"{STOCK}.json", ADDITIONS[added])), "utf-8")
    ran = run_graph(api_format(server, file))
    assert set(ADDITIONS[added]) <= ran.run.classes(set(ran.graph))
    (steered,), (plain,) = ran.pictures, run_workflow(STOCK).pictures
    assert np.abs(steered - plain).max() > ROUNDING
    assert judge(steered)["background"] == EDITS[STOCK][1].background, "the picture fell apart"


def switched_on(path: Path, class_types: list[str]) -> dict:
    """A workflow with its bypassed nodes of these types active."""
    workflow = json.loads(path.read_text("utf-8"))
    for node in workflow["nodes"]:
        if node["type"] in class_types:
            assert node["mode"] == BYPASSED
            node["mode"] = ACTIVE
    return workflow
