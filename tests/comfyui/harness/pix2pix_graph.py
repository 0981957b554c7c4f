"""An edit by text as a graph in API format, on the miniature; ids are words."""

from harness.edit_graph import node, with_defaults

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
