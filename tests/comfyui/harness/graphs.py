"""Graphs in API format, {id: {"class_type", "inputs"}}: finding nodes, changing inputs, converting workflow files."""

import copy
import json
import subprocess
from pathlib import Path

import comfy_server
import workspace

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


def comfy_cli(server: comfy_server.ComfyServer, *words: str, timeout: float = 600) -> list[dict]:
    """Runs comfy-cli against a server -> its events, the last one the envelope that carries "ok"."""
    command = [
        workspace.venv_python().parent / "comfy",
        "--skip-prompt",
        "--json-stream",
        "--workspace",
        workspace.comfyui_path(),
        *words,
    ]
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        env=comfy_server.quiet_environment(server.base / "home"),
        cwd=server.base,
    )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert events, f"comfy-cli said nothing it should: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return events


def api_format(server: comfy_server.ComfyServer, workflow: Path) -> dict:
    """A workflow file of either format -> API format, as comfy-cli converts it."""
    events = comfy_cli(
        server, "run", "--workflow", str(workflow), "--host", "127.0.0.1", "--port", str(server.port), "--print-prompt"
    )
    preview = next((event["prompt"] for event in events if event.get("type") == "prompt_preview"), None)
    assert preview, f"{workflow.name} could not be converted: {events[-1].get('error')}"
    return preview
