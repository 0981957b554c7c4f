"""Writes subgraphs/*.json from workflow_blueprints.py, and the workflow that uses one: the files are what ComfyUI's
page saves.

ComfyUI offers what lies in a pack's folder `subgraphs` in its node library. Run it when a plan, a note or a node's
inputs have changed: python tools/build_blueprints.py
"""

import uuid

import workspace
from build_workflows import FRAMES, WORKFLOWS, api_graph, arrange, finish, open_page, save, settle, tidy_nodes
from comfyui_client.browser import FrontEnd
from workflow_blueprints import ALIASES, CATEGORY, EDIT, Blueprint, all_blueprints, one_node_plan
from workflow_layout import GROUP_GAP, Layout
from workflow_parts import Plan
from workflow_sizes import WIDTHS
from workflow_wires import Wire, as_saved, route

BLUEPRINTS = workspace.ROOT / "subgraphs"
ENTRY, EXIT = -10, -20  # the ids that the page gives to the two ends of a subgraph
END_WIDTH = 160  # room for the longest name of an input
CORNER = [90, 90]  # where the node of a blueprint stands
# Makes one node of all that is on the page and gives it its inputs and outputs; only they show widgets on it -> its id.
CONVERT = """({name, entries, exits}) => {
    const {subgraph, node} = app.graph.convertToSubgraph(new Set([...app.graph.nodes, ...app.graph.groups]));
    subgraph.name = node.title = name;
    for (const {name, type, targets} of entries) {
        const entry = subgraph.addInput(name, type);
        for (const [id, input] of targets) {
            const inner = subgraph.getNodeById(id);
            entry.connect(inner.inputs.find(slot => slot.name === input), inner);
        }
    }
    for (const {name, type, source: [id, output]} of exits) {
        const inner = subgraph.getNodeById(id);
        subgraph.addOutput(name, type).connect(inner.outputs.find(slot => slot.name === output), inner);
    }
    node.properties.proxyWidgets = node.properties.proxyWidgets.filter(([id]) => id === '-1');
    return node.id;
}"""
# Opens the node and puts the two ends of its graph in their places.
OPEN = """({id, ends}) => {
    const node = app.graph.getNodeById(id), {inputNode, outputNode} = node.subgraph;
    app.canvas.openSubgraph(node.subgraph, node);
    for (const [end, [x, y]] of [[inputNode, ends[0]], [outputNode, ends[1]]]) {
        [end.pos[0], end.pos[1]] = [x, y];
        end.arrange();
    }
}"""
WIRES = """id => {
    const {subgraph} = app.graph.getNodeById(id), {inputNode, outputNode} = subgraph;
    const at = (nodeId, out, slot) => Array.from(
        nodeId === inputNode.id ? inputNode.slots[slot].pos
        : nodeId === outputNode.id ? outputNode.slots[slot].pos
        : subgraph.getNodeById(nodeId).getConnectionPos(!out, slot));
    return {
        wires: [...subgraph.links.values()].map(link => ({
            id: link.id, source: Number(link.origin_id), slot: link.origin_slot, target: Number(link.target_id),
            start: at(link.origin_id, true, link.origin_slot), end: at(link.target_id, false, link.target_slot),
        })),
        ends: [inputNode, outputNode].map(end => Array.from(end.boundingRect)),
    };
}"""
# Puts the nodes of a plan around the one that is on the page; gives the ids by name.
SURROUND = """({nodes, inner}) => {
    const made = {[inner]: app.graph.nodes[0]};
    for (const [name, {class_type, _meta}] of Object.entries(nodes)) {
        made[name] ??= app.graph.add(LiteGraph.createNode(class_type));
        if (_meta) made[name].title = _meta.title;
    }
    for (const [name, {inputs}] of Object.entries(nodes)) for (const [key, value] of Object.entries(inputs)) {
        const node = made[name], index = node.inputs.findIndex(slot => slot.name === key);
        if (!Array.isArray(value)) { node.widgets.find(widget => widget.name === key).value = value; continue; }
        const source = made[value[0]];
        source.connect(source.outputs.findIndex(slot => slot.name === value[1]), node, index);
    }
    return Object.fromEntries(Object.entries(made).map(([name, node]) => [name, node.id]));
}"""


def build_blueprint(blueprint: Blueprint, page: FrontEnd, object_info: dict) -> dict:
    """A workflow in UI format that holds the one node."""
    plan = blueprint.plan
    page.load_api(api_graph(plan, object_info))
    ids = {name: number for number, name in enumerate(plan.nodes, start=1)}
    layout = arrange(plan, page, ids)
    entries = [
        {"name": entry.name, "type": entry.type, "targets": [[ids[node], name] for node, name in entry.targets]}
        for entry in blueprint.entries
    ]
    exits = [
        {"name": out.name, "type": out.type, "source": [ids[out.source[0]], out.source[1]]} for out in blueprint.exits
    ]
    node = page.page.evaluate(CONVERT, {"name": plan.name, "entries": entries, "exits": exits})
    page.page.evaluate(OPEN, {"id": node, "ends": places_of_ends(layout)})
    page.page.wait_for_timeout(FRAMES)  # the sockets of widgets get their place as they are drawn
    drawn = page.page.evaluate(WIRES, node)
    workflow = page.serialize()
    (inside,) = workflow["definitions"]["subgraphs"]
    settle(inside["nodes"], ids, layout)
    lead_wires(inside, drawn, layout, ids)
    return tidy(workflow, blueprint)


def places_of_ends(layout: Layout) -> list[tuple[float, float]]:
    """Beside the upper row, left and right of everything."""
    boxes = [*layout.groups, *layout.notes.values()]
    left, right = min(box.pos[0] for box in boxes), max(box.pos[0] + box.size[0] for box in boxes)
    return [(left - END_WIDTH - GROUP_GAP, 0), (right + GROUP_GAP, 0)]


def lead_wires(inside: dict, drawn: dict, layout: Layout, ids: dict[str, int]) -> None:
    """Leads the wires around nodes and notes, those from the inputs and to the outputs too."""
    wires = [Wire(**{**wire, "start": tuple(wire["start"]), "end": tuple(wire["end"])}) for wire in drawn["wires"]]
    taken = {ids.get(name, name): box for name, box in layout.taken().items()}
    for end, (x, y, width, height) in zip((ENTRY, EXIT), drawn["ends"], strict=True):
        taken[end] = (x, y, x + width, y + height)
    saved = as_saved(wires, route(wires, taken, layout.titles()))
    parents = {end["id"]: end["parentId"] for end in saved.get("linkExtensions", ())}
    inside["reroutes"] = saved.get("reroutes", [])
    for link in inside["links"]:
        if link["id"] in parents:
            link["parentId"] = parents[link["id"]]


def tidy(workflow: dict, blueprint: Blueprint) -> dict:
    """Leaves out what would differ from one building to the next."""
    name = blueprint.plan.name
    (inside,), (node,) = workflow["definitions"]["subgraphs"], workflow["nodes"]
    inside["id"] = node["type"] = fixed_id(name)
    inside |= {"category": CATEGORY, "description": blueprint.description}
    inside["state"]["lastRerouteId"] = len(inside["reroutes"])
    for kind in ("inputs", "outputs"):
        for slot in inside[kind]:
            slot["id"] = fixed_id(f"{name}/{kind}/{slot['name']}")
    for end in (inside["inputNode"], inside["outputNode"]):
        end["bounding"] = [round(value) for value in end["bounding"]]
    tidy_nodes(inside["nodes"])
    tidy_nodes([node])
    node["pos"], node["size"][0] = CORNER, WIDTHS[EDIT]
    return {
        "revision": 0,
        "last_node_id": node["id"],
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": workflow["version"],
        "definitions": workflow["definitions"],
        "extra": {"BlueprintDescription": blueprint.description, "BlueprintSearchAliases": ALIASES},
    }


def fixed_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"any2pix/subgraphs/{name}"))


def build_around(blueprint: dict, plan: Plan, page: FrontEnd) -> dict:
    """The plan as a workflow in UI format; `blueprint` holds the node that it calls "edit"."""
    page.load(blueprint, plan.name)
    ids = page.page.evaluate(SURROUND, {"nodes": plan.nodes, "inner": "edit"})
    workflow = finish(plan, page, ids, arrange(plan, page, ids))
    workflow["definitions"] = blueprint["definitions"]
    (node,) = (node for node in workflow["nodes"] if node["id"] == ids["edit"])
    node["type"] = blueprint["nodes"][0]["type"]
    return workflow


def main() -> None:
    with open_page() as (page, object_info):
        built = {blueprint.plan.name: build_blueprint(blueprint, page, object_info) for blueprint in all_blueprints()}
        for name, blueprint in built.items():
            # ComfyUI 0.3.75 reads the file in whatever encoding the computer has
            save(blueprint, BLUEPRINTS / f"{name}.json", only_ascii=True)
        plan = one_node_plan()
        save(build_around(built[EDIT], plan, page), WORKFLOWS / f"{plan.name}.json")


if __name__ == "__main__":
    main()
