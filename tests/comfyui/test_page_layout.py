"""Every example workflow as the page draws it, with classic and with Vue nodes: nothing lies on anything else."""

import json

import pytest
from comfyui_client.graphs import workflow_files
from harness.graphs import overlapping

OURS = "edit_with_sound"
pytestmark = pytest.mark.usefixtures("made_for_stock_nodes")


@pytest.fixture(params=workflow_files(), ids=lambda path: path.stem)
def opened(request, page):
    page.load(json.loads(request.param.read_text("utf-8")), request.param.stem)
    page.show_all()
    return page


def test_nothing_lies_on_a_node_and_no_wire_runs_under_one(opened):
    boxes = opened.boxes()
    assert not overlapping(boxes)
    assert not opened.cut_notes()
    assert moves_nodes(opened) or not opened.crossed()


def moves_nodes(page):
    """Front end 1.32 moves a workflow's nodes apart for Vue nodes, and its wires' points by another measure, into the
    nodes."""
    return page.page.evaluate("() => LiteGraph.vueNodesMode && app.graph.extra.workflowRendererVersion === 'Vue'")


def test_nothing_does_once_the_nodes_show_what_they_gave(page, client, screenshots):
    path = next(path for path in workflow_files() if path.stem == OURS)
    page.load(json.loads(path.read_text("utf-8")), path.stem)
    page.run()
    page.show_all()
    assert not overlapping(page.boxes())
    assert moves_nodes(page) or not page.crossed()
    page.screenshot(screenshots / f"layout_{'vue' if page.page.evaluate('LiteGraph.vueNodesMode') else 'classic'}.png")
