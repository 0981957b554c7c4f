"""Names that are not installed are errors at every widget that offers names; other packs' selectors can be linked to
them."""

import any2pix.nodes as pack
import comfy.samplers
import pytest
import torch
from any2pix.nodes.sockets import Embedding
from harness.coroutines import result_of
from harness.unet_eps import seeded

pytestmark = pytest.mark.one_host

UNKNOWN = "bong_tangent"


def invert(run, networks, texts, **change):
    widgets = {"steps": 3, "scheduler": "normal", "iterations": 1, "tolerance": 0.1}
    inputs = {"model": networks["model"], "conditioning": texts[0], "latent": {"samples": seeded(1, 4, 6, 9, seed=1)}}
    return run(pack.DDIMInvert, **{**inputs, **widgets, **change})


def paint(run, networks, vectors, **change):
    widgets = {"seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    inputs = {"model": networks["model"], "adapter": networks["adapter"], "embedding": vectors[0]}
    inputs["latent"] = {"samples": torch.zeros(1, 4, 4, 4)}
    return run(pack.EmbeddingSampler, **{**inputs, **widgets, **change})


def refine(run, networks, vectors, **change):
    widgets = {"source": "predicted", "aesthetic_score": 6.5, "guidance": 1.0}
    return run(pack.Refine, prior=networks["prior"], embedding=vectors[0], **{**widgets, **change})


@pytest.mark.parametrize("blank", [False, True])
def test_a_scheduler_that_is_not_there_is_named_by_ddim_invert(run, networks, texts, blank):
    base = {"base": Embedding(None)} if blank else {}
    with pytest.raises(ValueError, match="scheduler of DDIM Invert is 'bong_tangent'.*karras.*install"):
        invert(run, networks, texts, scheduler=UNKNOWN, **base)


@pytest.mark.parametrize("widget", ["sampler_name", "scheduler"])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_sampler_or_scheduler_that_is_not_there_is_named_by_our_sampler(
    run, networks, texts, vectors, widget, inverted
):
    latent = {"latent": invert(run, networks, texts)[0], "steps": 3} if inverted else {}
    with pytest.raises(ValueError, match=f"{widget} of SDXL Embedding Sampler is 'res_2s'.*(euler|karras)"):
        paint(run, networks, vectors, **{widget: "res_2s"}, **latent)


def test_no_steps_are_named(run, networks, texts, vectors):
    with pytest.raises(ValueError, match="steps of DDIM Invert is 0. It must be from 1 to 1000"):
        invert(run, networks, texts, steps=0)
    with pytest.raises(ValueError, match="steps of SDXL Embedding Sampler is 0"):
        paint(run, networks, vectors, steps=0)


def test_what_another_pack_installs_later_is_there(run, networks, texts, monkeypatch):
    handler = comfy.samplers.SCHEDULER_HANDLERS["normal"]
    monkeypatch.setitem(comfy.samplers.SCHEDULER_HANDLERS, UNKNOWN, handler)
    monkeypatch.setattr(comfy.samplers.KSampler, "SCHEDULERS", [*comfy.samplers.KSampler.SCHEDULERS, UNKNOWN])
    assert pack.DDIMInvert.validate_inputs(scheduler=UNKNOWN) is True
    assert invert(run, networks, texts, scheduler=UNKNOWN)[0]["samples"].isfinite().all()


LOADERS = {
    "Load ImageBind": pack.LoadImageBind,
    "Load Multimodal LLM": pack.LoadLLM,
    "Load Refinement Prior": pack.LoadPrior,
    "Load Embedding Adapter": pack.LoadAdapter,
    "Load Embedding Diffusion": pack.LoadDiffusion,
    "Load InstructPix2Pix": pack.LoadInstructPix2Pix,
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_precision_that_is_not_there_is_named(run, tiny, name):
    with pytest.raises(ValueError, match=f"precision of {name} is 'int4'.*auto, fp32, bf16, fp16"):
        run(LOADERS[name], name=tiny, precision="int4")


def test_a_merge_that_is_not_there_is_named(run, tiny):
    with pytest.raises(ValueError, match="merge of Load Multimodal LLM is 'append'.*add, substitute"):
        run(pack.LoadLLM, name=tiny, merge="append")


def test_a_mode_a_source_a_formula_and_a_view_that_are_not_there_are_named(run, networks, texts, vectors, apply):
    inverted = invert(run, networks, texts)[0]
    with pytest.raises(ValueError, match="mode of Latent Noise Mix is 'slerp'.*paper, polar"):
        run(pack.NoiseMix, latent=inverted, seed=0, alpha=0.5, mode="slerp")
    for source in ("smell", "video"):
        with pytest.raises(ValueError, match=f"source of Refinement Prior is '{source}'.*predicted"):
            refine(run, networks, vectors, source=source)
    weights = {"edit_weight": 1.0, "refined_weight": 0.0, "base_weight": 0.0, "norm": 20.0}
    with pytest.raises(ValueError, match="formula of the embedding mix must be one of .*'sum'"):
        run(pack.MixEmbeddings, edit=vectors[0], formula="sum", **weights)
    with pytest.raises(ValueError, match="view of the two-view adapter is 'sideways'.*global"):
        apply(vectors[0], view="sideways")


# --- in a graph -----------------------------------------------------------------------------------------------------


class AnyType(str):
    """As packs write a socket that fits everywhere."""

    def __ne__(self, other):
        return False


def selector(output_type, chosen="karras"):
    """Another pack's node that gives a name."""

    class Selector:
        RETURN_TYPES, FUNCTION, CATEGORY = (output_type,), "select", "test"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {}}

        def select(self):
            return (chosen,)

    return Selector


OTHER_SCHEDULERS = ["normal", "karras", "a scheduler of another pack"]
LINKED = {
    "COMBO": "COMBO",
    "the host's list": comfy.samplers.KSampler.SCHEDULERS,
    "another list": OTHER_SCHEDULERS,
    "any": AnyType("*"),
    "a star": "*",
    "STRING": "STRING",
}
CHOICES = {
    "Any2PixDDIMInvert": ["scheduler"],
    "Any2PixNoiseMix": ["mode"],
    "Any2PixSampler": ["sampler_name", "scheduler", "view"],
    "Any2PixApplyEmbedding": ["view"],
    "Any2PixMixEmbeddings": ["formula"],
    "Any2PixRefine": ["source"],
}
NODES = [(node, widget) for node, widgets in CHOICES.items() for widget in widgets]


@pytest.fixture
def errors_at(monkeypatch):
    """What ComfyUI says of one input of a node of ours: its own validation of a graph."""
    import execution

    import nodes

    classes = {node.GET_SCHEMA().node_id: node for node in result_of(_all_nodes())}
    monkeypatch.setattr(nodes, "NODE_CLASS_MAPPINGS", dict(classes))

    def found(node, widget, value, **others):
        nodes.NODE_CLASS_MAPPINGS.update(others)
        graph = {"asked": {"class_type": node, "inputs": {widget: value}}}
        graph |= {name: {"class_type": name, "inputs": {}} for name in others}
        validation = execution.validate_inputs("prompt", graph, "asked", {})
        _, errors, _ = result_of(validation)
        return [error for error in errors if error["type"] != "required_input_missing"]

    return found


async def _all_nodes():
    return await (await pack.comfy_entrypoint()).get_node_list()


@pytest.mark.parametrize("output", LINKED)
@pytest.mark.parametrize(("node", "widget"), NODES)
def test_a_selector_of_another_pack_can_be_linked(errors_at, node, widget, output):
    assert errors_at(node, widget, ["selector", 0], selector=selector(LINKED[output])) == []


@pytest.mark.parametrize("output", ["LATENT", "INT", "SIGMAS"])
@pytest.mark.parametrize(("node", "widget"), NODES)
def test_what_is_no_name_cannot_be_linked(errors_at, node, widget, output):
    (error,) = errors_at(node, widget, ["other", 0], other=selector(output))
    assert error["type"] == "return_type_mismatch"


@pytest.mark.parametrize(("node", "widget"), NODES)
def test_a_typed_name_that_is_not_there_is_refused_before_the_run(errors_at, node, widget):
    errors = errors_at(node, widget, UNKNOWN)
    assert errors and UNKNOWN in str(errors) and "Choose one of" in str(errors)


@pytest.mark.parametrize(("node", "widget"), NODES)
def test_every_name_that_is_offered_is_there(errors_at, node, widget):
    classes = {one.GET_SCHEMA().node_id: one for one in result_of(_all_nodes())}
    inputs = classes[node].INPUT_TYPES()
    _, told = {**inputs["required"], **inputs.get("optional", {})}[widget]
    for name in told["options"]:
        assert errors_at(node, widget, name) == []


def test_a_selectors_name_is_checked_when_the_node_runs(run, networks, texts):
    assert invert(run, networks, texts, scheduler=selector(OTHER_SCHEDULERS)().select()[0])
    with pytest.raises(ValueError, match="scheduler of DDIM Invert is 'a scheduler of another pack'"):
        invert(run, networks, texts, scheduler=OTHER_SCHEDULERS[-1])


def test_a_text_without_the_pooled_vector_of_sdxl_is_named(run, networks, texts):
    """What another checkpoint's CLIP gives: ComfyUI itself stops with KeyError: 'pooled_output'."""
    bare = [[text, {}] for text, _ in texts[0]]
    with pytest.raises(ValueError, match="conditioning of DDIM Invert has no pooled vector"):
        invert(run, networks, [bare, texts[1]])


def test_a_text_of_another_width_is_named(run, networks, texts):
    narrow = [[text[..., 1:], extras] for text, extras in texts[0]]
    with pytest.raises(ValueError, match="conditioning of DDIM Invert has 47 numbers a token, this model reads 48"):
        invert(run, networks, [narrow, texts[1]])
