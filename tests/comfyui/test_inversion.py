"""On a real server, stock samplers bring the picture back from what DDIM Invert found: measured against the VAE's round
trip."""

import numpy as np
import pytest
from harness.edit_graph import STEPS, node
from harness.graphs import offered

ROUNDING = 1.5 / 255  # a saved picture has 256 levels
MOST_LOSS = 0.5  # dB below the VAE's own round trip
# linear_quadratic falls to 0 from a level at which the model sees a blur: no noise at all is denoised to the exact
# picture.
MOST_LOSS_FROM_AFAR = 6.0
MOST_LOSS_GUIDED = 1.5  # guidance bends the path, and small errors grow on the way down
MOST_LOSS_EXACT, MOST_LOSS_EXACT_FROM_AFAR = 0.01, 0.05  # of O-BELM; float32, amplified by the last step from afar
START = 3
HALF = 64  # pixels
EDITING = ("mixed", "refined", "noise", "sampled", "decoded", "saved")  # nodes of the edit that no picture here needs


@pytest.fixture
def graph(edit):
    """The edit's graph up to DDIM Invert, at its own defaults, with the source and its round trip saved."""
    graph = {name: body for name, body in edit.items() if name not in EDITING}
    save(graph, "source", image=["base", 0])
    show(graph, "round trip", ["encoded", 0])
    return graph


def save(graph, name, image):
    graph[f"saved {name}"] = node("SaveImage", images=image, filename_prefix="inversion")


def show(graph, name, latent):
    graph[f"decoded {name}"] = node("VAEDecode", samples=latent, vae=["diffusion", 1])
    save(graph, name, image=[f"decoded {name}", 0])


def inverted(graph, name, **inputs):
    """Another DDIM Invert of the same picture."""
    graph[name] = node("Any2PixDDIMInvert", **{**graph["inverted"]["inputs"], **inputs})


def sampled(graph, name, latent, start=0, **inputs):
    """Stock KSampler (Advanced) from an inverted latent, with the source's own embedding, and its picture."""
    conditioned = {"model": ["source", 0], "positive": ["source", 1], "negative": ["source", 2]}
    widgets = {"add_noise": "disable", "noise_seed": 0, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler"}
    widgets |= {"scheduler": "normal", "end_at_step": 10000, "return_with_leftover_noise": "disable"}
    graph[name] = node(
        "KSamplerAdvanced", **conditioned, latent_image=latent, **{**widgets, "start_at_step": start, **inputs}
    )
    show(graph, name, [name, 0])


def custom(graph, name, noise, latent):
    """Stock SamplerCustomAdvanced from the NOISE and SIGMAS of a DDIM Invert, and its picture."""
    conditioned = {"model": ["source", 0], "positive": ["source", 1], "negative": ["source", 2]}
    graph["guider"] = node("CFGGuider", **conditioned, cfg=1.0)
    graph["euler"] = node("KSamplerSelect", sampler_name="euler")
    links = {"guider": ["guider", 0], "sampler": ["euler", 0], "noise": [noise, 1], "sigmas": [noise, 2]}
    graph[name] = node("SamplerCustomAdvanced", **links, latent_image=[latent, 0])
    show(graph, name, [name, 0])


def pictures(client, graph):
    """Name -> the pictures saved under it, in one run."""
    run = client.run(graph)
    saves = [name for name in graph if name.startswith("saved ")]
    return {name.removeprefix("saved "): [client.picture(one) for one in run.outputs[name]["images"]] for name in saves}


def psnr(a, b):
    return -10 * np.log10(np.square(a - b).mean())


def loss(shown, name):
    """How many dB farther from the source than the VAE's own round trip."""
    (source,), (round_trip,) = shown["source"], shown["round trip"]
    return psnr(round_trip, source) - psnr(shown[name][0], source)


def test_with_every_scheduler_the_picture_comes_back(client, graph, object_info):
    schedulers = offered(object_info, "KSampler", "scheduler")
    for scheduler in schedulers:
        inverted(graph, f"inverted {scheduler}", scheduler=scheduler)
        sampled(graph, scheduler, [f"inverted {scheduler}", 0], scheduler=scheduler)
    inverted(graph, "first try", scheduler="linear_quadratic", iterations=1)
    sampled(graph, "plain", ["first try", 0], scheduler="linear_quadratic")
    shown = pictures(client, graph)
    losses = {scheduler: round(float(loss(shown, scheduler)), 3) for scheduler in schedulers}
    from_afar = losses.pop("linear_quadratic")
    assert len(losses) >= 8 and from_afar < MOST_LOSS_FROM_AFAR and from_afar < loss(shown, "plain") - 1
    assert max(losses.values()) < MOST_LOSS, losses


def test_a_partial_inversion_leads_back_through_every_sampler(client, graph):
    inverted(graph, "partly", start_at_step=START)
    sampled(graph, "advanced", ["partly", 0], start=START)
    custom(graph, "custom", "partly", latent="encoded")
    ours = {"model": ["diffusion", 0], "adapter": ["adapter", 0], "embedding": ["base", 1], "latent": ["partly", 0]}
    widgets = {"seed": 0, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    graph["ours"] = node("Any2PixSampler", **ours, **widgets)
    show(graph, "ours", ["ours", 0])
    sampled(graph, "wrong start", ["partly", 0], start=0)
    shown = pictures(client, graph)
    assert loss(shown, "advanced") < MOST_LOSS
    for name in ("custom", "ours"):
        np.testing.assert_allclose(shown[name][0], shown["advanced"][0], atol=ROUNDING)
    assert loss(shown, "wrong start") > 3, "or the start step would not matter"


def test_under_a_mask_the_picture_comes_back(client, graph):
    graph["none"] = node("SolidMask", value=0.0, width=128, height=128)
    graph["part"] = node("SolidMask", value=1.0, width=128 - HALF, height=128)
    graph["mask"] = node("MaskComposite", destination=["none", 0], source=["part", 0], x=HALF, y=0, operation="add")
    graph["masked"] = node("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0])
    inverted(graph, "knowing", latent=["masked", 0])
    custom(graph, "knowing it", "knowing", latent="masked")
    custom(graph, "not knowing it", "inverted", latent="masked")
    shown = pictures(client, graph)
    assert loss(shown, "knowing it") < MOST_LOSS
    (round_trip,) = shown["round trip"]
    knowing, blind = (psnr(shown[name][0], round_trip) for name in ("knowing it", "not knowing it"))
    assert knowing > blind + 6, f"{knowing:.1f} and {blind:.1f} dB"


def test_a_batch_comes_back_as_its_pictures_alone(client, graph):
    graph["mirrored"] = node("LatentFlip", samples=["encoded", 0], flip_method="y-axis: horizontally")
    graph["both"] = node("LatentBatch", samples1=["encoded", 0], samples2=["mirrored", 0])
    inverted(graph, "two", latent=["both", 0])
    sampled(graph, "together", ["two", 0])
    sampled(graph, "alone", ["inverted", 0])
    shown = pictures(client, graph)
    assert len(shown["together"]) == 2 and loss(shown, "together") < MOST_LOSS
    np.testing.assert_allclose(shown["together"][0], shown["alone"][0], atol=ROUNDING)


def test_with_guidance_on_both_sides_the_picture_comes_back(client, graph):
    steps = {"steps": 2 * STEPS, "scheduler": "karras"}
    inverted(graph, "guided", cfg=5.0, negative=["source", 2], iterations=30, **steps)
    sampled(graph, "back", ["guided", 0], cfg=5.0, **steps)
    inverted(graph, "unguided", **steps)
    sampled(graph, "astray", ["unguided", 0], cfg=5.0, **steps)
    shown = pictures(client, graph)
    assert loss(shown, "back") < MOST_LOSS_GUIDED
    assert loss(shown, "astray") > MOST_LOSS_GUIDED, "or guidance would not matter"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_at_step": STEPS}, f"Set start_at_step to {STEPS - 1} or less"),
        ({"cfg": 5.0}, "Connect Apply Embedding's negative, or set cfg to 1"),
    ],
)
def test_what_cannot_be_inverted_names_the_widget(client, graph, change, message):
    inverted(graph, "wrong", **change)
    sampled(graph, "back", ["wrong", 0])
    run = client.wait(client.queue(graph))
    assert run.outcome == "execution_error" and message in run.error["exception_message"]


def followed(graph, name, cfg=1.0, latent="encoded", source=None):
    """Stock SamplerCustomAdvanced with NOISE, SIGMAS and SAMPLER of a DDIM Invert, and its picture."""
    conditioned = {"model": ["source", 0], "positive": ["source", 1], "negative": ["source", 2]}
    source = source or name
    graph[f"guider {name}"] = node("CFGGuider", **conditioned, cfg=cfg)
    links = {"guider": [f"guider {name}", 0], "noise": [source, 1], "sigmas": [source, 2], "sampler": [source, 3]}
    graph[f"back {name}"] = node("SamplerCustomAdvanced", **links, latent_image=[latent, 0])
    show(graph, f"back {name}", [f"back {name}", 0])


def test_o_belm_loses_nothing_with_any_scheduler_and_guidance(client, graph, object_info):
    schedulers = offered(object_info, "KSampler", "scheduler")
    for scheduler, cfg in [("normal", 1.0), *((name, 5.0) for name in schedulers)]:
        exact = {"method": "O-BELM", "scheduler": scheduler, "cfg": cfg, "negative": ["source", 2]}
        inverted(graph, f"{scheduler} {cfg}", **exact)
        followed(graph, f"{scheduler} {cfg}", cfg)
    shown = pictures(client, graph)
    losses = {name: round(float(loss(shown, name)), 3) for name in shown if name.startswith("back ")}
    from_afar = losses.pop("back linear_quadratic 5.0")
    assert len(losses) == len(schedulers) >= 8
    assert max(losses.values()) < MOST_LOSS_EXACT and from_afar < MOST_LOSS_EXACT_FROM_AFAR, (losses, from_afar)


def test_o_belm_under_a_mask_and_through_our_sampler(client, graph):
    graph["part"] = node("SolidMask", value=1.0, width=128 - HALF, height=128)
    graph["none"] = node("SolidMask", value=0.0, width=128, height=128)
    graph["mask"] = node("MaskComposite", destination=["none", 0], source=["part", 0], x=HALF, y=0, operation="add")
    graph["masked"] = node("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0])
    inverted(graph, "knowing", latent=["masked", 0], method="O-BELM", start_at_step=1)
    followed(graph, "knowing", latent="masked")
    ours = {"model": ["diffusion", 0], "adapter": ["adapter", 0], "embedding": ["base", 1], "latent": ["knowing", 0]}
    widgets = {"seed": 0, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal"}
    graph["ours"] = node("Any2PixSampler", **ours, **widgets)
    show(graph, "ours", ["ours", 0])
    shown = pictures(client, graph)
    assert loss(shown, "back knowing") < MOST_LOSS
    np.testing.assert_allclose(shown["ours"][0], shown["back knowing"][0], atol=ROUNDING)


def test_a_stock_sampler_names_the_widget_of_an_o_belm_inversion(client, graph):
    inverted(graph, "exact", method="O-BELM")
    sampled(graph, "stock", ["exact", 0])
    run = client.wait(client.queue(graph))
    assert run.outcome == "execution_error" and run.error["node_id"] == "stock"
    assert "set method of DDIM Invert to 'fixed point'" in run.error["exception_message"]
