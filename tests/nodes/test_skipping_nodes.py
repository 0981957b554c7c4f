"""DDIM Invert on a MODEL whose calls other nodes skip: it runs without them, or names them; what does not skip
stays."""

import logging

import comfy.samplers
import pytest
import torch
from any2pix.nodes import ApplyEmbedding, DDIMInvert
from any2pix.nodes.sockets import Embedding
from comfy.patcher_extension import WrappersMP
from harness.unet_eps import relative, seeded

pytestmark = pytest.mark.one_host

STEPS = 8
SAME = 1e-5


@pytest.fixture(scope="module")
def clean():
    return {"samples": seeded(1, 4, 8, 8, seed=8) / 0.13025}


@pytest.fixture(scope="module")
def applied(run, networks):
    widgets = {"scale": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    embedding = Embedding(20 * torch.nn.functional.normalize(seeded(64, seed=1), dim=0))
    return run(ApplyEmbedding, model=networks["model"], adapter=networks["adapter"], embedding=embedding, **widgets)


@pytest.fixture(scope="module")
def invert(run, applied, clean):
    def inverted(model, iterations=10, **more):
        widgets = {"steps": STEPS, "scheduler": "normal", "iterations": iterations, "tolerance": 1e-3}
        inputs = {"model": model, "conditioning": applied[1], "latent": clean, **widgets, **more}
        return run(DDIMInvert, **inputs)[0]["samples"]

    return inverted


@pytest.fixture(scope="module")
def truth(invert, applied):
    """iterations -> the latent that the network alone leads to."""
    return {iterations: invert(applied[0], iterations) for iterations in (1, 10)}


def cached(node, model):
    """The MODEL behind EasyCache or LazyCache, eager to skip."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    node = {"EasyCache": EasyCacheNode, "LazyCache": LazyCacheNode}[node]
    return node.execute(model, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False).result[0]


@pytest.mark.parametrize("iterations", [1, 10])
@pytest.mark.parametrize("node", ["EasyCache", "LazyCache"])
def test_comfyuis_caches_change_nothing(invert, applied, truth, caplog, node, iterations):
    model = cached(node, applied[0])
    with caplog.at_level(logging.INFO):
        assert relative(invert(model, iterations), truth[iterations]) < SAME
    assert f"runs without {node.lower()}" in caplog.text
    assert node.lower() in str(model.wrappers), "the sampler's model keeps it"


def test_a_function_that_is_named_as_a_cache_is_taken_off(invert, applied, truth):
    """Its key says nothing; packs use their own names there, or none."""
    seen = []

    class TeaCache:
        def wrapper(self, executor, *args, **kwargs):
            seen.append(args)
            return executor(*args, **kwargs)

    model = applied[0].clone()
    model.add_wrapper(WrappersMP.PREDICT_NOISE, TeaCache().wrapper)
    assert torch.equal(invert(model), truth[10]) and not seen


class Skips:
    """Gives every second answer again, as a pack under any name may do at any of the places that ComfyUI has for it."""

    def __init__(self):
        self.calls, self.kept = 0, None

    def answer(self, ask):
        self.calls += 1
        if self.calls % 2:
            self.kept = ask()
        return self.kept

    def wrapper(self, executor, *args, **kwargs):
        return self.answer(lambda: executor(*args, **kwargs))

    def function(self, apply_model, told):
        return self.answer(lambda: apply_model(told["input"], told["timestep"], **told["c"]))

    def batch(self, told):
        def ask():
            return comfy.samplers.calc_cond_batch(
                told["model"], told["conds"], told["input"], told["sigma"], told["model_options"]
            )

        return self.answer(ask)

    def __deepcopy__(self, memo):
        return self


PLACES = [WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL]


def skipping(model, place):
    skips, model = Skips(), model.clone()
    if place == "model_function_wrapper":
        model.set_model_unet_function_wrapper(skips.function)
    elif place == "sampler_calc_cond_batch_function":
        model.set_model_sampler_calc_cond_batch_function(skips.batch)
    else:
        model.add_wrapper_with_key(place, "speedup", skips.wrapper)
    return model


@pytest.mark.parametrize("iterations", [1, 10])
@pytest.mark.parametrize("place", [*PLACES, "model_function_wrapper", "sampler_calc_cond_batch_function"])
def test_a_skip_of_any_other_name_is_an_error_that_names_it(invert, applied, place, iterations):
    name = "speedup" if place in PLACES else r"Skips\.(function|batch)"
    with pytest.raises(
        ValueError, match=rf"(?s)At noise level .* skipped the network.*from before that node.*{name} \({place}\)"
    ):
        invert(skipping(applied[0], place), iterations)


def test_a_skip_of_a_part_of_the_network_is_an_error(invert, applied):
    """As DeepCache does it: the inner blocks give what they gave before, the outer ones run."""
    unet, skips = applied[0].model.diffusion_model, Skips()
    model = applied[0].clone()
    inner = unet.input_blocks[-1]

    def wrapper(executor, *args, **kwargs):
        skips.calls += 1
        if skips.calls % 2:
            return executor(*args, **kwargs)
        try:
            unet.input_blocks = torch.nn.ModuleList(list(unet.input_blocks)[:-1])
            output = unet.output_blocks
            unet.output_blocks = torch.nn.ModuleList(list(output)[1:])
            return executor(*args, **kwargs)
        finally:
            unet.input_blocks = torch.nn.ModuleList([*unet.input_blocks, inner])
            unet.output_blocks = output

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "deep", wrapper)
    with pytest.raises(ValueError, match="or a part of it.*deep"):
        invert(model)


def test_wrappers_that_ask_the_network_each_time_are_felt(invert, applied, truth):
    def louder(executor, *args, **kwargs):
        return 1.01 * executor(*args, **kwargs)

    found = []
    for place in PLACES:
        model = applied[0].clone()
        model.add_wrapper_with_key(place, "louder", louder if place != WrappersMP.CALC_COND_BATCH else
                                   lambda executor, *args: [1.01 * out for out in executor(*args)])  # fmt: skip
        found.append(relative(invert(model), truth[10]))
    assert min(found) > 1e-3


def test_the_log_counts_the_calls_that_the_network_had(invert, applied, caplog):
    calls, model = [], applied[0].clone()

    def count(executor, *args, **kwargs):
        calls.append(args)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "count", count)
    with caplog.at_level(logging.INFO):
        invert(model)
    assert f"the network ran {len(calls)} times for {STEPS} steps; " in caplog.text


def test_a_network_that_nobody_can_look_into_is_not_said_to_be_checked(invert, applied, truth, caplog):
    """A pack's own network in the place of ComfyUI's, as the engines of TensorRT are."""

    class Engine(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.dtype = [inner], inner.dtype

        def forward(self, x, timesteps, context, y=None, transformer_options=None, **more):
            return self.inner[0](x, timesteps, context, y)

    model = applied[0].clone()
    model.add_object_patch("diffusion_model", Engine(model.model.diffusion_model))
    with caplog.at_level(logging.INFO):
        assert relative(invert(model), truth[10]) < SAME
    assert "was not checked" in caplog.text


def test_a_gap_in_the_conditionings_time_range_is_named(run, applied, clean, invert):
    import node_helpers

    late = node_helpers.conditioning_set_values(applied[1], {"start_percent": 0.3})
    early = node_helpers.conditioning_set_values(applied[1], {"end_percent": 0.4})
    with pytest.raises(ValueError, match=r"At noise level 14\.61 no entry of the conditioning of DDIM Invert applies"):
        invert(applied[0], conditioning=late)
    with pytest.raises(ValueError, match="no entry of the conditioning"):
        invert(applied[0], conditioning=early)
    assert invert(applied[0], conditioning=early + late).isfinite().all()


def test_the_connected_model_stays_as_it_is(invert, applied):
    before = (str(applied[0].wrappers), str(applied[0].model_options["transformer_options"]))
    invert(applied[0], 1)
    assert (str(applied[0].wrappers), str(applied[0].model_options["transformer_options"])) == before


def test_a_cancelled_inversion_leaves_nothing_behind(invert, applied, truth):
    import comfy.model_management as management

    calls, model = [], applied[0].clone()

    def cancel(executor, *args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            management.interrupt_current_processing()
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "cancel", cancel)
    with pytest.raises(management.InterruptProcessingException):
        invert(model, 1)
    assert len(calls) == 3, "the next call is not made"
    assert torch.equal(invert(model, 1), truth[1])
