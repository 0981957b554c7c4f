"""InstructPix2Pix Guidance: a picture edited by text, with one guidance for the text and one for the picture."""

from typing import Any

from comfy_api.latest import io

from ..stages.pix2pix.guide import IMAGE_GUIDANCE, TEXT_GUIDANCE
from .host.conditioning import require_readable
from .host.host_options import where_known
from .host.latents import mask_of, samples_for
from .host.picture_latent import require_picture
from .host.pix2pix_guider import Pix2PixGuider, latent_to_sample, require_no_control_lora, require_pix2pix
from .sockets import CATEGORY

NODE = "InstructPix2Pix Guidance"
WHAT = f"image of {NODE}"


class InstructPix2PixGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixInstructPix2PixGuider",
            display_name=NODE,
            category=f"{CATEGORY}/sampling",
            description="Edits a picture by a text instruction with an InstructPix2Pix model: one guidance for the "
            "text, one for the picture.",
            **where_known(
                io.Schema,
                search_aliases=["ip2p", "instruct pix2pix", "edit by text", "dual cfg guider", "image guidance"],
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="An InstructPix2Pix model, with 8 input channels: SD 1.5, SDXL or CosXL Edit. LoRAs are "
                    "supported.",
                ),
                io.Conditioning.Input("positive", tooltip="The instruction: make it snow. From CLIP Text Encode."),
                io.Latent.Input("image", tooltip="The picture to edit, from VAE Encode. Its mask limits the edit."),
                io.Float.Input(
                    "text_guidance",
                    default=TEXT_GUIDANCE,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance scale of the instruction (s_T in the paper). Raise it if the edit changes too "
                    "little. Typical: 5 to 10.",
                ),
                io.Float.Input(
                    "image_guidance",
                    default=IMAGE_GUIDANCE,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    round=0.01,
                    tooltip="Guidance scale of the picture (s_I in the paper). Raise it if the edit changes too much. "
                    "Typical: 1 to 2.5.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="The empty prompt: CLIP Text Encode with no text. A text here names what to avoid. Not "
                    "needed if both guidances are 1.",
                ),
            ],
            outputs=[
                io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="An empty latent of the picture's size, for SamplerCustomAdvanced. With a mask it holds "
                    "the picture outside the mask.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: list,
        image: dict[str, Any],
        text_guidance: float,
        image_guidance: float,
        negative: list | None = None,
    ) -> io.NodeOutput:
        require_pix2pix(model)
        source = samples_for(model, image, WHAT)
        require_picture(image, source, WHAT)
        if negative is None and not text_guidance == image_guidance == 1.0:
            raise ValueError(
                "InstructPix2Pix Guidance has no negative: it compares the instruction with the empty prompt. Connect "
                "a second CLIP Text Encode, with no text in it, to negative."
            )
        negative = positive if negative is None else negative
        for name, given in (("positive", positive), ("negative", negative)):
            require_readable(model, given, f"{name} of {NODE}")
        require_no_control_lora(positive + negative)
        guider = Pix2PixGuider(model, source)
        guider.set_conds(positive, negative)
        guider.set_cfg(text_guidance, image_guidance)
        return io.NodeOutput(guider, latent_to_sample(image, source, mask_of(image, WHAT)))
