"""The whole edit in the real page: nodes and widgets are known, it runs, and it looks as an artist will see it."""

from harness.edit_graph import NODE_IDS
from harness.graphs import differences


def test_the_page_runs_the_whole_edit(front_end, client, edit, screenshots):
    numbered = number_ids(edit)
    front_end.load_api(numbered)
    front_end.load(front_end.serialize(), "whole edit")
    assert front_end.inspect() == {"missing": [], "unknown": []}
    assert not differences(front_end.prompt(), numbered)
    prompt_id = front_end.run()
    status = client.get(f"/history/{prompt_id}")[prompt_id]["status"]
    assert status["status_str"] == "success"
    front_end.screenshot(screenshots / "whole_edit.png")
    assert not front_end.shown_errors()


def test_the_page_knows_every_node_with_its_words(front_end):
    known = front_end.page.evaluate(
        "ids => ids.map(id => LiteGraph.registered_node_types[id]?.nodeData?.display_name ?? null)", sorted(NODE_IDS)
    )
    assert None not in known


def number_ids(graph: dict) -> dict:
    """The same graph with "1", "2", ... for ids: the page knows no others."""
    numbers = {name: str(place) for place, name in enumerate(graph, start=1)}
    return {
        numbers[name]: {
            "class_type": body["class_type"],
            "inputs": {
                key: [numbers[value[0]], value[1]] if isinstance(value, list) else value
                for key, value in body["inputs"].items()
            },
        }
        for name, body in graph.items()
    }
