"""The blueprints: a whole edit as one node, out of the page's node library, is the edit of the plain workflow."""

import json

import numpy as np
import pytest
import workspace
from comfyui_client.client import Client
from comfyui_client.graphs import blueprint_files, nodes_of
from harness.graphs import PAGE_WIDGETS, by_number, overlapping

EDIT, PIX2PIX = "InstructAny2Pix Edit", "InstructPix2Pix Edit"
LOADERS = {"image": "LoadImage", "image1": "LoadImage", "image2": "LoadImage", "audio1": "LoadAudio"}
# plain workflow -> the blueprint that does the same, and what of the workflow's inputs goes where; the rest stays free
CASES = {
    "edit_with_sound": (EDIT, {"image1": "toyland_meadow.png", "audio1": "toyland_cat.wav"}),
    "edit_with_picture": (EDIT, {"image1": "toyland_meadow.png", "image2": "toyland_robot.png"}),
    "edit_by_text": (PIX2PIX, {"image": "toyland_robot.png"}),
}
TEXTS = {EDIT: ("Any2PixInstruct", "instruction"), PIX2PIX: ("CLIPTextEncode", "text")}
# knob on the node -> another value, and the (node type, input) inside that have to get it
KNOBS = {
    EDIT: {
        "instruction": ("add [audio1] and snow to [image1]", {("Any2PixInstruct", "instruction")}),
        "strength": (4.0, {("Any2PixSampler", "cfg")}),
        "keep_layout": (0.7, {("Any2PixNoiseMix", "alpha")}),
        "seed": (7, {("Any2PixNoiseMix", "seed"), ("Any2PixSampler", "seed")}),
    },
    PIX2PIX: {
        "instruction": ("let it snow in the picture", {("CLIPTextEncode", "text")}),
        "strength": (4.0, {("Any2PixInstructPix2PixGuider", "text_guidance")}),
        "keep_picture": (1.5, {("Any2PixInstructPix2PixGuider", "image_guidance")}),
        "seed": (7, {("RandomNoise", "noise_seed")}),
    },
}
NODE_TITLE = 30  # pixels above a node's pos
# Connects a loader to each named input of the one node on the page, and Save Image to its picture.
CONNECT = """({files, loaders}) => {
    const [edit] = app.graph.nodes;
    const widget = (node, name, value) => { node.widgets.find(widget => widget.name === name).value = value; };
    for (const [input, file] of Object.entries(files)) {
        const loader = app.graph.add(LiteGraph.createNode(loaders[input]));
        widget(loader, loaders[input] === 'LoadAudio' ? 'audio' : 'image', file);
        loader.connect(0, edit, edit.inputs.findIndex(slot => slot.name === input));
    }
    const saved = app.graph.add(LiteGraph.createNode('SaveImage'));
    widget(saved, 'filename_prefix', 'blueprint');
    edit.connect(edit.outputs.findIndex(slot => slot.name === 'image'), saved, 0);
}"""
TURN = """knobs => {
    const edit = app.graph.nodes.find(node => node.subgraph);
    for (const [name, value] of Object.entries(knobs)) {
        const widget = edit.widgets.find(widget => widget.name === name);
        widget.value = value;
        widget.callback?.(value);
    }
}"""
SHOWN = "() => app.graph.nodes.find(node => node.subgraph).widgets.map(widget => widget.label ?? widget.name)"


def add(page, name: str, files: dict[str, str]) -> None:
    """The blueprint on an empty page, with what it edits and where it saves."""
    page.page.evaluate("() => app.graph.clear()")
    page.add_from_library(name)
    page.page.evaluate(CONNECT, {"files": files, "loaders": LOADERS})


@pytest.fixture(scope="module")
def painted(server):
    """graph -> its picture. A graph is painted once: how the page draws its nodes is nothing to the server."""
    client, done = Client(server.url), {}

    def paint(graph: dict) -> np.ndarray:
        key = json.dumps(graph, sort_keys=True)
        if key not in done:
            (done[key],) = client.pictures(client.run(graph))
        return done[key]

    yield paint
    client.close()


@pytest.fixture(scope="module")
def ran(page) -> set[str]:
    """The blueprints that this page has run."""
    return set()


def as_on_page(graph: dict, page_graph: dict) -> dict:
    """The graph with the widgets that only the page uses, which the server takes for inputs like others: what both
    graphs have alike is then in its cache."""
    for body in graph.values():
        for alike in nodes_of(page_graph, body["class_type"])[:1]:
            inputs = page_graph[alike]["inputs"]
            body["inputs"] |= {name: inputs[name] for name in PAGE_WIDGETS & set(inputs)}
    return graph


def test_the_server_lists_them(client):
    listed = {}
    for key, entry in client.get("/global_subgraphs").items():
        if entry["info"]["node_pack"] == f"custom_nodes.{workspace.PACK_NAME}":
            listed[entry["name"]] = json.loads(client.get(f"/global_subgraphs/{key}")["data"])
    # in ASCII: ComfyUI 0.3.75 reads them in whatever encoding the computer has
    assert listed == {path.stem: json.loads(path.read_text("ascii")) for path in blueprint_files()}
    assert set(listed) == {EDIT, PIX2PIX}


@pytest.mark.parametrize("workflow", CASES)
def test_out_of_the_library_it_gives_the_picture_of_the_plain_workflow(
    workflow, page, ran, painted, example, screenshots
):
    """Either page runs each blueprint, and either sends for each workflow what gives its picture."""
    name, files = CASES[workflow]
    plain = example(workflow)
    node_type, widget = TEXTS[name]
    add(page, name, files)
    asked = next(plain[node]["inputs"][widget] for node in nodes_of(plain, node_type))
    page.page.evaluate(TURN, {"instruction": asked})
    if name not in ran:
        page.run()
        ran.add(name)
    page.screenshot(screenshots / f"blueprint_{workflow}.png")
    assert not page.shown_errors()
    sent = page.prompt()
    np.testing.assert_array_equal(painted(sent), painted(as_on_page(plain, sent)))


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_shows_and_reaches_what_it_turns(name, page):
    files = next(files for blueprint, files in CASES.values() if blueprint == name)
    for knob, (value, reached) in KNOBS[name].items():
        add(page, name, files)
        assert page.page.evaluate(SHOWN) == list(KNOBS[name])
        before = page.prompt()
        page.page.evaluate(TURN, {knob: value})
        after = page.prompt()
        changed = {
            (after[node]["class_type"], key): after[node]["inputs"][key]
            for node in sorted(after, key=by_number)
            for key in after[node]["inputs"]
            if after[node]["inputs"][key] != before[node]["inputs"][key]
        }
        assert changed == dict.fromkeys(reached, value), knob


def test_strength_and_seed_change_the_picture(page, painted):
    """The seed where some of the noise is fresh; at keep_layout 1 there is none."""
    add(page, EDIT, CASES["edit_with_sound"][1])
    pictures = []
    for knobs in ({}, {"strength": 5.0}, {"keep_layout": 0.7}, {"seed": 1}):
        page.page.evaluate(TURN, knobs)
        picture = painted(page.prompt())
        assert not any(np.array_equal(picture, other) for other in pictures), knobs
        pictures.append(picture)


def test_a_mark_whose_socket_is_free_is_named(page, client):
    add(page, EDIT, {"image1": "toyland_meadow.png"})
    run = client.wait(client.queue(page.prompt()), 300)
    assert run.outcome == "execution_error" and "[audio1]" in run.error["exception_message"]


@pytest.mark.parametrize("path", blueprint_files(), ids=lambda path: path.stem)
def test_what_is_inside_is_laid_out_to_be_read(path):
    (inside,) = json.loads(path.read_text("utf-8"))["definitions"]["subgraphs"]
    boxes = {}
    for node in inside["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes[node["id"]] = (x, y - NODE_TITLE, x + width, y + height)
    for end in (inside["inputNode"], inside["outputNode"]):
        x, y, width, height = end["bounding"]
        boxes[end["id"]] = (x, y, x + width, y + height)
    assert not overlapping(boxes)
    groups = [group["bounding"] for group in inside["groups"]]
    for node in inside["nodes"]:
        left, top, right, bottom = boxes[node["id"]]
        around = [1 for x, y, w, h in groups if x <= left and y <= top and right <= x + w and bottom <= y + h]
        assert len(around) == (node["type"] != "MarkdownNote"), f"{node['type']} {node['id']} is not in one group"


def test_the_workflow_with_the_node_holds_the_same_graph():
    workflow = json.loads((workspace.ROOT / "workflows" / "edit_in_one_node.json").read_text("utf-8"))
    blueprint = json.loads((workspace.ROOT / "subgraphs" / f"{EDIT}.json").read_text("utf-8"))
    assert workflow["definitions"] == blueprint["definitions"]
