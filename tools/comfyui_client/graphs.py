"""Where the workflows lie, and finding nodes in them. API format: {id: {"class_type", "inputs"}}."""

from pathlib import Path

from workspace import ROOT


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
