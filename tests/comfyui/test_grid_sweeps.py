"""Grid Values on any number: seeds and steps of ComfyUI's own nodes and of ours, in one run on the real server."""

import numpy as np
import pytest
from comfyui_client.client import PromptRejected
from harness.edit_graph import node, with_defaults
from harness.graphs import with_inputs
from harness.pix2pix_graph import text_edit, text_grid

ROUNDING = 2 / 255  # two pictures that went through a file each
X, Y, X_INT, Y_INT = 0, 1, 3, 4
LARGEST_SEED = 2**64 - 1


def test_seeds_and_steps_of_stock_nodes_vary(client, object_info):
    graph = text_grid(object_info, f"5, {LARGEST_SEED}", "2, 3")
    graph["guider"]["inputs"] |= {"text_guidance": 4.0, "image_guidance": 1.5}
    graph["drawn"]["inputs"]["noise_seed"] = ["values", X_INT]
    graph["levels"]["inputs"]["steps"] = ["values", Y_INT]
    cells = client.pictures(client.run(graph), "PreviewImage")
    assert len(cells) == 4
    for cell, (steps, seed) in zip(
        cells, ((steps, seed) for steps in (2, 3) for seed in (5, LARGEST_SEED)), strict=True
    ):
        alone = with_inputs(text_edit(object_info), "guider", text_guidance=4.0, image_guidance=1.5)
        alone = with_inputs(with_inputs(alone, "drawn", noise_seed=seed), "levels", steps=steps)
        (picture,) = client.pictures(client.run(alone))
        np.testing.assert_allclose(cell, picture, atol=ROUNDING)


def test_one_axis_of_each_kind_on_the_stock_sampler(client, object_info):
    """KSampler's own seed, with control after generate, and its cfg."""
    graph = text_grid(object_info, "1, 2", "1.5, 4")
    for gone in ("guider", "drawn", "walk", "levels", "sampled"):
        del graph[gone]
    graph["sampled"] = node(
        "KSampler", model=["pix2pix", 0], positive=["both", 0], negative=["both", 1], latent_image=["both", 2],
        seed=["values", X_INT], cfg=["values", Y], steps=2, sampler_name="euler", scheduler="normal", denoise=1.0,
    )  # fmt: skip
    graph["both"] = node(
        "InstructPixToPixConditioning",
        positive=["asked", 0],
        negative=["unasked", 0],
        vae=["pix2pix", 2],
        pixels=["picture", 0],
    )
    cells = client.pictures(client.run(with_defaults(graph, object_info)), "PreviewImage")
    assert len({cell.tobytes() for cell in cells}) == 4


def test_our_own_seed_varies(client, edit):
    """Latent Noise Mix in the whole edit."""
    graph = with_inputs(edit, "noise", seed=["values", X_INT], alpha=["values", Y])
    graph["values"] = node("Any2PixGridValues", x_name="seed", x_values="1, 2", y_name="alpha", y_values="0.5, 1")
    pictures = client.pictures(client.run(graph))
    assert len(pictures) == 4
    assert np.abs(pictures[0] - pictures[1]).max() > ROUNDING, "another seed"
    np.testing.assert_array_equal(pictures[2], pictures[3], "at alpha 1 there is no fresh noise")


def test_a_fraction_on_a_whole_number_is_named_and_paints_nothing(client, object_info):
    graph = text_grid(object_info, "1, 2", "2, 2.5")
    graph["guider"]["inputs"] |= {"text_guidance": ["values", X], "image_guidance": 1.5}
    graph["levels"]["inputs"]["steps"] = ["values", Y_INT]
    run = client.queue(graph)
    client.wait(run)
    assert run.error["node_id"] == "levels"
    assert "y_values of Grid Values holds 2.5, but y_int is for integers" in run.error["exception_message"]
    client.wait_for(lambda: run.of_type("execution_success"), 60, "the end")
    assert not run.outputs.get("cells") and "sampled" not in {data["node"] for data in run.of_type("progress")}


def test_the_server_would_turn_the_float_away(client, object_info):
    """Why x_int is there: the type FLOAT does not fit a widget of the type INT."""
    graph = text_grid(object_info, "1, 2", "2, 3")
    graph["levels"]["inputs"]["steps"] = ["values", Y]
    with pytest.raises(PromptRejected, match=r"received_type\(FLOAT\) mismatch input_type\(INT\)"):
        client.queue(graph)


# Draws a line from every output of Grid Values to every number of KSampler: which ones the page takes.
CONNECT = """() => {
    app.graph.clear();
    const made = type => { const node = LiteGraph.createNode(type); app.graph.add(node); return node; };
    const values = made('Any2PixGridValues'), sampler = made('KSampler'), taken = {};
    values.outputs.forEach((output, slot) => {
        taken[output.name] = ['seed', 'steps', 'cfg', 'denoise'].filter(name => values.connect(slot, sampler, name));
    });
    return taken;
}"""


def test_the_page_lets_them_reach_every_number(front_end):
    taken = front_end.page.evaluate(CONNECT)
    whole, broken = ["seed", "steps"], ["cfg", "denoise"]
    assert taken == {"x": broken, "y": broken, "axes": [], "x_int": whole, "y_int": whole}
    (sampler,) = (body for body in front_end.prompt().values() if body["class_type"] == "KSampler")
    assert [sampler["inputs"][name][1] for name in (*whole, *broken)] == [Y_INT, Y_INT, Y, Y]


def test_the_cell_that_fails_is_named(client, edit):
    graph = with_inputs(edit, "instruct", max_new_tokens=["values", X_INT])
    graph["values"] = node("Any2PixGridValues", x_name="tokens", x_values="100, 90, 2", y_name="", y_values="1")
    run = client.wait(client.queue(graph))
    assert run.error["node_id"] == "instruct"
    assert run.error["exception_message"].startswith(
        "Run 3 of a list, as Grid Values makes one: The LLM's answer has no"
    )
    assert "raise max_new_tokens" in run.error["exception_message"]
