"""Edit Mask: where an edit wants another picture, found by the model itself."""

from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..stages.edit_mask import MOST_PIXELS, MaskOptions, cut_mask
from ..stages.latents import draw_noise
from .host.conditioning import Conditioning
from .host.host_options import where_known
from .host.inverted import inversion_of
from .host.latents import samples_for
from .host.picture_latent import require_picture
from .host.run_edit_mask import NODE, run_edit_mask
from .instruct import MAX_SEED
from .sockets import CATEGORY, Embedding, EmbeddingSocket

DEFAULTS = MaskOptions()
WHAT = f"latent of {NODE}"
PLACE = 8  # pixels a place of a picture's latent, where the model's format does not say
NO_PICTURE = "There is no picture to keep (<base_null>, a sound or a text): the mask is the whole picture."
NO_DIFFERENCE = "nothing differs between source and edit: the mask is empty. Are both the same conditioning?"


class EditMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def advanced(kind: Any, name: str, **options: Any) -> io.Input:
            return kind.Input(name, optional=True, **options, **where_known(kind.Input, advanced=True))

        return io.Schema(
            node_id="Any2PixEditMask",
            display_name=NODE,
            category=f"{CATEGORY}/sampling",
            description="Finds where an edit wants another picture, so that the sampler leaves the rest as it is. An "
            "edit of everything, such as a style, gets the whole picture.",
            **where_known(io.Schema, search_aliases=["diffedit", "auto mask", "automatic mask", "keep the rest"]),
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model for sampling, with its LoRAs; from Apply Embedding if it is two-view."
                ),
                io.Conditioning.Input(
                    "source",
                    tooltip="What the picture shows: Apply Embedding's positive with Base Retrieval's embedding. "
                    "InstructPix2Pix: the empty prompt.",
                ),
                io.Conditioning.Input(
                    "edit",
                    tooltip="What to paint: Apply Embedding's positive with Embedding Mix's embedding. "
                    "InstructPix2Pix: the instruction.",
                ),
                io.Latent.Input("latent", tooltip="The picture: from VAE Encode, or from DDIM Invert."),
                io.Float.Input(
                    "strength",
                    default=DEFAULTS.strength,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of what differs may be painted. Raise it if the edit is cut off; lower it if too "
                    "much around it changes. 0 is an empty mask, 1 the whole picture.",
                ),
                io.Float.Input(
                    "softness",
                    default=DEFAULTS.softness,
                    min=0.0,
                    max=float(MOST_PIXELS),
                    step=0.5,
                    tooltip="Width of the soft edge, in pixels. 0 is a hard edge.",
                ),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, tooltip="Seed of the noises that are compared."),
                EmbeddingSocket.Input(
                    "base",
                    optional=True,
                    tooltip="Base Retrieval's embedding. For <base_null>, a sound or a text there is no picture to "
                    "keep: the mask is the whole picture.",
                ),
                advanced(
                    io.Int,
                    "grow",
                    default=DEFAULTS.grow,
                    min=0,
                    max=MOST_PIXELS,
                    tooltip="Pixels by which the mask is grown. A place of the latent is 8 pixels.",
                ),
                advanced(
                    io.Int,
                    "noises",
                    default=DEFAULTS.noises,
                    min=1,
                    max=64,
                    tooltip="How many noises are compared. Each costs as much as one sampling step; more give a "
                    "cleaner mask.",
                ),
                advanced(
                    io.Float,
                    "level",
                    default=DEFAULTS.level,
                    min=0.01,
                    max=0.99,
                    step=0.01,
                    tooltip="Where in the sampling source and edit are compared: near 0 in full noise, where only the "
                    "layout is visible; near 1 in fine detail.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask",
                    tooltip="1 where the edit paints, at the picture's size: for Set Latent Noise Mask, on the latent "
                    "of DDIM Invert or VAE Encode.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        source: Conditioning,
        edit: Conditioning,
        latent: dict[str, Any],
        strength: float,
        softness: float,
        seed: int,
        base: Embedding | None = None,
        grow: int = DEFAULTS.grow,
        noises: int = DEFAULTS.noises,
        level: float = DEFAULTS.level,
    ) -> io.NodeOutput:
        options = MaskOptions(strength, softness, grow, noises, level)
        clean, blank = _picture_in(model, latent)
        step = getattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", PLACE)
        if blank or (base is not None and base.paints_from_noise):
            whole = torch.ones(len(clean), clean.shape[2] * step, clean.shape[3] * step)
            return io.NodeOutput(whole, ui=ui.PreviewText(NO_PICTURE))
        fresh = draw_noise((options.noises, *clean.shape[1:]), seed)
        mask = cut_mask(run_edit_mask(model, source, edit, clean, fresh, options), step, options)
        return io.NodeOutput(mask, ui=ui.PreviewText(describe(mask)))


def describe(mask: Tensor) -> str:
    """How much of each picture (B, H, W) is open."""
    lines = []
    for number, row in enumerate(mask, start=1):
        share = float(row.mean())
        text = f"the mask covers {share:.0%} of the picture" if share else NO_DIFFERENCE
        lines.append(f"picture {number}: {text}" if len(mask) > 1 else text[0].upper() + text[1:])
    return "\n".join(lines)


def _picture_in(model: Any, latent: dict[str, Any]) -> tuple[Tensor, bool]:
    """The clean picture's samples, and whether the LATENT is an inversion of no picture."""
    inversion = inversion_of(latent, WHAT)
    if inversion is not None:
        latent = {"samples": inversion.clean}
    clean = samples_for(model, latent, WHAT)
    if clean.ndim != 4:
        raise ValueError(
            f"The {WHAT} has shape {tuple(clean.shape)}; {NODE} is for models of pictures, (batch, channels, height, "
            "width). Connect an image model."
        )
    blank = inversion is not None and inversion.blank
    if not blank:
        require_picture(latent, clean, WHAT)
    return clean, blank
