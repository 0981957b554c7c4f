"""Graphs in API format, {id: {"class_type", "inputs"}}: comparing them, changing inputs."""

import copy

PAGE_WIDGETS = {"upload", "audioUI", "preview", "preview_text", "preview_markdown", "preview_mode", "previewMode"}


def offered(object_info: dict, node_id: str, name: str) -> list[str]:
    """What a node's combo input offers; a host tells it in one of two forms."""
    kind, *options = object_info[node_id]["input"]["required"][name]
    return options[0]["options"] if kind == "COMBO" else kind


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
