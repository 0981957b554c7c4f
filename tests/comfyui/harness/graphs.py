"""Graphs in API format, {id: {"class_type", "inputs"}}: finding nodes, changing inputs."""

import copy
from pathlib import Path

PAGE_WIDGETS = {"upload", "audioUI", "preview", "preview_text", "preview_markdown", "preview_mode", "previewMode"}
ROOT = Path(__file__).resolve().parents[3]


def offered(object_info: dict, node_id: str, name: str) -> list[str]:
    """What a node's combo input offers; a host tells it in one of two forms."""
    kind, *options = object_info[node_id]["input"]["required"][name]
    return options[0]["options"] if kind == "COMBO" else kind


def workflow_files() -> list[Path]:
    """The example workflows, UI format."""
    return sorted((ROOT / "workflows").glob("*.json"))


def blueprint_files() -> list[Path]:
    """The blueprints, UI format: workflows of one node."""
    return sorted((ROOT / "subgraphs").glob("*.json"))


def all_nodes(workflow: dict) -> list[dict]:
    """The nodes of a workflow in UI format, and those inside of its subgraphs."""
    inside = workflow.get("definitions", {}).get("subgraphs", [])
    return [node for graph in (workflow, *inside) for node in graph["nodes"]]


def nodes_of(graph: dict, class_type: str) -> list[str]:
    """The ids of the nodes of a type."""
    return [node for node, body in graph.items() if body["class_type"] == class_type]


def the_node(graph: dict, class_type: str) -> str:
    """The id of the only node of a type."""
    found = nodes_of(graph, class_type)
    assert len(found) == 1, f"the graph has {len(found)} nodes of type {class_type}, wanted one"
    return found[0]


def differences(ours: dict, theirs: dict) -> list[str]:
    """How two graphs in API format differ in what they ask for; titles and the page's upload buttons do not count."""
    found = [f"node {node} is on one side only" for node in sorted(set(ours) ^ set(theirs), key=by_number)]
    for node in sorted(set(ours) & set(theirs), key=by_number):
        one, other = asked(ours[node]), asked(theirs[node])
        for name in sorted(set(one) | set(other)):
            if one.get(name) != other.get(name):
                found.append(f"node {node}, {name}: {one.get(name)!r} and {other.get(name)!r}")
    return found


def by_number(node: str) -> list[int]:
    """How ids are sorted: 2 before 10, and 20:2, which stands inside of 20, before 20:10."""
    return [int(part) for part in node.split(":")]


def asked(body: dict) -> dict:
    """A node's type and inputs, without the widgets that only the page uses."""
    inputs = {name: value for name, value in body["inputs"].items() if name not in PAGE_WIDGETS}
    return {"class_type": body["class_type"], **inputs}


def overlapping(boxes: dict[int, tuple[float, float, float, float]]) -> list[str]:
    """Which nodes lie on each other."""
    found = []
    for one, (left, top, right, bottom) in boxes.items():
        for other, (x, y, to_x, to_y) in boxes.items():
            if one < other and left < to_x and x < right and top < to_y and y < bottom:
                found.append(f"{one} lies on {other}")
    return found


def with_inputs(graph: dict, node: str, **inputs) -> dict:
    """A copy of the graph with some inputs of one node replaced."""
    changed = copy.deepcopy(graph)
    unknown = set(inputs) - set(changed[node]["inputs"])
    assert not unknown, f"{changed[node]['class_type']} has no input {unknown} in this graph"
    changed[node]["inputs"].update(inputs)
    return changed
