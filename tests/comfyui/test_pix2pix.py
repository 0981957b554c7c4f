"""Editing by text on the real server: grids in one run, what runs again, cancel, bad graphs, LoRA, mask, ComfyUI's own
nodes."""

import time

import numpy as np
import pytest
from any2pix.loading.pix2pix import load_pix2pix_unet
from any2pix.miniature import manifest
from harness.edit_graph import node
from harness.graphs import with_inputs
from harness.made_networks import write_lora
from harness.pix2pix_graph import text_edit, text_grid, with_stock_guidance
from test_cancel import CANCEL_SECONDS, ENDLESS, progress_of
from test_errors import node_error

AFTER_GUIDANCE = {"Any2PixInstructPix2PixGuider", "SamplerCustomAdvanced", "VAEDecode", "SaveImage"}
LOADED_AND_ENCODED = {"Any2PixLoadInstructPix2Pix", "LoadImage", "VAEEncode", "CLIPTextEncode"}
ROUNDING = 2 / 255  # two pictures that went through a file each
LORA = "any2pix_pix2pix_lora.safetensors"


@pytest.fixture
def edit(object_info):
    """The edit by text, the test's own to change."""
    return text_edit(object_info)


def only_picture(client, graph: dict) -> np.ndarray:
    (picture,) = client.pictures(client.run(graph))
    return picture


def found_at(picture: np.ndarray, cell: np.ndarray) -> tuple[int, int]:
    """Row and column from which on the cell stands in the picture, as it is."""
    height, width = cell.shape[:2]
    for y, x in np.argwhere((picture == cell[0, 0]).all(-1)):
        if np.array_equal(picture[y : y + height, x : x + width], cell):
            return int(y), int(x)
    raise AssertionError("the cell is not in the picture")


def test_one_run_makes_the_grid_of_all_combinations(client, object_info, edit):
    run = client.run(text_grid(object_info, "2, 4, 6", "1, 1.7"))
    (grid,), cells = client.pictures(run), client.pictures(run, "PreviewImage")
    assert len(cells) == 6
    corners = [found_at(grid, cell) for cell in cells]
    rows, columns = sorted({y for y, _ in corners}), sorted({x for _, x in corners})
    assert corners == [(y, x) for y in rows for x in columns] and (len(rows), len(columns)) == (2, 3)
    for index, (text_guidance, image_guidance) in {1: (4.0, 1.0), 5: (6.0, 1.7)}.items():
        alone = with_inputs(edit, "guider", text_guidance=text_guidance, image_guidance=image_guidance)
        np.testing.assert_allclose(cells[index], only_picture(client, alone), atol=ROUNDING)


def test_a_grid_loads_and_encodes_once(client, object_info, edit):
    client.run(edit)
    run = client.run(text_grid(object_info, "2, 3", "1.3"))
    assert run.classes(run.cached) >= LOADED_AND_ENCODED
    assert run.classes(run.executed) == AFTER_GUIDANCE | {"Any2PixGridValues", "Any2PixLabelledGrid", "PreviewImage"}


@pytest.mark.parametrize("change", [{"text_guidance": 3.3}, {"image_guidance": 1.9}], ids=str)
def test_another_guidance_runs_neither_text_encoder_nor_vae_encoder(client, edit, change):
    before = only_picture(client, edit)
    run = client.run(with_inputs(edit, "guider", **change))
    assert run.classes(run.executed) == AFTER_GUIDANCE
    assert run.classes(run.cached) >= LOADED_AND_ENCODED
    assert np.abs(client.pictures(run)[0] - before).max() > ROUNDING


def test_another_instruction_encodes_that_text_alone(client, edit):
    client.run(edit)
    run = client.run(with_inputs(edit, "asked", text="make it an ink drawing"))
    assert "asked" in run.executed and {"unasked", "pixels", "pix2pix"} <= run.cached


@pytest.mark.parametrize("many", [False, True], ids=["one", "grid"])
def test_cancel_within_a_second_and_a_clean_next_run(client, object_info, edit, many):
    before = only_picture(client, edit)
    endless = with_inputs(text_grid(object_info, "2, 3", "1, 2") if many else edit, "levels", steps=ENDLESS)
    run = client.queue(endless)
    client.wait_for(lambda: progress_of(run, "sampled"), 120, "progress of the sampler")
    asked = time.time()
    client.interrupt()
    client.wait(run, timeout=30)
    assert run.outcome == "execution_interrupted"
    (stopped,) = run.of_type("execution_interrupted")
    assert stopped["timestamp"] / 1000 - asked < CANCEL_SECONDS
    again = only_picture(client, with_inputs(edit, "saved", filename_prefix="after"))
    np.testing.assert_array_equal(before, again)


def four_channels(edit):
    edit["diffusion"] = node("Any2PixLoadDiffusion", name="miniature")
    return with_inputs(edit, "guider", model=["diffusion", 0]), "guider", ["4 input channels", "CosXL Edit"]


def no_negative(edit):
    del edit["guider"]["inputs"]["negative"]
    return edit, "guider", ["no negative", "CLIP Text Encode, with no text"]


def other_latent(edit):
    edit["empty"] = node("EmptyLatentImage", width=64, height=96, batch_size=1)
    return with_inputs(edit, "sampled", latent_image=["empty", 0]), "sampled", ["8 x 12", "16 x 16", "latent output"]


def empty_picture(edit):
    edit["empty"] = node("EmptyLatentImage", width=128, height=128, batch_size=1)
    return with_inputs(edit, "guider", image=["empty", 0]), "guider", ["empty latent", "VAE Encode"]


@pytest.mark.parametrize("bad", [four_channels, no_negative, other_latent, empty_picture])
def test_a_bad_graph_says_what_to_do_on_its_node(client, edit, bad):
    graph, where, words = bad(edit)
    found, said = node_error(client, graph)
    assert found == where
    for word in words:
        assert word in said


def bad_number(graph):
    return with_inputs(graph, "values", x_values="2, three"), "values", "x_values holds 'three', which is not a number"


def unconnected_values(graph):
    return (
        with_inputs(graph, "guider", text_guidance=4.0, image_guidance=1.5),
        "grid",
        "2 x 1 = 2 cells and got 1 picture",
    )


@pytest.mark.parametrize("bad", [bad_number, unconnected_values])
def test_a_bad_grid_says_what_to_do_on_its_node(client, object_info, bad):
    graph, where, words = bad(text_grid(object_info, "2, 3", "1.5"))
    found, said = node_error(client, graph)
    assert found == where and words in said


def test_comfyuis_own_conditioning_is_image_guidance_1(client, object_info, edit):
    """InstructPixToPixConditioning puts the picture on both sides: how much of it stays cannot be chosen."""
    ours = only_picture(client, with_inputs(edit, "guider", image_guidance=1.0))
    stock = with_inputs(with_stock_guidance(edit), "sampled", latent_image=["both", 2])
    del stock["guider"]
    np.testing.assert_allclose(only_picture(client, stock), ours, atol=ROUNDING)
    assert np.abs(only_picture(client, edit) - ours).max() > ROUNDING, "1.5 keeps more of the picture"


def test_a_lora_on_the_model_changes_the_picture_and_leaves_the_next_run_alone(server, client, edit):
    write_lora(server.base / "models" / "loras" / LORA, manifest.FOLDER / manifest.PIX2PIX, load_pix2pix_unet)
    before = only_picture(client, edit)
    steered = with_inputs(edit, "guider", model=["lora", 0])
    steered["lora"] = node("LoraLoaderModelOnly", model=["pix2pix", 0], lora_name=LORA, strength_model=1.0)
    assert np.abs(only_picture(client, steered) - before).max() > ROUNDING
    client.free()
    np.testing.assert_array_equal(only_picture(client, edit), before)


def test_outside_a_mask_the_picture_is_the_one_that_was_brought(client, object_info):
    """Halves are decoded alone: the VAE normalises over the whole picture, and one half would shade the other."""
    edit = text_edit(object_info, image="toyland_masked.png")
    edit["masked"] = node("SetLatentNoiseMask", samples=["pixels", 0], mask=["picture", 1])
    edit = with_inputs(edit, "guider", image=["masked", 0])

    def half(latent: str, x: int) -> np.ndarray:
        graph = with_inputs(edit, "decoded", samples=["half", 0])
        graph["half"] = node("LatentCrop", samples=[latent, 0], width=64, height=128, x=x, y=0)
        return only_picture(client, graph)

    np.testing.assert_allclose(half("sampled", 0), half("pixels", 0), atol=ROUNDING)
    assert np.abs(half("sampled", 64) - half("pixels", 64)).mean() > 0.02
