"""What the nodes' schemas say, as data: the interface that saved workflows lean on, and the English texts.

`tests/public_nodes.json` pins the interface of every node that has landed; the tests take ids, widgets and outputs from
there. `python tools/pin_nodes.py` adds to it, `python tools/make_locales.py` writes the texts.
"""

import json
from typing import Any

import workspace

PINNED = workspace.ROOT / "tests" / "public_nodes.json"
OF_THE_HOST = {"name", "sampler_name", "scheduler"}  # widgets whose choices are files, or the host's
PINNED_OPTIONS = ("default", "min", "max", "step", "options", "multiline", "control_after_generate", "forceInput")


def load_schemas() -> list[Any]:
    """The schemas of all nodes, in the order of the list in nodes/. Imports ComfyUI."""
    workspace.import_comfyui()
    from any2pix.nodes import NODES
    from any2pix.nodes.host.folders import register_folders

    register_folders()
    return [node.GET_SCHEMA() for node in NODES]


def read_pinned() -> dict[str, dict]:
    """Node id -> its interface, of all nodes that have landed."""
    return json.loads(PINNED.read_text("utf-8"))


def widgets_of(interface: dict) -> list[str]:
    """The inputs that are widgets, in the order in which a workflow file holds their values."""
    return [entry["id"] for entry in interface["inputs"] if "widget" in entry]


def interface_of(schema: Any) -> dict:
    """What workflows and graphs in API format lean on: names, types, order, what is required, widgets' options."""
    return {
        "display_name": schema.display_name,
        "is_output": bool(schema.is_output_node),
        "inputs": [_input(entry) for entry in schema.inputs],
        "outputs": [{"name": entry.display_name, "type": str(entry.get_io_type())} for entry in schema.outputs],
    }


def _input(entry: Any) -> dict:
    from comfy_api.latest import io

    found = {"id": entry.id, "type": str(entry.get_io_type()), "required": not entry.optional}
    if isinstance(entry, io.WidgetInput):
        options = {name: value for name, value in entry.as_dict().items() if name in PINNED_OPTIONS}
        if entry.id in OF_THE_HOST:
            options.pop("options", None)
        found["widget"] = json.loads(json.dumps(options))
    return found


def breaks(landed: dict, today: dict) -> list[str]:
    """Changes to a landed interface after which a saved workflow or a graph might no longer run, or give another
    picture. More inputs behind the others are fine where they are optional, and so are more outputs and more choices.
    Making a required input optional is not: the page puts its widget behind those of required ones."""
    found = [name for name in ("display_name", "is_output") if landed[name] != today[name]]
    for kind in ("inputs", "outputs"):
        if len(today[kind]) < len(landed[kind]):
            found.append(f"fewer {kind}")
        for before, after in zip(landed[kind], today[kind], strict=False):
            if before != after and not _widened(before, after):
                found.append(f"{kind}: {json.dumps(before)} is now {json.dumps(after)}")
    more = [entry["id"] for entry in today["inputs"][len(landed["inputs"]) :] if entry["required"]]
    return found + [f"requires {name}: mark it optional, with its default" for name in more]


def _widened(before: dict, after: dict) -> bool:
    """Whether an input only has choices that it had not."""
    choices, more = (entry.get("widget", {}).get("options", []) for entry in (before, after))
    if not set(choices) < set(more):
        return False
    return before == {**after, "widget": {**after["widget"], "options": choices}}


def dump_pinned(interfaces: dict[str, dict]) -> str:
    """As JSON with a line for each input and output, so that a diff shows what changed."""

    def lines(entries: list[dict]) -> str:
        return "[" + ",".join(f"\n      {json.dumps(entry, ensure_ascii=False)}" for entry in entries) + "\n    ]"

    nodes = [
        f'  "{node_id}": {{\n'
        f'    "display_name": {json.dumps(one["display_name"])},\n'
        f'    "is_output": {json.dumps(one["is_output"])},\n'
        f'    "inputs": {lines(one["inputs"])},\n'
        f'    "outputs": {lines(one["outputs"]) if one["outputs"] else "[]"}\n'
        "  }"
        for node_id, one in interfaces.items()
    ]
    return "{\n" + ",\n".join(nodes) + "\n}\n"


def english_texts(schemas: list[Any]) -> dict[str, dict]:
    """Node id -> its texts in the form of ComfyUI's nodeDefs.json."""
    return {
        schema.node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {entry.id: {"name": entry.id, "tooltip": entry.tooltip} for entry in schema.inputs},
            "outputs": {
                str(place): {"name": entry.display_name, "tooltip": entry.tooltip}
                for place, entry in enumerate(schema.outputs)
            },
        }
        for schema in schemas
    }


def dump_texts(texts: dict) -> str:
    return json.dumps(texts, ensure_ascii=False, indent=2) + "\n"
