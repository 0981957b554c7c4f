"""What the server tells about the pack's nodes: ids, names, sockets, words for the artist."""

import pytest
from harness.edit_graph import LOADERS, NODE_IDS
from harness.graphs import offered

# id -> (display name, outputs): the public interface, as the plan of the house has it
PUBLIC = {
    "Any2PixLoadImageBind": ("Load ImageBind", ["IMAGEBIND"]),
    "Any2PixLoadLLM": ("Load Multimodal LLM", ["MM_LLM"]),
    "Any2PixLoadPrior": ("Load Refinement Prior", ["MM_PRIOR"]),
    "Any2PixLoadAdapter": ("Load Embedding Adapter", ["MM_ADAPTER"]),
    "Any2PixLoadDiffusion": ("Load Embedding Diffusion", ["MODEL", "VAE"]),
    "Any2PixImageEmbedding": ("Load Image Embedding", ["MM_REFERENCES"]),
    "Any2PixAudioEmbedding": ("Load Audio Embedding", ["MM_REFERENCES"]),
    "Any2PixTextEmbedding": ("Load Text Embedding", ["MM_REFERENCES"]),
    "Any2PixInstruct": (
        "Multimodal Instruction LLM",
        ["MM_EMBEDDING", "MM_EMBEDDING", "STRING", "MM_SUBJECTS", "STRING"],
    ),
    "Any2PixRetrieveBase": ("Base Retrieval", ["IMAGE", "MM_EMBEDDING", "INT"]),
    "Any2PixRefine": ("Refinement Prior", ["MM_EMBEDDING"]),
    "Any2PixMixEmbeddings": ("Embedding Mix", ["MM_EMBEDDING"]),
    "Any2PixDDIMInvert": ("DDIM Invert", ["LATENT", "NOISE", "SIGMAS"]),
    "Any2PixNoiseMix": ("Latent Noise Mix", ["LATENT", "NOISE"]),
    "Any2PixApplyEmbedding": ("Apply Embedding", ["MODEL", "CONDITIONING", "CONDITIONING"]),
    "Any2PixSampler": ("SDXL Embedding Sampler", ["LATENT"]),
    "Any2PixLoadInstructPix2Pix": ("Load InstructPix2Pix", ["MODEL", "CLIP", "VAE"]),
    "Any2PixInstructPix2PixGuider": ("InstructPix2Pix Guidance", ["GUIDER", "LATENT"]),
    "Any2PixGridValues": ("Grid Values", ["FLOAT", "FLOAT", "MM_AXES", "INT", "INT"]),
    "Any2PixLabelledGrid": ("Labelled Grid", ["IMAGE"]),
    "Any2PixSaveReferences": ("Save References", []),
    "Any2PixLoadReferences": ("Load References", ["MM_REFERENCES"]),
    "Any2PixPickReference": ("Pick Reference", ["MM_EMBEDDING", "IMAGE"]),
    "Any2PixSaveEmbedding": ("Save Embedding", []),
    "Any2PixLoadEmbedding": ("Load Embedding", ["MM_EMBEDDING"]),
    "Any2PixSaveInversion": ("Save Inversion", []),
    "Any2PixLoadInversion": ("Load Inversion", ["LATENT", "NOISE", "SIGMAS"]),
}


def test_exactly_the_planned_nodes_are_there(object_info):
    ours = {name for name, info in object_info.items() if info["python_module"].endswith("instructany2pix")}
    assert ours == NODE_IDS == set(PUBLIC)


@pytest.mark.parametrize("node_id", sorted(PUBLIC))
def test_a_node_keeps_its_public_interface(object_info, node_id):
    info = object_info[node_id]
    name, outputs = PUBLIC[node_id]
    assert info["display_name"] == name
    assert info["output"] == outputs
    assert info["category"].split("/")[0] == "any2pix"


@pytest.mark.parametrize("node_id", sorted(PUBLIC))
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
