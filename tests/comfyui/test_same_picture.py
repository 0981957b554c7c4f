"""Our sampler and ComfyUI's own give the same picture on a real server, and a mask keeps what it should."""

import numpy as np
import pytest
import safetensors.torch
import torch
from harness.edit_graph import STEPS, node

ROUNDING = 1.5 / 255  # a saved picture has 256 levels
CFG = 2.0
HALF = 64  # pixels; the mask's edge
CELL = 8  # pixels of one latent cell


def stock(graph: dict) -> dict:
    """Adds Apply Embedding and both stock samplers beside our own, each with a picture of its own."""
    scheduler = graph["inverted"]["inputs"]["scheduler"]
    graph["sampled"]["inputs"]["cfg"] = CFG
    graph["applied"] = node(
        "Any2PixApplyEmbedding",
        model=["diffusion", 0],
        adapter=["adapter", 0],
        embedding=["mixed", 0],
        negative_embedding=["base", 1],
        scale=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    conditioned = {"model": ["applied", 0], "positive": ["applied", 1], "negative": ["applied", 2]}
    graph["advanced"] = node(
        "KSamplerAdvanced",
        **conditioned,
        latent_image=["noise", 0],
        add_noise="disable",
        noise_seed=0,
        steps=STEPS,
        cfg=CFG,
        sampler_name="euler",
        scheduler=scheduler,
        start_at_step=0,
        end_at_step=10000,
        return_with_leftover_noise="disable",
    )
    graph["guider"] = node("CFGGuider", **conditioned, cfg=CFG)
    graph["euler"] = node("KSamplerSelect", sampler_name="euler")
    graph["custom"] = custom_sampler(latent="encoded")
    return graph


def custom_sampler(latent: str) -> dict:
    links = {"noise": ["noise", 1], "guider": ["guider", 0], "sampler": ["euler", 0], "sigmas": ["inverted", 2]}
    return node("SamplerCustomAdvanced", **links, latent_image=[latent, 0])


def pictures_of(client, graph: dict, *latents: str) -> list[np.ndarray]:
    """The decoded pictures of some LATENT-giving nodes, in one run."""
    del graph["saved"], graph["decoded"]
    for name in latents:
        graph[f"decoded {name}"] = node("VAEDecode", samples=[name, 0], vae=["diffusion", 1])
        graph[f"saved {name}"] = node("SaveImage", images=[f"decoded {name}", 0], filename_prefix=name)
    run = client.run(graph)
    return [client.picture(run.outputs[f"saved {name}"]["images"][0]) for name in latents]


def latents_of(client, graph: dict, *latents: str) -> list[torch.Tensor]:
    """The latents (1, 4, h, w) of some LATENT-giving nodes, in one run."""
    del graph["saved"], graph["decoded"]
    for name in latents:
        graph[f"saved {name}"] = node("SaveLatent", samples=[name, 0], filename_prefix=f"latents/{name}")
    run = client.run(graph)
    files = [client.file(run.outputs[f"saved {name}"]["latents"][0]) for name in latents]
    return [safetensors.torch.load(file)["latent_tensor"] for file in files]


@pytest.mark.parametrize("alpha", [1.0, 0.4])
def test_three_samplers_one_picture(client, edit, alpha):
    edit["noise"]["inputs"]["alpha"] = alpha
    ours, *theirs = pictures_of(client, stock(edit), "sampled", "advanced", "custom")
    for picture in theirs:
        np.testing.assert_allclose(picture, ours, atol=ROUNDING)


def test_outside_a_mask_the_latent_is_the_clean_one(client, edit):
    """The decoder normalises over the whole picture, so what must be exact is the latent."""
    graph = stock(edit)
    graph["none"] = node("SolidMask", value=0.0, width=128, height=128)
    graph["part"] = node("SolidMask", value=1.0, width=128 - HALF, height=128)
    graph["mask"] = node("MaskComposite", destination=["none", 0], source=["part", 0], x=HALF, y=0, operation="add")
    graph["masked"] = node("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0])
    graph["custom"] = custom_sampler(latent="masked")
    clean, masked, free = latents_of(client, graph, "encoded", "custom", "advanced")
    edge = HALF // CELL
    torch.testing.assert_close(masked[..., : edge - 1], clean[..., : edge - 1], rtol=0, atol=1e-5)
    assert (free - clean)[..., : edge - 1].abs().max() > 0.1, "without a mask that side changes"
    assert (masked - clean)[..., edge + 1 :].abs().max() > 0.1
