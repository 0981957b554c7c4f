"""Writes workflows/*.json from workflow_plans.py, laid out on ComfyUI's own page: the files are what the page saves.

Run it when a plan, a note or a node's inputs have changed: python tools/build_workflows.py [NAME ...]
"""

import json
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy_server
import workspace
from comfyui_client.browser import FrontEnd, chromium
from workflow_data.notes import NOTES
from workflow_data.published_files import OF_LOADERS, OF_STOCK_NODES
from workflow_layout import BYPASSED, LOADER_COLORS, LOADERS, NOTE_COLORS, Layout, place
from workflow_parts import Plan
from workflow_plans import all_plans
from workflow_wires import Wire, as_saved, route

FRAMES = 500  # milliseconds
WORKFLOWS = workspace.ROOT / "workflows"
MEASURE = "() => Object.fromEntries(app.graph.nodes.map(node => [node.id, Array.from(node.computeSize())]))"
ARRANGE = """({nodes, notes, groups}) => {
    for (const note of notes) {
        const node = LiteGraph.createNode('MarkdownNote');
        app.graph.add(node);
        node.title = note.title;
        node.pos = note.pos;
        node.size = note.size;
        node.widgets[0].value = note.text;
        [node.color, node.bgcolor] = note.colors;
    }
    for (const group of groups) {
        const box = new LiteGraph.LGraphGroup(group.title);
        box.pos = group.pos;
        box.size = group.size;
        box.color = group.color;
        app.graph.add(box);
    }
    for (const {id, pos, size, colors, mode} of nodes) {
        const node = app.graph.getNodeById(id);
        node.pos = pos;
        node.setSize(size);
        node.mode = mode;
        if (colors) [node.color, node.bgcolor] = colors;
        // the example answers the same each time, and a knob that was not turned runs nothing again
        for (const widget of node.widgets ?? []) if (widget.name === 'control_after_generate') widget.value = 'fixed';
    }
}"""
WIRES = """() => [...app.graph.links.values()].map(link => ({
    id: link.id,
    source: Number(link.origin_id), slot: link.origin_slot,
    target: Number(link.target_id),
    start: Array.from(app.graph.getNodeById(link.origin_id).getConnectionPos(false, link.origin_slot)),
    end: Array.from(app.graph.getNodeById(link.target_id).getConnectionPos(true, link.target_slot)),
}))"""


def api_graph(plan: Plan, object_info: dict) -> dict:
    """The plan in API format: names become numbers from left to right, links name outputs by their index."""
    ids = {name: str(number) for number, name in enumerate(plan.nodes, start=1)}

    def resolve(value):
        if not isinstance(value, tuple):
            return value
        node, output = value
        return [ids[node], object_info[plan.nodes[node]["class_type"]]["output_name"].index(output)]

    return {
        ids[name]: {**node, "inputs": {key: resolve(value) for key, value in node["inputs"].items()}}
        for name, node in plan.nodes.items()
    }


def build(plan: Plan, page: FrontEnd, object_info: dict) -> dict:
    """The plan as a workflow in UI format."""
    page.load_api(api_graph(plan, object_info))
    ids = {name: number for number, name in enumerate(plan.nodes, start=1)}
    return finish(plan, page, ids, arrange(plan, page, ids))


def finish(plan: Plan, page: FrontEnd, ids: dict[str, int], layout: Layout) -> dict:
    """What the page saves of the plan, as the file is to be."""
    workflow = tidy(page.serialize(), plan.name)
    settle(workflow["nodes"], ids, layout)
    workflow["extra"] |= wiring(page, layout, ids)
    return workflow


def arrange(plan: Plan, page: FrontEnd, ids: dict[str, int]) -> Layout:
    """Puts the nodes of the plan, which the page has open, in their places, with its notes and groups."""
    measured = page.page.evaluate(MEASURE)
    layout = place(plan, {name: measured[str(number)] for name, number in ids.items()}, NOTES)
    boxes = [
        {
            "id": ids[name],
            "pos": box.pos,
            "size": box.size,
            "mode": BYPASSED if name in plan.bypassed else 0,
            "colors": LOADER_COLORS if plan.nodes[name]["class_type"].startswith(LOADERS) else None,
        }
        for name, box in layout.nodes.items()
    ]
    notes = [
        {"title": box.title, "text": NOTES[name], "pos": box.pos, "size": box.size, "colors": NOTE_COLORS}
        for name, box in layout.notes.items()
    ]
    groups = [{"title": box.title, "color": box.color, "pos": box.pos, "size": box.size} for box in layout.groups]
    page.page.evaluate(ARRANGE, {"nodes": boxes, "notes": notes, "groups": groups})
    return layout


def settle(nodes: list[dict], ids: dict[str, int], layout: Layout) -> None:
    """Gives nodes their place again: a sound's player and a text that the page still knows make a node grow later."""
    boxes = {ids[name]: box for name, box in layout.nodes.items()}
    for node in nodes:
        if box := boxes.get(node["id"]):
            node["pos"], node["size"] = list(map(round, box.pos)), list(map(round, box.size))


def wiring(page: FrontEnd, layout: Layout, ids: dict[str, int]) -> dict:
    """What leads the wires around nodes and notes, for a workflow's `extra`."""
    page.page.wait_for_timeout(FRAMES)  # the sockets of widgets get their place as they are drawn
    wires = [
        Wire(**{**wire, "start": tuple(wire["start"]), "end": tuple(wire["end"])}) for wire in page.page.evaluate(WIRES)
    ]
    taken = {ids.get(name, name): box for name, box in layout.taken().items()}
    return as_saved(wires, route(wires, taken, layout.titles()))


def tidy(workflow: dict, name: str) -> dict:
    """Leaves out what would differ from one building to the next."""
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"any2pix/{name}"))
    workflow["extra"] = {"ds": {"scale": 0.65, "offset": [110, 110]}}
    tidy_nodes(workflow["nodes"])
    return workflow


def tidy_nodes(nodes: list[dict]) -> None:
    for node in nodes:
        for key in ("cnr_id", "aux_id", "ver"):
            node["properties"].pop(key, None)
        if not node.get("widgets_values", True):  # the page saves none or an empty list, by what it had open before
            del node["widgets_values"]
        if models := models_of(node):
            node["properties"]["models"] = models
        for key in ("pos", "size"):
            node[key] = [round(value) for value in node[key]]


def models_of(node: dict) -> list[dict[str, str]]:
    """What a node of a workflow (UI format) is to carry in ``properties.models``; empty for most."""
    chosen = node.get("widgets_values") or []
    files = [file for file in OF_STOCK_NODES if file.name in chosen]
    return [file.entry() for file in (*OF_LOADERS.get(node["type"], ()), *files)]


@contextmanager
def open_page() -> Iterator[tuple[FrontEnd, dict]]:
    """A page on a server of its own, and what the server tells about every node."""
    executable = workspace.find_chromium()
    if executable is None:
        raise SystemExit("There is no Chromium here. Install it, or set CHROMIUM to its path.")
    with (
        tempfile.TemporaryDirectory() as folder,
        comfy_server.ComfyServer(workspace.make_base(Path(folder))) as server,
        chromium(executable) as open_front_end,
    ):
        yield open_front_end(server.url), server.get("/object_info")


def save(workflow: dict, path: Path, only_ascii: bool = False) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=only_ascii) + "\n", "utf-8")


def main(wanted: list[str]) -> None:
    with open_page() as (page, object_info):
        for plan in all_plans():
            if not wanted or plan.name in wanted:
                save(build(plan, page, object_info), WORKFLOWS / f"{plan.name}.json")


if __name__ == "__main__":
    main(sys.argv[1:])
