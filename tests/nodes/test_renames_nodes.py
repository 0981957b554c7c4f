"""A node that was renamed answers to its old id, and hosts that replace nodes are told."""

import sys
from types import SimpleNamespace

import pytest
from any2pix.nodes import GridValues
from any2pix.nodes.host.renames import RENAMED, old_ids, register_renames
from comfy_api.latest import ComfyAPI
from harness.coroutines import result_of

pytestmark = pytest.mark.one_host

MADE_UP = {"Any2PixOldGrid": GridValues}


def test_a_renamed_node_runs_under_its_old_id_and_says_that_it_is_old(run):
    (old,) = old_ids(MADE_UP)
    schema = old.GET_SCHEMA()
    assert (schema.node_id, schema.is_deprecated) == ("Any2PixOldGrid", True)
    assert GridValues.GET_SCHEMA().node_id == "Any2PixGridValues"
    assert [value.id for value in schema.inputs] == [value.id for value in GridValues.GET_SCHEMA().inputs]
    widgets = {"x_name": "a", "x_values": "1, 2", "y_name": "b", "y_values": "3"}
    assert run(old, **widgets)[0] == run(GridValues, **widgets)[0]


def test_hosts_that_replace_nodes_are_told_and_others_left_alone(monkeypatch):
    knows = hasattr(ComfyAPI, "NodeReplacement")
    told = []
    manager = SimpleNamespace(register=told.append)
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace(node_replace_manager=manager)))
    monkeypatch.setitem(sys.modules, "server", server)
    result_of(register_renames(MADE_UP))
    assert [(value.old_node_id, value.new_node_id) for value in told] == [
        ("Any2PixOldGrid", "Any2PixGridValues")
    ] * knows


def test_old_ids_are_not_those_of_todays_nodes(tiny):
    from any2pix.nodes import NODES

    assert not set(RENAMED) & {node.define_schema().node_id for node in NODES}
