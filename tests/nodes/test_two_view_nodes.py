"""The two-view adapter in a ComfyUI MODEL: against diffusers, alone, chained, in a range, and with what it must not disturb."""

import copy
import gc
import weakref

import pytest
import torch
from any2pix.nodes import ApplyEmbedding, EmbeddingSampler
from any2pix.nodes.sockets import Embedding
from harness.unet_eps import unet_eps

TIMESTEP = 421
STRENGTH = 0.7
WIDGETS = {"scale": 0.9, "start_percent": 0.0, "end_percent": 1.0}


@pytest.fixture(scope="module")
def file(tiny):
    """A random two-view adapter for the tiny UNet, strong enough to be seen, in the model folder."""
    import folder_paths
    from any2pix.loading.files import write_network_file
    from any2pix.models.two_view import TwoViewAdapter, TwoViewDims

    torch.manual_seed(11)
    adapter = TwoViewAdapter(TwoViewDims(embed=64, context=48, widths=(96,) * 7))
    with torch.no_grad():
        adapter.image_proj.raw_embed.normal_()
        for layer in adapter.layers:
            layer.to_v_ip.weight.mul_(3)
    path = f"{folder_paths.models_dir}/any2pix/adapter/two_view.safetensors"
    write_network_file(path, "two_view", adapter.state_dict(), adapter.dims.to_dict())
    return path


def wrap(file):
    from any2pix.loading.adapter import load_adapter
    from any2pix.nodes.networks import OPERATIONS, wrap_network

    return wrap_network(load_adapter(file, OPERATIONS))


@pytest.fixture(scope="module")
def two_view(file):
    return wrap(file)


@pytest.fixture(scope="module")
def model(networks):
    return networks["model"]


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vectors():
    return [Embedding(random(64, seed=seed)) for seed in (20, 21, 22)]


@pytest.fixture(scope="module")
def texts():
    """Positive and negative CONDITIONING of texts of 77 tokens."""
    return [[[random(1, 77, 48, seed=seed), {"pooled_output": random(1, 32, seed=seed + 5)}]] for seed in (30, 31)]


@pytest.fixture(scope="module")
def latents():
    return random(2, 4, 6, 9, seed=40)


@pytest.fixture(scope="module")
def apply(run, model, two_view, texts):
    """Apply Embedding on the tiny model and texts -> MODEL, positive, negative."""

    def applied(embedding, **changes):
        inputs = {"model": model, "adapter": two_view, "positive": texts[0], "negative": texts[1]}
        return run(ApplyEmbedding, **{**inputs, "embedding": embedding, **WIDGETS, "local_strength": STRENGTH, **changes})

    return applied


@pytest.fixture(scope="module")
def reference(file):
    """diffusers' UNet with diffusers' own IP-Adapter attention holding the adapter's weights."""
    import folder_paths
    from any2pix.loading.adapter import load_adapter
    from any2pix.loading.diffusion import build_unet, load_unet
    from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0

    class Tokens(torch.nn.Module):
        def forward(self, tokens):
            return tokens

    unet = build_unet(*load_unet(f"{folder_paths.models_dir}/any2pix/unet/tiny.safetensors"))
    adapter = load_adapter(file)
    processors = {}
    for number, name in enumerate(unet.attn_processors):
        if number % 2 == 0:
            processors[name] = AttnProcessor2_0()
            continue
        keys = adapter.ip_adapter[str(number)].to_k_ip.weight
        processor = IPAdapterAttnProcessor2_0(keys.shape[0], keys.shape[1], num_tokens=(4,), scale=[WIDGETS["scale"]])
        processor.to_k_ip[0].weight.data = keys
        processor.to_v_ip[0].weight.data = adapter.ip_adapter[str(number)].to_v_ip.weight
        processors[name] = processor
    unet.set_attn_processor(processors)
    unet.encoder_hid_proj = Tokens()
    unet.register_to_config(encoder_hid_dim_type="ip_image_proj")

    def eps(latents, text, tokens):
        size = [8 * latents.shape[-2], 8 * latents.shape[-1]]
        count = len(latents)
        added = {
            "text_embeds": text[0][1]["pooled_output"].expand(count, -1),
            "time_ids": torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32).expand(count, -1),
            "image_embeds": [tokens.expand(count, -1, -1)],
        }
        with torch.no_grad():
            return unet(latents, TIMESTEP, text[0][0].expand(count, -1, -1), added_cond_kwargs=added).sample

    return adapter, eps


def test_the_blocks_of_the_published_sdxl_are_in_diffusers_order(tiny):
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.utils
    from any2pix.models.diffusion import DiffusionDims
    from any2pix.models.two_view import TwoViewDims
    from any2pix.nodes.attention import cross_attentions
    from any2pix.nodes.sdxl import comfy_unet_config
    from diffusers import UNet2DConditionModel

    config = DiffusionDims().unet_config()
    unet_config = comfy_unet_config(config, "SDXL")
    with torch.device("meta"):
        names = UNet2DConditionModel(**config).attn_processors
        unet = openaimodel.UNetModel(**unet_config)
    found = cross_attentions(unet)
    assert tuple(width for _, width in found) == TwoViewDims.published().widths
    keys = comfy.utils.unet_to_diffusers(unet_config)
    for name, ((part, number, index), _) in zip(list(names)[1::2], found, strict=True):
        block = {"input": f"input_blocks.{number}.1", "output": f"output_blocks.{number}.1", "middle": "middle_block.1"}[part]
        ours = f"{block}.transformer_blocks.{index}.attn2.to_k.weight"
        assert keys[name.replace("processor", "to_k.weight")] == ours


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("view", ["global", "local", "both"])
def test_eps_is_that_of_diffusers(apply, reference, vectors, texts, latents, model, view):
    adapter, eps = reference
    whole, local = (vector.vector[None] for vector in vectors[:2])
    painting, positive, negative = apply(vectors[0], local=vectors[1], view=view)
    for conditioning, text, tokens in (
        (positive, texts[0], adapter.tokens(whole, local, view, STRENGTH)),
        (negative, texts[1], adapter.tokens(None, None, view)),
    ):
        found = unet_eps(painting, conditioning, latents, TIMESTEP)
        assert relative(found, eps(latents, text, tokens)) < 1e-5
        assert relative(found, unet_eps(model, text, latents, TIMESTEP)) > 0.02, "the adapter must be felt"


def test_guided_sides_batched_are_the_sides_alone(apply, vectors, latents):
    painting, positive, negative = apply(vectors[0], local=vectors[1], view="both")
    one, other = (unet_eps(painting, side, latents, TIMESTEP) for side in (positive, negative))
    calls = count_calls(painting)
    guided = unet_eps(painting, positive, latents, TIMESTEP, uncond=negative, cfg=3.0)
    assert relative(guided, other + 3 * (one - other)) < 1e-5
    assert calls == [4], "both sides of both pictures in one batch"


def test_sides_with_different_views_are_still_batched(apply, vectors, latents):
    painting, positive, _ = apply(vectors[0], local=vectors[1], view="both")
    _, _, negative = apply(vectors[0], negative_embedding=vectors[2], view="global")
    one, other = (unet_eps(painting, side, latents, TIMESTEP) for side in (positive, negative))
    calls = count_calls(painting)
    guided = unet_eps(painting, positive, latents, TIMESTEP, uncond=negative, cfg=3.0)
    assert relative(guided, other + 3 * (one - other)) < 1e-5
    assert calls == [4]


def count_calls(model) -> list[int]:
    """The batch sizes that reach the UNet of a MODEL, from now on."""
    from comfy.patcher_extension import WrappersMP

    sizes = []

    def count(executor, x, *args, **kwargs):
        sizes.append(len(x))
        return executor(x, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", count)
    return sizes


def test_base_null_and_no_embedding_are_the_unconditional_tokens(apply, vectors, latents, texts):
    nothing = Embedding(None)
    painting, positive, _ = apply(nothing)
    same, plain, negative = apply(nothing, negative=texts[0])
    assert torch.equal(unet_eps(painting, positive, latents, TIMESTEP), unet_eps(same, negative, latents, TIMESTEP))
    away, _, other = apply(vectors[0], negative=texts[0], negative_embedding=vectors[1])
    assert relative(unet_eps(away, other, latents, TIMESTEP), unet_eps(same, negative, latents, TIMESTEP)) > 0.005


def test_scale_zero_is_bitwise_the_plain_model(apply, vectors, latents, texts, model):
    painting, positive, negative = apply(vectors[0], scale=0.0)
    plain = unet_eps(model, texts[0], latents, TIMESTEP, uncond=texts[1], cfg=3.0)
    assert torch.equal(unet_eps(painting, positive, latents, TIMESTEP, uncond=negative, cfg=3.0), plain)


def test_a_model_with_an_adapter_but_plain_conditioning_is_bitwise_the_plain_model(apply, vectors, latents, texts, model):
    painting = apply(vectors[0])[0]
    assert torch.equal(unet_eps(painting, texts[0], latents, TIMESTEP), unet_eps(model, texts[0], latents, TIMESTEP))


def test_outside_its_range_it_is_bitwise_the_plain_model(apply, vectors, latents, texts, model):
    ranged, positive, negative = apply(vectors[0], start_percent=0.3, end_percent=0.8)
    whole, everywhere, _ = apply(vectors[0])
    for timestep, felt in ((900, False), (421, True), (100, False)):
        found = unet_eps(ranged, positive, latents, timestep)
        expected = unet_eps(whole if felt else model, everywhere if felt else texts[0], latents, timestep)
        assert torch.equal(found, expected), timestep


def test_a_time_range_that_was_there_stays(apply, vectors, texts):
    text = [[texts[0][0][0], {**texts[0][0][1], "start_percent": 0.2, "end_percent": 0.6}]]
    spans = [(entry[1]["start_percent"], entry[1]["end_percent"]) for entry in apply(vectors[0], positive=text, end_percent=0.5)[1]]
    assert spans == [(0.2, 0.5), (0.5, 0.6)]


def test_two_views_of_one_adapter_add_up(apply, vectors, latents, texts, model, two_view, run):
    """Chained: the second picture's attention is added beside the first's, in either order."""
    first = apply(vectors[0])
    both = apply(vectors[1], model=first[0], positive=first[1], negative=first[2])
    assert both[0] is first[0], "one wrapper does for one adapter"
    swapped = apply(vectors[1])
    swapped = apply(vectors[0], model=swapped[0], positive=swapped[1], negative=swapped[2])
    one = unet_eps(both[0], both[1], latents, TIMESTEP)
    assert relative(one, unet_eps(swapped[0], swapped[1], latents, TIMESTEP)) < 1e-5
    assert relative(one, unet_eps(first[0], first[1], latents, TIMESTEP)) > 0.02


def test_two_adapters_each_with_its_own_weights(apply, vectors, latents, file, texts):
    other = wrap(file)
    first = apply(vectors[0])
    both = apply(vectors[1], adapter=other, model=first[0], positive=first[1], negative=first[2])
    same = apply(vectors[1], model=first[0], positive=first[1], negative=first[2])
    assert len(both[0].get_nested_additional_models()) == 2
    found, expected = (unet_eps(*side[:2], latents, TIMESTEP) for side in (both, same))
    assert relative(found, expected) < 1e-5


class Doubling:
    """An attention patch of another pack, with that pack's protocol: it takes what stands there, others `.add` to it."""

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
    results = [unet_eps(first[0], first[1], latents, TIMESTEP), unet_eps(patched(second[0]), second[1], latents, TIMESTEP)]
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
    (wrapper,) = (w for keys in clone.wrappers.values() for found in keys.values() for w in found if hasattr(w, "adapter"))
    assert copy.deepcopy(wrapper) is wrapper and wrapper.adapter is two_view


def test_nothing_keeps_the_adapter_alive_but_what_was_made_with_it(apply, vectors, latents, file):
    adapter = wrap(file)
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


@pytest.mark.parametrize("size", [(5, 7), (16, 3), (1, 1), (33, 8)])
def test_any_size(apply, vectors, model, texts, size):
    latents = random(1, 4, *size, seed=50)
    painting, positive, _ = apply(vectors[0], view="both")
    found = unet_eps(painting, positive, latents, TIMESTEP)
    assert found.shape == latents.shape and relative(found, unet_eps(model, texts[0], latents, TIMESTEP)) > 0.005


def test_the_sampler_paints_the_pixels_of_apply_embedding_and_a_stock_sampler(run, apply, vectors, texts, model, two_view):
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
    from any2pix.nodes.networks import wrap_network

    for dims in (TwoViewDims(64, 48, (96,) * 6), TwoViewDims(64, 48, (96,) * 6 + (64,)), TwoViewDims(64, 32, (96,) * 7)):
        with pytest.raises(ValueError, match="the model has 7, 672 wide, on 48"):
            apply(vectors[0], adapter=wrap_network(TwoViewAdapter(dims)))


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
    from any2pix.nodes import DDIMInvert
    from nodes import KSamplerAdvanced

    painting, positive, negative = apply(vectors[0], view="both", scale=0.5)
    clean = {"samples": random(1, 4, 6, 7, seed=60) / 0.13025}
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
