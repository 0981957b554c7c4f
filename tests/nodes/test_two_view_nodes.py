"""The two-view adapter in a ComfyUI MODEL: eps against diffusers, batched sides, ranges, sizes, and where it must not
be felt."""

from pathlib import Path

import pytest
import torch
from any2pix.nodes import LoadAdapter
from any2pix.nodes.sockets import Embedding
from harness.unet_eps import relative, seeded, unet_eps

TIMESTEP = 421
SCALE, STRENGTH = 0.9, 0.7  # of the fixture `apply`


@pytest.fixture(scope="module")
def reference(two_view_file):
    """diffusers' UNet with diffusers' own IP-Adapter attention holding the adapter's weights."""
    import folder_paths
    from any2pix.loading.adapter import load_adapter
    from any2pix.loading.diffusion import build_unet, load_unet
    from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0

    class Tokens(torch.nn.Module):
        def forward(self, tokens):
            return tokens

    unet = build_unet(*load_unet(f"{folder_paths.models_dir}/any2pix/unet/tiny.safetensors"))
    adapter = load_adapter(two_view_file)
    processors = {}
    for number, name in enumerate(unet.attn_processors):
        if number % 2 == 0:
            processors[name] = AttnProcessor2_0()
            continue
        keys = adapter.ip_adapter[str(number)].to_k_ip.weight
        processor = IPAdapterAttnProcessor2_0(keys.shape[0], keys.shape[1], num_tokens=(4,), scale=[SCALE])
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
    import comfy.utils
    from any2pix.models.diffusion import DiffusionDims
    from any2pix.models.two_view import TwoViewDims
    from any2pix.nodes.host.attention import cross_attentions
    from any2pix.nodes.host.sdxl import comfy_unet_config
    from comfy.ldm.modules.diffusionmodules import openaimodel
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
        block = {
            "input": f"input_blocks.{number}.1",
            "output": f"output_blocks.{number}.1",
            "middle": "middle_block.1",
        }[part]
        ours = f"{block}.transformer_blocks.{index}.attn2.to_k.weight"
        assert keys[name.replace("processor", "to_k.weight")] == ours


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


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 5e-3), ("bf16", 5e-3), ("fp8_e4m3fn", 5e-2)])
def test_weights_kept_in_fewer_bits_give_nearly_the_same_eps(
    run, apply, vectors, latents, two_view_file, precision, limit
):
    """As a loader keeps them on a GPU; here the UNet computes in float32."""
    exact = unet_eps(*apply(vectors[0])[:2], latents, TIMESTEP)
    small = run(LoadAdapter, name=Path(two_view_file).name, precision=precision)[0]
    found = relative(unet_eps(*apply(vectors[0], adapter=small)[:2], latents, TIMESTEP), exact)
    assert 0 < found < limit


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
    same, _, negative = apply(nothing, negative=texts[0])
    assert torch.equal(unet_eps(painting, positive, latents, TIMESTEP), unet_eps(same, negative, latents, TIMESTEP))
    away, _, other = apply(vectors[0], negative=texts[0], negative_embedding=vectors[1])
    assert relative(unet_eps(away, other, latents, TIMESTEP), unet_eps(same, negative, latents, TIMESTEP)) > 0.005


def test_the_local_view_alone_as_the_release_places_a_subject(apply, two_view, vectors, latents):
    """The global view is zeros then, and the local tokens lie between those of zeros and the subject's."""
    local = vectors[0].vector[None]
    tokens = two_view.module.tokens(None, local, "local", STRENGTH)
    assert torch.equal(tokens, two_view.module.tokens(torch.zeros_like(local), local, "local", STRENGTH))
    painting, positive, _ = apply(None, local=vectors[0], view="local")
    same = apply(Embedding(None), local=vectors[0], view="local")
    found = unet_eps(painting, positive, latents, TIMESTEP)
    assert torch.equal(found, unet_eps(same[0], same[1], latents, TIMESTEP))
    both = apply(vectors[0], local=vectors[0], view="local")
    assert relative(found, unet_eps(both[0], both[1], latents, TIMESTEP)) > 0.005


def test_nothing_to_paint_is_an_error(apply):
    with pytest.raises(ValueError, match="connect embedding, or, with a two-view adapter, local"):
        apply(None)


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_text_of_another_model_is_named(apply, vectors, texts, side):
    narrow = [[text[..., 1:], extras] for text, extras in texts[0]]
    with pytest.raises(ValueError, match=f"The {side} has 47 numbers a token, this model reads 48"):
        apply(vectors[0], **{side: narrow})
    bare = [[text, {}] for text, _ in texts[0]]
    with pytest.raises(ValueError, match=f"The {side} has no pooled vector"):
        apply(vectors[0], **{side: bare})


def test_scale_zero_is_bitwise_the_plain_model(apply, vectors, latents, texts, model):
    painting, positive, negative = apply(vectors[0], scale=0.0)
    plain = unet_eps(model, texts[0], latents, TIMESTEP, uncond=texts[1], cfg=3.0)
    assert torch.equal(unet_eps(painting, positive, latents, TIMESTEP, uncond=negative, cfg=3.0), plain)


def test_a_model_with_an_adapter_but_plain_conditioning_is_bitwise_the_plain_model(
    apply, vectors, latents, texts, model
):
    painting = apply(vectors[0])[0]
    assert torch.equal(unet_eps(painting, texts[0], latents, TIMESTEP), unet_eps(model, texts[0], latents, TIMESTEP))


def test_outside_its_range_it_is_bitwise_the_plain_model(apply, vectors, latents, texts, model):
    ranged, positive, _ = apply(vectors[0], start_percent=0.3, end_percent=0.8)
    whole, everywhere, _ = apply(vectors[0])
    for timestep, felt in ((900, False), (421, True), (100, False)):
        found = unet_eps(ranged, positive, latents, timestep)
        expected = unet_eps(whole if felt else model, everywhere if felt else texts[0], latents, timestep)
        assert torch.equal(found, expected), timestep


def test_a_time_range_that_was_there_stays(apply, vectors, texts):
    text = [[texts[0][0][0], {**texts[0][0][1], "start_percent": 0.2, "end_percent": 0.6}]]
    spans = [
        (entry[1]["start_percent"], entry[1]["end_percent"])
        for entry in apply(vectors[0], positive=text, end_percent=0.5)[1]
    ]
    assert spans == [(0.2, 0.5), (0.5, 0.6)]


@pytest.mark.parametrize("size", [(5, 7), (16, 3), (1, 1), (33, 8)])
def test_any_size(apply, vectors, model, texts, size):
    latents = seeded(1, 4, *size, seed=50)
    painting, positive, _ = apply(vectors[0], view="both")
    found = unet_eps(painting, positive, latents, TIMESTEP)
    assert found.shape == latents.shape and relative(found, unet_eps(model, texts[0], latents, TIMESTEP)) > 0.005
