"""Saved workflows and graphs in API format go on running: tests/public_nodes.json pins the nodes that have landed."""

import copy

import node_schemas
import pytest
from any2pix.nodes import NODES

pytestmark = pytest.mark.one_host

PINNED = node_schemas.read_pinned()


@pytest.fixture(scope="module")
def today(tiny):
    return {schema.node_id: node_schemas.interface_of(schema) for schema in (node.GET_SCHEMA() for node in NODES)}


@pytest.mark.parametrize("node_id", PINNED)
def test_a_node_that_has_landed_stays_as_it_is(today, node_id):
    assert node_id in today, f"{node_id} is gone: nodes/host/renames.py keeps old ids working"
    assert not node_schemas.breaks(PINNED[node_id], today[node_id])


def test_what_is_new_is_pinned(today):
    new = [node_id for node_id, interface in today.items() if PINNED.get(node_id) != interface]
    assert not new and list(PINNED) == list(today), f"run `python tools/pin_nodes.py`: {new}"
    assert node_schemas.dump_pinned(today) == node_schemas.PINNED.read_text("utf-8")


SEED = {"id": "seed", "type": "INT", "required": True, "widget": {"default": 0}}
MODE = {"id": "mode", "type": "COMBO", "required": True, "widget": {"default": "a", "options": ["a", "b"]}}
LATENT = {"id": "latent", "type": "LATENT", "required": False}
NODE = {
    "display_name": "A Node",
    "is_output": False,
    "inputs": [SEED, MODE, LATENT],
    "outputs": [{"name": "model", "type": "MODEL"}, {"name": "latent", "type": "LATENT"}],
}


def changed(**parts) -> dict:
    return {**copy.deepcopy(NODE), **parts}


@pytest.mark.parametrize(
    "fine",
    [
        changed(),
        changed(inputs=[SEED, MODE, LATENT, {"id": "more", "type": "MASK", "required": False}]),
        changed(inputs=[SEED, {**MODE, "widget": {"default": "a", "options": ["a", "b", "c"]}}, LATENT]),
        changed(outputs=[*NODE["outputs"], {"name": "sigmas", "type": "SIGMAS"}]),
    ],
)
def test_a_node_may_grow(fine):
    assert node_schemas.breaks(NODE, fine) == []


@pytest.mark.parametrize(
    "broken",
    [
        changed(display_name="Another Node"),
        changed(is_output=True),
        changed(inputs=[MODE, SEED, LATENT]),
        changed(inputs=[SEED, MODE]),
        changed(inputs=[SEED, MODE, {**LATENT, "id": "samples"}]),
        changed(inputs=[SEED, MODE, {**LATENT, "type": "IMAGE"}]),
        changed(inputs=[SEED, MODE, {**LATENT, "required": True}]),
        changed(inputs=[{**SEED, "required": False}, MODE, LATENT]),  # its widget would move behind mode's
        changed(inputs=[{**SEED, "widget": {"default": 1}}, MODE, LATENT]),
        changed(inputs=[SEED, {**MODE, "widget": {"default": "a", "options": ["a", "c"]}}, LATENT]),
        changed(inputs=[SEED, MODE, LATENT, {"id": "more", "type": "MASK", "required": True}]),
        changed(outputs=NODE["outputs"][:1]),
        changed(outputs=NODE["outputs"][::-1]),
    ],
)
def test_a_node_may_not_change(broken):
    assert len(node_schemas.breaks(NODE, broken)) >= 1
