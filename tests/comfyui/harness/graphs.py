"""Graphs in API format, {id: {"class_type", "inputs"}}: finding nodes, changing inputs."""

import copy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def workflow_files() -> list[Path]:
    """The example workflows, UI format."""
    return sorted((ROOT / "workflows").glob("*.json"))


def nodes_of(graph: dict, class_type: str) -> list[str]:
    """The ids of the nodes of a type."""
    return [node for node, body in graph.items() if body["class_type"] == class_type]


def the_node(graph: dict, class_type: str) -> str:
    """The id of the only node of a type."""
    found = nodes_of(graph, class_type)
    assert len(found) == 1, f"the graph has {len(found)} nodes of type {class_type}, wanted one"
    return found[0]


def with_inputs(graph: dict, node: str, **inputs) -> dict:
    """A copy of the graph with some inputs of one node replaced."""
    changed = copy.deepcopy(graph)
    unknown = set(inputs) - set(changed[node]["inputs"])
    assert not unknown, f"{changed[node]['class_type']} has no input {unknown} in this graph"
    changed[node]["inputs"].update(inputs)
    return changed
