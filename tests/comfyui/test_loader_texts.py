"""Every loader says on its node what it loaded, in the real page."""

from harness.edit_graph import EDIT_LOADERS
from test_front_end import number_ids

SHOWN = """() => Object.fromEntries(app.graph.nodes.map(node =>
    [node.type, node.widgets?.find(widget => widget.name === 'shown')?.value ?? null]))"""
EXPECTED = {
    "Any2PixLoadImageBind": "ImageBind, ",
    "Any2PixLoadLLM": "Multimodal LLM, ",
    "Any2PixLoadPrior": "Refinement prior, ",
    "Any2PixLoadAdapter": "unCLIP projector, ",
    "Any2PixLoadDiffusion": "SDXL UNet, ",
}


def test_the_page_shows_what_each_loader_loaded(front_end, client, edit, screenshots):
    client.free()  # a loader that is taken from the cache tells nothing anew
    front_end.load_api(number_ids(edit))
    front_end.load(front_end.serialize(), "loaders")
    front_end.run()
    shown = front_end.page.evaluate(SHOWN)
    assert set(EXPECTED) == EDIT_LOADERS
    for node, start in EXPECTED.items():
        assert shown[node] and shown[node].startswith(start), f"{node}: {shown[node]}"
        for word in ("parameters", "miniature", "on "):
            assert word in shown[node]
    saved = front_end.serialize()
    texts = str([node.get("widgets_values") for node in saved["nodes"]])
    assert "parameters" not in texts, "what a node shows is not part of the saved workflow"
    front_end.page.evaluate(
        "() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [20, 80]; app.canvas.setDirty(true, true); }"
    )
    front_end.screenshot(screenshots / "loaders.png", whole_graph=False)
