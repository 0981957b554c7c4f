"""What the server tells about the pack's nodes: ids, names, sockets, words for the artist."""

import pytest
from harness.edit_graph import LOADERS
from harness.graphs import offered
from node_schemas import read_pinned

PINNED = read_pinned()


def test_exactly_the_planned_nodes_are_there(object_info):
    ours = {name for name, info in object_info.items() if info["python_module"].endswith("instructany2pix")}
    assert ours == set(PINNED)


@pytest.mark.parametrize("node_id", sorted(PINNED))
def test_a_node_keeps_its_public_interface(object_info, node_id):
    info, pinned = object_info[node_id], PINNED[node_id]
    assert info["display_name"] == pinned["display_name"]
    assert info["output"] == [entry["type"] for entry in pinned["outputs"]]
    assert info["output_name"] == [entry["name"] for entry in pinned["outputs"]]
    for group, required in (("required", True), ("optional", False)):
        names = [entry["id"] for entry in pinned["inputs"] if entry["required"] is required]
        assert list(info["input"].get(group, {})) == names
    assert info["category"].split("/")[0] == "any2pix"


@pytest.mark.parametrize("node_id", sorted(PINNED))
def test_every_input_and_output_explains_itself(object_info, node_id):
    info = object_info[node_id]
    assert info["description"]
    for group in ("required", "optional"):
        for name, (_, *options) in info["input"].get(group, {}).items():
            assert options and options[0].get("tooltip"), f"{node_id}.{name} has no tooltip"
    assert all(info["output_tooltips"]) and len(info["output_tooltips"]) == len(info["output"])


@pytest.mark.parametrize("node_id", sorted(LOADERS))
def test_a_loader_offers_the_miniature_first(object_info, node_id):
    assert offered(object_info, node_id, "name")[0] == "miniature"


def test_the_example_inputs_are_offered(object_info, root):
    pictures, sounds = offered(object_info, "LoadImage", "image"), offered(object_info, "LoadAudio", "audio")
    assert {file.name for file in (root / "workflows" / "inputs").iterdir()} <= {*pictures, *sounds}


def test_the_server_started_without_a_complaint_about_the_pack(server):
    log = server.log.read_text(errors="replace")
    assert "IMPORT FAILED" not in log
    assert "comfy_entrypoint" not in log
