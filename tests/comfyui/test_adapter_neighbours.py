"""An adapter beside other adapters, LoRA, ControlNet, FreeU and other packs' IP-Adapters, in either order."""

import pytest
import torch
from any2pix.loading.files import write_network_file
from any2pix.loading.kinds import KINDS
from any2pix.models.diffusion import DiffusionDims
from diffusers import UNet2DConditionModel
from harness.adapter_graph import CFG, STEPS, TWO_VIEW_FILE, Painting, difference
from harness.edit_graph import with_defaults
from harness.made_networks import write_two_view

EXACT = 1e-4  # rounding, which strong neighbours magnify
FELT = 0.01
DOUBLING_FILE = "test_doubling.safetensors"


def test_scale_zero_is_bitwise_without_the_embedding(client, painting):
    """Two views: the plain model. unCLIP, which has no plain text: the same whatever the embedding."""
    off = painting.sample(*painting.apply(scale=0.0))
    if painting.kind == "two_view":
        plain = painting.sample(painting.model, painting.text, painting.away)
    else:
        plain = painting.sample(*painting.apply(painting.other_vector, scale=0.0))
    on = painting.sample(*painting.apply(scale=0.05))
    found = painting.run(client)
    assert difference(found[off], found[plain]) == 0.0
    assert difference(found[on], found[plain]) > 0.0


def test_our_sampler_paints_the_pixels_of_the_stock_sampler(client, painting):
    choices = {"local": painting.other_vector} if painting.kind == "two_view" else {}
    choices |= {"negative_embedding": painting.other_vector, "scale": 0.8, "view": "both", "local_strength": 0.4}
    stock = painting.sample(*painting.apply(**choices))
    widgets = {"seed": 7, "steps": STEPS, "cfg": CFG, "sampler_name": "euler", "scheduler": "normal"}
    links = {
        "model": painting.model,
        "adapter": painting.adapter,
        "embedding": painting.vector,
        "latent": painting.empty,
    }
    texts = {"positive": painting.text, "negative": painting.away}
    ours = painting.save(painting.add("Any2PixSampler", **links, **texts, **widgets, **choices))
    found = painting.run(client)
    assert difference(found[ours], found[stock]) == 0.0


def test_two_of_them_in_a_chain(client, painting):
    """Two views add up, in either order. An unCLIP UNet reads one token: the last one."""
    one, other = painting.apply(), painting.apply(painting.other_vector)
    names = [
        painting.sample(*applied)
        for applied in (one, other, painting.apply_again(one, painting.other_vector), painting.apply_again(other))
    ]
    found = painting.run(client)
    first, second, both, swapped = (found[name] for name in names)
    if painting.kind == "two_view":
        assert difference(both, swapped) < EXACT
        assert min(difference(both, first), difference(both, second)) > FELT
    else:
        assert difference(both, second) == difference(swapped, first) == 0.0


def test_unclip_and_two_views_in_either_order(client, object_info, two_view_file):
    painting = Painting("unclip", object_info)
    two_view = {"adapter": painting.add("Any2PixLoadAdapter", name=TWO_VIEW_FILE)}
    unclip, views = painting.apply(), painting.apply(painting.other_vector, **two_view)
    names = [
        painting.sample(*applied)
        for applied in (
            painting.apply_again(unclip, painting.other_vector, **two_view), painting.apply_again(views), unclip, views
        )
    ]  # fmt: skip
    found = painting.run(client)
    both, swapped, *single = (found[name] for name in names)
    assert difference(both, swapped) == 0.0
    assert min(difference(both, alone) for alone in single) > FELT


def test_a_lora_in_either_order(client, painting, made_for_stock_nodes):
    def with_lora(model):
        name = "any2pix_miniature_lora.safetensors"
        return painting.add("LoraLoaderModelOnly", model=model, lora_name=name, strength_model=1.0)

    before = painting.apply(model=with_lora(painting.model))
    model, *sides = painting.apply()
    compare(client, painting, before, (with_lora(model), *sides), (model, *sides))


def test_a_controlnet_in_either_order(client, painting, made_for_stock_nodes):
    """In front of Apply Embedding it hangs on the text, behind it on what Apply Embedding made."""
    net = painting.add("ControlNetLoader", control_net_name="any2pix_miniature_controlnet.safetensors")
    hint = painting.add("EmptyImage", width=128, height=128, batch_size=1, color=0xFF8000)

    def with_control(positive, negative):
        widgets = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        links = {"positive": positive, "negative": negative, "control_net": net, "image": hint}
        name = painting.add("ControlNetApplyAdvanced", **links, **widgets)[0]
        return [name, 0], [name, 1]

    positive, negative = with_control(painting.text, painting.away)
    before = painting.apply(positive=positive, negative=negative)
    model, *sides = painting.apply()
    compare(client, painting, before, (model, *with_control(*sides)), (model, *sides))


@pytest.fixture(scope="module")
def doubling_unet(server):
    """A random UNet whose levels are 2 and 4 times as wide as the first, as SDXL's are and FreeU wants them, and its
    adapter."""
    dims = DiffusionDims(widths=(32, 64, 128), transformers=(0, 1, 2), resnets=1, head_width=16, context=128, pooled=64)
    torch.manual_seed(4)
    unet = server.base / "models" / KINDS["unet"].folder / DOUBLING_FILE
    write_network_file(unet, "unet", UNet2DConditionModel(**dims.unet_config()).state_dict(), dims.unet_config())
    write_two_view(server.base / "models" / KINDS["two_view"].folder / DOUBLING_FILE, unet, embed=64)


def test_freeu_in_either_order(client, painting, doubling_unet):
    painting.model = painting.add("Any2PixLoadDiffusion", name=DOUBLING_FILE)
    if painting.kind == "two_view":
        painting.adapter = painting.add("Any2PixLoadAdapter", name=DOUBLING_FILE)

    def patched(model):
        return painting.add("FreeU_V2", model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)

    before = painting.apply(model=patched(painting.model))
    model, *sides = painting.apply()
    felt = [painting.sample(*applied) for applied in (before, painting.apply(painting.other_vector, model=before[0]))]
    found = compare(client, painting, before, (patched(model), *sides), (model, *sides))
    assert difference(*(found[name] for name in felt)) > FELT / 10, "a random UNet feels its context little"


def test_patches_of_attention_and_guidance_in_either_order(client, painting):
    def patched(model):
        guided = painting.add("PerturbedAttentionGuidance", model=model, scale=2.0)
        return painting.add("RescaleCFG", model=guided, multiplier=0.7)

    before = painting.apply(model=patched(painting.model))
    model, *sides = painting.apply()
    compare(client, painting, before, (patched(model), *sides), (model, *sides))


@pytest.mark.parametrize("again", [False, True])
def test_another_packs_ip_adapter_in_either_order(client, painting, again):
    """That pack leaves an object in the model's patches and adds to whatever it finds there; ours must not be in its
    way."""
    # since 0.13 a clone has that object too, so that adding to it changes models of its own that are cached
    client.free()

    def other(model, seed):
        return painting.add("Any2PixTestOtherAdapter", model=model, seed=seed, weight=0.5)

    before = painting.apply(model=other(painting.model, 1))
    model, *sides = painting.apply()
    after = other(model, 1)
    first = (other(before[0], 2), *before[1:]) if again else before
    last = other(after, 2) if again else after
    compare(client, painting, first, (last, *sides), (model, *sides))


def compare(client, painting, before: tuple, after: tuple, without: tuple) -> dict:
    """Both orders paint the same, batched or split, and something else than without the neighbour -> all that was
    painted."""
    names = [painting.sample(*applied) for applied in (before, after, without)]
    names += [painting.sample(painting.split(model), *sides) for model, *sides in (before, after)]
    found = painting.run(client)
    first, last, plain, *split = (found[name] for name in names)
    assert max(difference(latent, first) for latent in (last, *split)) < EXACT
    assert difference(first, plain) > FELT
    return found


def test_the_sampler_names_a_missing_text(client, object_info, two_view_file):
    painting = Painting("two_view", object_info)
    applied = painting.apply()
    del painting.graph[applied[0][0]]["inputs"]["positive"]
    painting.sample(*applied)
    run = client.wait(client.queue(with_defaults(painting.graph, object_info)))
    assert run.outcome == "execution_error"
    assert "positive is not connected. Connect a CLIP Text Encode" in run.error["exception_message"]
