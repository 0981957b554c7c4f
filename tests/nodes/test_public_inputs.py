"""Graphs in API format name every required input: one that is added would turn away every graph made before it."""

import pytest
from any2pix.nodes import NODES

pytestmark = pytest.mark.one_host

REQUIRED = {
    "Any2PixLoadImageBind": {"name"},
    "Any2PixLoadLLM": {"name", "precision"},
    "Any2PixLoadPrior": {"name"},
    "Any2PixLoadAdapter": {"name"},
    "Any2PixLoadDiffusion": {"name"},
    "Any2PixLoadInstructPix2Pix": {"name"},
    "Any2PixImageEmbedding": {"imagebind", "image"},
    "Any2PixAudioEmbedding": {"imagebind", "audio"},
    "Any2PixTextEmbedding": {"imagebind", "text"},
    "Any2PixInstruct": {"llm", "instruction", "seed", "temperature", "max_new_tokens"},
    "Any2PixRetrieveBase": {"references", "blank_size"},
    "Any2PixRefine": {"prior", "embedding", "source", "aesthetic_score", "guidance"},
    "Any2PixMixEmbeddings": {"edit", "edit_weight", "refined_weight", "base_weight", "norm"},
    "Any2PixDDIMInvert": {"model", "conditioning", "latent", "steps", "scheduler", "iterations", "tolerance"},
    "Any2PixNoiseMix": {"latent", "seed", "alpha", "mode"},
    "Any2PixApplyEmbedding": {"model", "adapter", "embedding", "scale", "start_percent", "end_percent"},
    "Any2PixSampler": {"model", "adapter", "embedding", "latent", "seed", "steps", "cfg", "sampler_name", "scheduler"},
    "Any2PixInstructPix2PixGuider": {"model", "positive", "image", "text_guidance", "image_guidance"},
    "Any2PixGridValues": {"x_name", "x_values", "y_name", "y_values"},
    "Any2PixLabelledGrid": {"images", "axes"},
}


def test_no_node_requires_more_than_it_did(tiny):
    schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}
    for node_id, known in REQUIRED.items():
        required = {entry.id for entry in schemas[node_id].inputs if not entry.optional}
        assert required <= known, f"{node_id} newly requires {required - known}: mark it optional, with its default"
