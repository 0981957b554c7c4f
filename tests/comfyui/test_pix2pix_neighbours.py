"""Editing by text beside ControlNet, LoRA, masks, batches and nodes that patch the model, on the real server."""

import copy

import pytest
from any2pix.loading.pix2pix import load_pix2pix_unet
from any2pix.miniature import manifest
from harness.adapter_graph import difference
from harness.edit_graph import node, with_defaults
from harness.graphs import with_inputs
from harness.made_networks import write_control_lora, write_controlnet, write_lora
from harness.pix2pix_graph import edited, text_edit, with_control, with_stock_guidance
from test_errors import node_error

CONTROLNET, CONTROL_LORA, LORA = (f"test_pix2pix_{kind}.safetensors" for kind in ("controlnet", "control_lora", "lora"))
SAME = 1e-4  # relative; rows of a batch that ran together and alone
FELT = 0.01
# perturbed attention changes a whole edit of the miniature by 0.4 %; tests/nodes holds that it is just its own
PATCH_FELT = 1e-3
# guidances that leave one of the three predictions
ALONE = {"no picture": (0.0, 0.0), "picture": (0.0, 1.0), "instruction": (1.0, 1.0)}
PATCHES = ["FreeU_V2", "PerturbedAttentionGuidance", "SelfAttentionGuidance", "DifferentialDiffusion"]


@pytest.fixture(scope="module")
def networks(server):
    """The miniature's LoRA, ControlNet and Control-LoRA among the server's."""
    unet, models = manifest.FOLDER / manifest.PIX2PIX, server.base / "models"
    write_lora(models / "loras" / LORA, unet, load_pix2pix_unet)
    write_controlnet(models / "controlnet" / CONTROLNET, unet)
    write_control_lora(models / "controlnet" / CONTROL_LORA, unet, load_pix2pix_unet)


@pytest.fixture
def edit(object_info, networks):
    """The edit by text, the test's own to change."""
    return text_edit(object_info)


@pytest.fixture
def controlled(edit):
    return with_control(edit, CONTROLNET)


def scaled(size: tuple[int, int], picture: str, crop: str = "disabled") -> dict:
    method = "nearest-exact"  # ComfyUI's own for a ControlNet's picture
    return node("ImageScale", image=[picture, 0], upscale_method=method, width=size[0], height=size[1], crop=crop)


def test_a_controlnet_is_felt_as_strongly_as_is_asked_for(server, client, edit):
    without = edited(client, edit)

    def felt(**asked) -> float:
        return difference(edited(client, with_control(edit, CONTROLNET, **asked)), without)

    assert felt(strength=0.0) == felt(end=0.0) == 0.0
    assert FELT < felt(strength=0.5) < felt() < felt(strength=2.0)
    assert felt(end=0.5) > FELT and felt(start=0.5) > FELT
    log = server.log.read_text(errors="replace")
    assert "missing controlnet keys" not in log and "control could not be applied" not in log


@pytest.mark.parametrize("prediction", ALONE)
def test_each_prediction_has_the_controlnet_of_its_conditioning(client, controlled, edit, prediction):
    """Two without instruction have the negative's, whether the picture is in them or not. The node for positive alone
    reaches all of them, as it does with every guider."""
    scales = dict(zip(("text_guidance", "image_guidance"), ALONE[prediction], strict=True))
    without = edited(client, with_inputs(edit, "guider", **scales))
    controlled = with_inputs(controlled, "guider", **scales)
    both = edited(client, controlled)
    on_positive = edited(client, with_inputs(controlled, "guider", negative=["unasked", 0]))
    on_negative = edited(client, with_inputs(controlled, "guider", positive=["asked", 0]))
    older = copy.deepcopy(controlled)
    older["older"] = node(
        "ControlNetApply", conditioning=["asked", 0], control_net=["control", 0], image=["hint", 0], strength=1.0
    )
    older = edited(client, with_inputs(older, "guider", positive=["older", 0], negative=["unasked", 0]))
    assert difference(both, without) > FELT
    assert difference(older, both) < SAME
    own, other = (on_positive, on_negative) if prediction == "instruction" else (on_negative, on_positive)
    assert difference(own, both) < SAME
    assert difference(other, without) < SAME


def test_the_controlnets_picture_may_have_another_size(client, controlled):
    before = edited(client, controlled)
    larger = {**with_inputs(controlled, "controlled", image=["larger", 0]), "larger": scaled((256, 256), "hint")}
    assert difference(edited(client, larger), before) < SAME
    other = with_inputs(controlled, "controlled", image=["picture", 0])
    assert difference(edited(client, other), before) > FELT


def test_the_controlnets_picture_is_cut_to_an_edit_of_another_shape(client, controlled):
    """200 x 77 is edited as 200 x 72; its ControlNet goes by the middle of a square."""
    wide = {**with_inputs(controlled, "pixels", pixels=["wide", 0]), "wide": scaled((200, 77), "picture")}
    cut = {**with_inputs(wide, "controlled", image=["cut", 0]), "cut": scaled((200, 72), "hint", crop="center")}
    found = edited(client, wide)
    assert found.shape == (1, 4, 9, 25)
    assert difference(edited(client, cut), found) < SAME
    free = with_inputs(wide, "guider", positive=["asked", 0], negative=["unasked", 0])
    assert difference(edited(client, free), found) > FELT


@pytest.mark.parametrize("behind_another", [False, True])
def test_a_control_lora_is_named(client, edit, controlled, behind_another):
    """It copies the model's 8-channel first layer and would fail in the middle of sampling."""
    graph = with_control(edit, CONTROL_LORA)
    if behind_another:
        graph["full"] = node("ControlNetLoader", control_net_name=CONTROLNET)
        second = copy.deepcopy(graph["controlled"])
        second["inputs"] |= {"positive": ["controlled", 0], "negative": ["controlled", 1], "control_net": ["full", 0]}
        graph = with_inputs({**graph, "second": second}, "guider", positive=["second", 0], negative=["second", 1])
    found, said = node_error(client, graph)
    assert found == "guider" and "Control-LoRA" in said and "Load a full ControlNet" in said


def test_lora_controlnet_mask_and_a_batch_at_once(client, controlled):
    """Two pictures, each with its own hint, are edited as each alone; what the mask keeps is kept."""
    graph = controlled
    graph["lora"] = node("LoraLoaderModelOnly", model=["pix2pix", 0], lora_name=LORA, strength_model=1.0)
    graph["second"] = node("LoadImage", image="toyland_beach.png")
    graph["half"] = node("LoadImage", image="toyland_masked.png")
    graph["two"] = node("ImageBatch", image1=["picture", 0], image2=["second", 0])
    graph["hints"] = node("ImageBatch", image1=["hint", 0], image2=["half", 0])
    graph["masked"] = node("SetLatentNoiseMask", samples=["pixels", 0], mask=["half", 1])
    graph = with_inputs(graph, "pixels", pixels=["two", 0])
    graph = with_inputs(graph, "controlled", image=["hints", 0])
    graph = with_inputs(graph, "guider", model=["lora", 0], image=["masked", 0])
    found = edited(client, graph)
    assert found.shape == (2, 4, 16, 16)
    for row in (0, 1):
        alone = copy.deepcopy(graph)
        alone["row"] = node("LatentFromBatch", samples=["masked", 0], batch_index=row, length=1)
        alone["its_hint"] = node("ImageFromBatch", image=["hints", 0], batch_index=row, length=1)
        alone = with_inputs(alone, "controlled", image=["its_hint", 0])
        alone = with_inputs(alone, "guider", image=["row", 0])
        assert difference(found[row : row + 1], edited(client, alone)) < SAME
    sources = edited(client, {**graph, "sampled": graph["pixels"]})
    kept, open_half = slice(0, 8), slice(8, 16)
    assert difference(found[..., kept], sources[..., kept]) < SAME
    assert difference(found[..., open_half], sources[..., open_half]) > 10 * FELT
    for input_name, plain in (("model", ["pix2pix", 0]), ("positive", ["asked", 0]), ("image", ["pixels", 0])):
        assert difference(edited(client, with_inputs(graph, "guider", **{input_name: plain})), found) > FELT


@pytest.mark.parametrize("patch", PATCHES)
def test_nodes_that_patch_the_model_do_what_they_do_with_the_stock_guider(client, object_info, edit, patch):
    """At image guidance 1, where the two guiders are the same; and at any other they do something. The mask has a soft
    edge."""
    edit["open"] = node("SolidMask", value=1.0, width=128, height=128)
    edit["soft"] = node("FeatherMask", mask=["open", 0], left=64, top=0, right=0, bottom=0)
    edit["masked"] = node("SetLatentNoiseMask", samples=["pixels", 0], mask=["soft", 0])
    edit = with_inputs(edit, "guider", image=["masked", 0])
    edit["patched"] = node(patch, model=["pix2pix", 0])
    patched = with_defaults(with_inputs(edit, "guider", model=["patched", 0]), object_info)
    assert difference(edited(client, patched), edited(client, edit)) > PATCH_FELT
    plain = with_inputs(patched, "guider", image_guidance=1.0)
    assert difference(edited(client, with_stock_guidance(plain)), edited(client, plain)) < SAME
