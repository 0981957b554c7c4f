"""Every node, input and output is explained: schemas, translations and help pages say the same."""

import inspect
import json
import re

import pytest
from any2pix.nodes import NODES
from node_schemas import dump_texts, english_texts

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
    written = (root / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")
    assert written == dump_texts(english_texts(list(schemas.values()))), "run `python tools/make_locales.py`"


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


def test_every_category_has_a_name(schemas, root, language):
    names = json.loads((root / "locales" / language / "main.json").read_text(encoding="utf-8"))["nodeCategories"]
    assert set(names) == {part for schema in schemas.values() for part in schema.category.split("/")}


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
