"""Every node, input and output is explained: schemas, translations and help pages say the same."""

import inspect
import json
import re

import pytest
from any2pix.nodes import NODES

pytestmark = pytest.mark.one_host

LANGUAGES = ("en", "zh")


@pytest.fixture(scope="module")
def schemas(tiny):
    return {schema.node_id: schema for schema in (node.GET_SCHEMA() for node in NODES)}


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture(scope="module")
def texts(root, language):
    return json.loads((root / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def test_every_input_and_output_has_a_tooltip(schemas):
    for schema in schemas.values():
        assert schema.display_name and schema.description and schema.category.startswith("any2pix")
        for socket in (*schema.inputs, *schema.outputs):
            assert socket.tooltip, f"{schema.node_id}: {socket.id}"


def test_the_english_texts_are_those_of_the_schemas(schemas, root):
    texts = json.loads((root / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    for node_id, schema in schemas.items():
        assert texts[node_id] == {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {entry.id: {"name": entry.id, "tooltip": entry.tooltip} for entry in schema.inputs},
            "outputs": {
                str(i): {"name": entry.display_name, "tooltip": entry.tooltip} for i, entry in enumerate(schema.outputs)
            },
        }


def test_every_language_has_every_text(schemas, texts):
    assert set(texts) == set(schemas)
    for node_id, schema in schemas.items():
        assert list(texts[node_id]["inputs"]) == [entry.id for entry in schema.inputs]
        assert len(texts[node_id]["outputs"]) == len(schema.outputs)
        entries = [*texts[node_id]["inputs"].values(), *texts[node_id]["outputs"].values()]
        assert all(entry["name"] and entry["tooltip"] for entry in entries)


def test_every_socket_type_of_ours_has_a_name(schemas, root, language):
    names = json.loads((root / "locales" / language / "main.json").read_text(encoding="utf-8"))["dataTypes"]
    types = {entry.get_io_type() for schema in schemas.values() for entry in (*schema.inputs, *schema.outputs)}
    assert set(names) == {name for name in types if name.startswith("MM_") or name == "IMAGEBIND"}


def test_every_node_has_a_help_page_that_explains_each_input(schemas, texts, root, language):
    for node_id, schema in schemas.items():
        page = root / "web" / "docs" / (f"{node_id}.md" if language == "en" else f"{node_id}/{language}.md")
        content = page.read_text(encoding="utf-8")
        assert content.startswith(f"# {texts[node_id]['display_name']}\n")
        for entry in schema.inputs:
            assert entry.id in content and texts[node_id]["inputs"][entry.id]["name"] in content, (
                f"{page.name}: {entry.id}"
            )


def ours(node):
    """The node's class and what of ours it is made from."""
    return [kind for kind in node.__mro__ if kind.__module__.startswith("any2pix.")]


def test_the_page_has_room_for_the_text_of_every_node_that_shows_one(schemas, root):
    shows = {
        node.GET_SCHEMA().node_id: node
        for node in NODES
        if "PreviewText" in "".join(map(inspect.getsource, ours(node)))
    }
    listed = re.search(
        r"SHOWS_TEXT = new Set\(\[(.*?)\]\)", (root / "web" / "show_text.js").read_text("utf-8"), re.S
    ).group(1)
    assert set(re.findall(r'"(\w+)"', listed)) == set(shows)
    if hasattr(next(iter(schemas.values())), "has_intermediate_output"):
        assert {node_id for node_id, schema in schemas.items() if schema.has_intermediate_output} == set(shows)


def test_every_node_is_found_by_other_words_where_the_host_looks_for_them(schemas):
    known = [schema.search_aliases for schema in schemas.values() if hasattr(schema, "search_aliases")]
    assert all(known) and len(known) in (0, len(schemas))


def test_the_widgets_stay_where_saved_workflows_expect_them(schemas):
    """Workflow files hold widget values by place: these orders are a public interface."""
    from comfy_api.latest import io

    widgets = {
        node_id: [entry.id for entry in schema.inputs if isinstance(entry, io.WidgetInput)]
        for node_id, schema in schemas.items()
    }
    assert widgets == {
        "Any2PixLoadImageBind": ["name", "precision"],
        "Any2PixLoadLLM": ["name", "precision", "merge"],
        "Any2PixLoadPrior": ["name", "precision"],
        "Any2PixLoadAdapter": ["name", "precision"],
        "Any2PixLoadDiffusion": ["name", "precision"],
        "Any2PixLoadInstructPix2Pix": ["name", "precision"],
        "Any2PixImageEmbedding": [],
        "Any2PixAudioEmbedding": [],
        "Any2PixTextEmbedding": ["text"],
        "Any2PixInstruct": ["instruction", "seed", "temperature", "max_new_tokens"],
        "Any2PixRetrieveBase": ["blank_size"],
        "Any2PixRefine": ["source", "aesthetic_score", "guidance", "text"],
        "Any2PixMixEmbeddings": ["edit_weight", "refined_weight", "base_weight", "norm", "formula"],
        "Any2PixDDIMInvert": ["steps", "scheduler", "iterations", "tolerance", "start_at_step", "cfg"],
        "Any2PixNoiseMix": ["seed", "alpha", "mode"],
        "Any2PixApplyEmbedding": ["scale", "start_percent", "end_percent", "view", "local_strength"],
        "Any2PixSampler": ["seed", "steps", "cfg", "sampler_name", "scheduler", "scale", "view", "local_strength"],
        "Any2PixInstructPix2PixGuider": ["text_guidance", "image_guidance"],
        "Any2PixGridValues": ["x_name", "x_values", "y_name", "y_values"],
        "Any2PixLabelledGrid": [],
        "Any2PixSaveReferences": ["name", "overwrite"],
        "Any2PixLoadReferences": ["name"],
        "Any2PixPickReference": ["mark"],
        "Any2PixSaveEmbedding": ["name", "overwrite"],
        "Any2PixLoadEmbedding": ["name"],
        "Any2PixSaveInversion": ["name", "overwrite"],
        "Any2PixLoadInversion": ["name"],
    }
