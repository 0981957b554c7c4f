"""What a node tells of its result stands on the node, in the real page, with classic and with Vue nodes."""

import pytest
from harness.edit_graph import EDIT_LOADERS, in_few_steps
from test_front_end import number_ids

SHOWN = """() => Object.fromEntries(app.graph.nodes.map(node =>
    [node.type, node.widgets?.find(widget => widget.name === 'shown')?.value ?? null]))"""
# How tall a node's text stands on the page, 0 where it cannot be seen.
SEEN = """type => {
    const node = app.graph.nodes.find(node => node.type === type);
    const {element} = node.widgets.find(widget => widget.name === 'shown');
    return element.isConnected && element.checkVisibility() ? element.getBoundingClientRect().height : 0;
}"""
GO_TO = """type => {
    const [x, y] = app.graph.nodes.find(node => node.type === type).pos;
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [400 - x, 200 - y];
    app.canvas.setDirty(true, true);
}"""
EXPECTED = {
    "Any2PixLoadImageBind": "ImageBind, ",
    "Any2PixLoadLLM": "Multimodal LLM, ",
    "Any2PixLoadPrior": "Refinement prior, ",
    "Any2PixLoadAdapter": "unCLIP projector, ",
    "Any2PixLoadDiffusion": "SDXL UNet, ",
}
ALWAYS_TOLD = ("Any2PixInstruct", "Any2PixRetrieveBase")  # as outputs they tell their text anew while they are cached
TAB, STOCK_TAB = "texts to come back to", "a picture to come back to"
SETTLED = 3000  # milliseconds after a click on a tab
STOCK = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "toyland_meadow.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "stock"}},
}
LEAST_HEIGHT = 60  # pixels, three lines
BUSY = {  # a second of work for the server
    "1": {"class_type": "EmptyImage", "inputs": {"width": 320, "height": 320, "batch_size": 1, "color": 0}},
    "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "blur_radius": 31, "sigma": 10.0}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}
TO_SUBGRAPH = """() => {
    const node = app.graph.nodes.find(node => node.type === 'Any2PixInstruct');
    const {subgraph} = app.graph.convertToSubgraph(new Set([node]));
    return subgraph.id;
}"""
IN_SUBGRAPH = """id => app.graph.subgraphs.get(id).nodes.find(node => node.type === 'Any2PixInstruct')
    .widgets.find(widget => widget.name === 'shown').value"""


@pytest.fixture
def edit(edit):
    """In few steps: the texts are there before anything is painted."""
    return in_few_steps(edit)


def open_edit(page, edit, name="loaders"):
    page.load_api(number_ids(edit))
    page.load(page.serialize(), name)


def test_the_page_shows_what_each_loader_loaded(page, client, edit, screenshots):
    client.free()
    open_edit(page, edit)
    page.run()
    shown = page.page.evaluate(SHOWN)
    assert set(EXPECTED) == EDIT_LOADERS
    for node, start in EXPECTED.items():
        assert shown[node] and shown[node].startswith(start), f"{node}: {shown[node]}"
        for word in ("parameters", "miniature", "on "):
            assert word in shown[node]
    assert "cat" in shown["Any2PixInstruct"]
    page.page.evaluate(
        "() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [20, 80]; app.canvas.setDirty(true, true); }"
    )
    page.screenshot(screenshots / "loaders.png", whole_graph=False)
    saved, sent = str([node.get("widgets_values") for node in page.serialize()["nodes"]]), str(page.prompt())
    assert "parameters" not in saved + sent, "what a node shows is not part of the workflow"


def test_the_text_can_be_seen_before_and_after_a_run(page, client, edit):
    open_edit(page, edit)
    for run in (lambda: None, page.run):
        run()
        for node in ("Any2PixInstruct", "Any2PixLoadLLM"):
            page.page.evaluate(GO_TO, node)
            page.page.wait_for_timeout(500)
            assert page.page.evaluate(SEEN, node) >= LEAST_HEIGHT, node


def test_a_page_that_is_opened_anew_is_told_what_is_cached(page, client, edit, object_info):
    open_edit(page, edit)
    page.run()
    before = page.page.evaluate(SHOWN)
    page.page.reload()
    page.wait_until_ready()
    open_edit(page, edit)
    assert not any(page.page.evaluate(SHOWN).values())
    page.run()
    after = page.page.evaluate(SHOWN)
    keeps = "has_intermediate_output" in object_info["Any2PixLoadLLM"]
    for node in (*ALWAYS_TOLD, *(EXPECTED if keeps else ())):
        assert after[node] and after[node] == before[node], node


def test_a_copy_of_a_node_has_a_text_of_its_own(page, client, edit):
    open_edit(page, edit)
    page.run()
    texts = page.page.evaluate("""() => {
        const node = app.graph.nodes.find(node => node.type === 'Any2PixInstruct'), copy = node.clone();
        app.graph.add(copy);
        const text = node => node.widgets.find(widget => widget.name === 'shown').value;
        const before = text(copy);
        copy.onExecuted({text: ['another', 'and one more']});
        return [before, text(copy), text(node)];
    }""")
    assert texts[:2] == ["", "another\n\nand one more"] and "cat" in texts[2]


def test_a_node_in_a_subgraph_shows_its_text(page, client, edit):
    open_edit(page, edit)
    subgraph = page.page.evaluate(TO_SUBGRAPH)
    page.run()
    assert "cat" in page.page.evaluate(IN_SUBGRAPH, subgraph)


def test_back_on_its_tab_a_workflow_shows_its_texts_again(page, client, edit):
    client.free()
    page.load_api(STOCK)
    page.load(page.serialize(), STOCK_TAB)
    page.run()
    if not returns_to(page, STOCK_TAB):
        pytest.skip("this front end does not open a tab again either that holds Load Image and Save Image alone")
    open_edit(page, edit, TAB)
    # the page forgets for its tabs what the server tells before the page knows which prompt it is of
    client.queue(BUSY)
    page.run()
    before = page.page.evaluate(SHOWN)
    assert returns_to(page, TAB)
    assert "cat" in before["Any2PixInstruct"]
    assert page.page.evaluate(SHOWN) == before


def returns_to(page, tab: str) -> bool:
    """Opens another workflow and goes back to the tab; whether what the tab holds comes back."""
    count = page.page.evaluate("() => app.graph.nodes.length")
    page.load_api({"1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}})
    page.page.wait_for_function("tab => !app.extensionManager.workflow.activeWorkflow.path.includes(tab)", arg=tab)
    page.page.wait_for_timeout(1000)  # what the page still does with the workflow that it has just opened
    assert "Any2PixInstruct" not in page.page.evaluate(SHOWN)
    page.page.locator(".workflow-label").get_by_text(tab).click()
    page.page.wait_for_timeout(SETTLED)
    return page.page.evaluate("() => app.graph.nodes.length") == count
