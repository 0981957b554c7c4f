"""The harness itself, on ComfyUI's own nodes: when these fail, no other test here says anything of the pack."""

import json

import numpy as np
import pytest
from cli_runner import CliError, api_format, run_cli
from comfyui_client.client import PromptRejected
from harness.graphs import differences, with_inputs

RED = 0xFF0000


def stock_graph(color: int = RED) -> dict:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "harness"}},
    }


def test_a_graph_runs_and_its_picture_comes_back(client):
    run = client.run(stock_graph())
    (picture,) = client.pictures(run)
    assert picture.shape == (32, 64, 3)
    np.testing.assert_array_equal(picture[0, 0], [1, 0, 0])


def test_messages_tell_what_ran_and_what_was_cached(client):
    first = client.run(stock_graph(color=1234))
    assert first.executed == {"1", "2"}
    second = client.run(with_inputs(stock_graph(color=1234), "2", filename_prefix="other"))
    assert (second.executed, second.cached) == ({"2"}, {"1"})


def test_a_bad_graph_is_rejected_with_the_nodes_error(client):
    with pytest.raises(PromptRejected) as caught:
        client.queue(with_inputs(stock_graph(), "1", width=-5))
    (error,) = caught.value.answer["node_errors"]["1"]["errors"]
    assert error["type"] == "value_smaller_than_min"


def test_comfy_cli_runs_a_graph(server, tmp_path):
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(stock_graph(color=7)))
    *events, envelope = run_cli(server, "--workflow", file, "--wait")
    assert envelope["ok"] and len(envelope["data"]["outputs"]) == 1
    assert [event["node"] for event in events if event["type"] == "executing"] == ["1", "2"]


def test_comfy_cli_fails_with_the_nodes_error(server, tmp_path):
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(with_inputs(stock_graph(), "1", width=-5)))
    with pytest.raises(CliError, match="node 1.*width"):
        run_cli(server, "--workflow", file, "--wait")


def test_the_front_end_loads_serializes_and_runs(front_end, server, client, screenshots, tmp_path):
    front_end.load_api(stock_graph(color=99))
    workflow = front_end.serialize()
    front_end.load(workflow, "harness")
    assert front_end.inspect() == {"missing": [], "unknown": []}
    file = tmp_path / "workflow.json"
    file.write_text(json.dumps(workflow))
    assert not differences(front_end.prompt(), api_format(server, file))
    prompt_id = front_end.run()
    assert client.get(f"/history/{prompt_id}")[prompt_id]["status"]["status_str"] == "success"
    assert front_end.screenshot(screenshots / "harness.png").stat().st_size > 10_000


def test_the_front_end_names_missing_nodes(front_end):
    front_end.load_api(stock_graph())
    workflow = front_end.serialize()
    workflow["nodes"][0]["type"] = "NoSuchNode"
    front_end.load(workflow, "broken")
    assert front_end.inspect()["missing"] == ["NoSuchNode"]
    front_end.page.keyboard.press("Escape")
