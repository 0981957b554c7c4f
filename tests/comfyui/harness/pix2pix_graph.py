"""An edit by text as a graph in API format, on the miniature; ids are words."""

from torch import Tensor

from harness.edit_graph import node, only, with_defaults
from harness.graphs import with_inputs

STEPS = 4


def text_edit(
    object_info: dict, image: str = "toyland_meadow.png", instruction: str = "let it snow in the picture"
) -> dict:
    graph = {
        "pix2pix": node("Any2PixLoadInstructPix2Pix"),
        "picture": node("LoadImage", image=image),
        "pixels": node("VAEEncode", pixels=["picture", 0], vae=["pix2pix", 2]),
        "asked": node("CLIPTextEncode", text=instruction, clip=["pix2pix", 1]),
        "unasked": node("CLIPTextEncode", text="", clip=["pix2pix", 1]),
        "guider": node(
            "Any2PixInstructPix2PixGuider",
            model=["pix2pix", 0],
            positive=["asked", 0],
            negative=["unasked", 0],
            image=["pixels", 0],
            text_guidance=4.0,
        ),
        "drawn": node("RandomNoise", noise_seed=5),
        "walk": node("KSamplerSelect", sampler_name="euler"),
        "levels": node("BasicScheduler", model=["pix2pix", 0], scheduler="normal", steps=STEPS),
        "sampled": node(
            "SamplerCustomAdvanced",
            noise=["drawn", 0],
            guider=["guider", 0],
            sampler=["walk", 0],
            sigmas=["levels", 0],
            latent_image=["guider", 1],
        ),
        "decoded": node("VAEDecode", samples=["sampled", 0], vae=["pix2pix", 2]),
        "saved": node("SaveImage", images=["decoded", 0], filename_prefix="pix2pix"),
    }
    return with_defaults(graph, object_info)


def text_grid(object_info: dict, x_values: str, y_values: str) -> dict:
    """The same for every combination of guidances, in one run; "saved" holds the grid, "cells" its pictures."""
    graph = text_edit(object_info)
    graph["values"] = node("Any2PixGridValues", x_values=x_values, y_values=y_values)
    graph["guider"]["inputs"] |= {"text_guidance": ["values", 0], "image_guidance": ["values", 1]}
    graph["grid"] = node("Any2PixLabelledGrid", images=["decoded", 0], axes=["values", 2])
    graph["cells"] = node("PreviewImage", images=["decoded", 0])
    graph["saved"]["inputs"]["images"] = ["grid", 0]
    return with_defaults(graph, object_info)


def edited(client, graph: dict) -> Tensor:
    """Runs an edit as far as its sampler: (B, 4, h, w)."""
    kept = {**graph, "kept": node("SaveLatent", samples=["sampled", 0], filename_prefix="latents/pix2pix")}
    return client.latent(client.run(only(kept, "kept")), "kept")


def with_control(edit: dict, name: str, strength: float = 1.0, start: float = 0.0, end: float = 1.0) -> dict:
    """The edit with a ControlNet on positive and negative; the picture that it goes by is "hint"."""
    graph = with_inputs(edit, "guider", positive=["controlled", 0], negative=["controlled", 1])
    graph["control"] = node("ControlNetLoader", control_net_name=name)
    graph["hint"] = node("LoadImage", image="toyland_ink.png")
    graph["controlled"] = node(
        "ControlNetApplyAdvanced",
        positive=["asked", 0],
        negative=["unasked", 0],
        control_net=["control", 0],
        image=["hint", 0],
        strength=strength,
        start_percent=start,
        end_percent=end,
    )
    return graph


def with_stock_guidance(edit: dict) -> dict:
    """The same edit by ComfyUI's own nodes, InstructPixToPixConditioning and CFGGuider, which know no image
    guidance."""
    graph = with_inputs(edit, "sampled", guider=["plain", 0])
    graph["both"] = node(
        "InstructPixToPixConditioning",
        positive=["asked", 0],
        negative=["unasked", 0],
        vae=["pix2pix", 2],
        pixels=["picture", 0],
    )
    ours = edit["guider"]["inputs"]
    graph["plain"] = node(
        "CFGGuider", model=ours["model"], positive=["both", 0], negative=["both", 1], cfg=ours["text_guidance"]
    )
    return graph
