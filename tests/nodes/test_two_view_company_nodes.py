"""The two-view adapter in company: chained, beside other packs and adapters, with the model manager, the sampler and
DDIM Invert."""

import copy
import gc
import weakref

import pytest
import torch
from any2pix.nodes import DDIMInvert, EmbeddingSampler
from harness.unet_eps import load_network, relative, seeded, unet_eps

TIMESTEP = 421


def test_two_views_of_one_adapter_add_up(apply, vectors, latents):
    """Chained: the second picture's attention is added beside the first's, in either order."""
    first = apply(vectors[0])
    both = apply(vectors[1], model=first[0], positive=first[1], negative=first[2])
    assert both[0] is first[0], "one wrapper does for one adapter"
    swapped = apply(vectors[1])
    swapped = apply(vectors[0], model=swapped[0], positive=swapped[1], negative=swapped[2])
    one = unet_eps(both[0], both[1], latents, TIMESTEP)
    assert relative(one, unet_eps(swapped[0], swapped[1], latents, TIMESTEP)) < 1e-5
    assert relative(one, unet_eps(first[0], first[1], latents, TIMESTEP)) > 0.02


def test_two_adapters_each_with_its_own_weights(apply, vectors, latents, two_view_file):
    other = load_network(two_view_file)
    first = apply(vectors[0])
    both = apply(vectors[1], adapter=other, model=first[0], positive=first[1], negative=first[2])
    same = apply(vectors[1], model=first[0], positive=first[1], negative=first[2])
    assert len(both[0].get_nested_additional_models()) == 2
    found, expected = (unet_eps(*side[:2], latents, TIMESTEP) for side in (both, same))
    assert relative(found, expected) < 1e-5


class Doubling:
    """An attention patch of another pack, with that pack's protocol: it takes what stands there, others `.add` to
    it."""

    def __init__(self, factor):
        self.factor, self.more = factor, []

    def add(self, factor):
        self.more.append(factor)

    def __call__(self, q, k, v, extra):
        from comfy.ldm.modules.attention import optimized_attention

        out = optimized_attention(q, k, v, extra["n_heads"])
        return out * (1 + self.factor + sum(self.more))


@pytest.mark.parametrize("key", [("input", 3), ("input", 3, 0)])
def test_it_adds_to_whatever_patch_stands_in_a_block_in_either_order(apply, vectors, latents, model, key):
    def patched(clone):
        clone = clone.clone()
        clone.set_model_attn2_replace(Doubling(0.5), *key)
        return clone

    first = apply(vectors[0], model=patched(model))
    second = apply(vectors[0])
    results = [
        unet_eps(first[0], first[1], latents, TIMESTEP),
        unet_eps(patched(second[0]), second[1], latents, TIMESTEP),
    ]
    assert torch.equal(*results)
    assert relative(results[0], unet_eps(second[0], second[1], latents, TIMESTEP)) > 1e-4, "that patch is felt"
    assert relative(results[0], unet_eps(patched(model), first[1], latents, TIMESTEP)) > 0.02, "ours is felt"


def test_a_pack_that_changes_the_rows_of_a_block_is_named(apply, vectors, latents):
    def doubled(q, context, value, extra):
        return (part.repeat(2, 1, 1) for part in (q, context, value))

    painting, positive, _ = apply(vectors[0])
    painting = painting.clone()
    painting.set_model_attn2_patch(doubled)
    with pytest.raises(ValueError, match="with 4 rows instead of the 2 that are sampled"):
        unet_eps(painting, positive, latents, TIMESTEP)


def test_clones_share_the_weights(apply, vectors, two_view):
    painting = apply(vectors[0])[0]
    clone = painting.clone().clone()
    (additional,) = clone.get_nested_additional_models()
    assert additional.model is two_view.module
    (wrapper,) = (
        w for keys in clone.wrappers.values() for found in keys.values() for w in found if hasattr(w, "adapter")
    )
    assert copy.deepcopy(wrapper) is wrapper and wrapper.adapter is two_view


def test_nothing_keeps_the_adapter_alive_but_what_was_made_with_it(apply, vectors, latents, two_view_file):
    adapter = load_network(two_view_file)
    module = weakref.ref(adapter.module)
    painting, positive, negative = apply(vectors[0], adapter=adapter)
    del adapter
    unet_eps(painting, positive, latents, TIMESTEP)
    assert module() is not None
    del painting, positive, negative
    gc.collect()
    assert module() is None


def test_the_model_manager_loads_the_adapter_with_the_model(apply, vectors, latents, two_view):
    import comfy.model_management as management

    painting, positive, _ = apply(vectors[0])
    management.unload_all_models()
    unet_eps(painting, positive, latents, TIMESTEP)
    assert any(loaded.model.model is two_view.module for loaded in management.current_loaded_models)


def test_the_sampler_paints_the_pixels_of_apply_embedding_and_a_stock_sampler(
    run, apply, vectors, texts, model, two_view
):
    from nodes import KSamplerAdvanced

    views = {"local": vectors[1], "negative_embedding": vectors[2], "view": "both", "local_strength": 0.3, "scale": 0.6}
    painting, positive, negative = apply(vectors[0], **views)
    empty = {"samples": torch.zeros(2, 4, 5, 7)}
    widgets = {"seed": 3, "steps": 3, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}
    inputs = {"model": model, "adapter": two_view, "latent": empty, "positive": texts[0], "negative": texts[1]}
    ours = run(EmbeddingSampler, embedding=vectors[0], **inputs, **widgets, **views)[0]
    with torch.inference_mode():
        stock = KSamplerAdvanced().sample(
            painting, "enable", 3, 3, 2.0, "euler", "normal", positive, negative, empty, 0, 10000, "disable"
        )[0]
    assert torch.equal(ours["samples"], stock["samples"])


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_missing_text_is_named(apply, vectors, side):
    with pytest.raises(ValueError, match=f"{side} is not connected. Connect a CLIP Text Encode"):
        apply(vectors[0], **{side: None})


def test_an_adapter_for_another_unet_is_refused(apply, vectors):
    from any2pix.models.two_view import TwoViewAdapter, TwoViewDims
    from any2pix.nodes.host.networks import wrap_network

    for dims in (
        TwoViewDims(64, 48, (96,) * 6),
        TwoViewDims(64, 48, (96,) * 6 + (64,)),
        TwoViewDims(64, 32, (96,) * 7),
    ):
        with pytest.raises(ValueError, match="the model has 7, 672 wide, on 48"):
            apply(vectors[0], adapter=wrap_network(TwoViewAdapter(dims)))


def test_a_model_that_is_not_sdxl_is_refused(apply, vectors, networks):
    from types import SimpleNamespace

    other = SimpleNamespace(model=SimpleNamespace(model_config=SimpleNamespace()))
    for adapter in ({}, {"adapter": networks["adapter"]}):
        with pytest.raises(ValueError, match="for SDXL, the connected model is SimpleNamespace"):
            apply(vectors[0], model=other, **adapter)


def test_a_local_view_for_the_unclip_adapter_is_refused(apply, vectors, networks):
    with pytest.raises(ValueError, match="Disconnect local"):
        apply(vectors[0], adapter=networks["adapter"], local=vectors[1])


def test_unclip_and_two_views_together_in_either_order(apply, vectors, latents, networks):
    """The unCLIP adapter writes the context, the two-view adapter adds to it."""
    unclip = {"adapter": networks["adapter"], "scale": 1.0}
    first = apply(vectors[0], **unclip)
    both = apply(vectors[1], model=first[0], positive=first[1], negative=first[2])
    second = apply(vectors[1])
    other = apply(vectors[0], **unclip, model=second[0], positive=second[1], negative=second[2])
    one, swapped = (unet_eps(*side[:2], latents, TIMESTEP) for side in (both, other))
    assert torch.equal(one, swapped)
    assert relative(one, unet_eps(*first[:2], latents, TIMESTEP)) > 0.02
    assert relative(one, unet_eps(*second[:2], latents, TIMESTEP)) > 0.005


def test_inverting_and_sampling_with_it_returns_the_source(run, apply, vectors):
    """DDIM Invert takes its MODEL and conditioning as any other."""
    from nodes import KSamplerAdvanced

    painting, positive, negative = apply(vectors[0], view="both", scale=0.5)
    clean = {"samples": seeded(1, 4, 6, 7, seed=60) / 0.13025}
    widgets = {"steps": 6, "scheduler": "normal", "iterations": 12, "tolerance": 0.0}
    inverted = run(DDIMInvert, model=painting, conditioning=positive, latent=clean, **widgets)[0]

    def back(model, conditioning):
        with torch.inference_mode():
            return KSamplerAdvanced().sample(
                model, "disable", 3, 6, 1.0, "euler", "normal", conditioning, negative, inverted, 0, 10000, "disable"
            )[0]["samples"]

    assert relative(back(painting, positive), clean["samples"]) < 1e-3
    other = apply(vectors[1], view="both")
    assert relative(back(other[0], other[1]), clean["samples"]) > 1e-2


class Adding:
    """An attention patch as the IPAdapter pack writes it: its node calls ``.add`` on whatever it finds in a block."""

    def __init__(self, callback, **kwargs):
        self.added = [(callback, kwargs)]

    def add(self, callback, **kwargs):
        self.added.append((callback, kwargs))

    def __call__(self, q, k, v, extra):
        from comfy.ldm.modules.attention import optimized_attention

        return optimized_attention(q, k, v, extra["n_heads"]) * sum(kwargs["weight"] for _, kwargs in self.added)


def with_adding(model, weight):
    """That pack's node."""
    model = model.clone()
    options = model.model_options["transformer_options"]
    there = {**options.get("patches_replace", {}).get("attn2", {})}
    for key in (("input", 3, 0), ("middle", 0, 0)):
        if key in there:
            there[key].add(None, weight=weight)
        else:
            there[key] = Adding(None, weight=weight)
    options["patches_replace"] = {**options.get("patches_replace", {}), "attn2": there}
    return model


@pytest.fixture(params=["deep", "shallow"])
def clones(request, monkeypatch):
    """MODELs are cloned as ComfyUI did before 0.13, with copies of all objects in their options, or as it does
    since."""
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import copy_nested_dicts

    clone, copied = ModelPatcher.clone, {"deep": copy.deepcopy, "shallow": copy_nested_dicts}[request.param]

    def cloned(self, *args, **kwargs):
        made = clone(self, *args, **kwargs)
        made.model_options = copied(self.model_options)
        return made

    monkeypatch.setattr(ModelPatcher, "clone", cloned)


def test_a_pack_that_adds_to_patches_does_not_change_our_cached_model(clones, apply, vectors, latents):
    cached = apply(vectors[0])
    before = unet_eps(*cached[:2], latents, TIMESTEP)
    first = with_adding(cached[0], 1.5)
    felt = unet_eps(first, cached[1], latents, TIMESTEP)
    assert relative(felt, before) > 1e-4
    with_adding(cached[0], 0.5)
    assert torch.equal(unet_eps(*cached[:2], latents, TIMESTEP), before)
    assert torch.equal(unet_eps(first, cached[1], latents, TIMESTEP), felt), "nor the pack's own"
    assert not cached[0].model_options["transformer_options"].get("patches_replace", {}).get("attn2")
