"""InstructPix2Pix Guidance: a picture edited by text, with one guidance for the text and one for the picture."""

import math
from typing import Any

import comfy.controlnet
import comfy.model_base
import comfy.samplers
import node_helpers
import torch
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import prepare_mask
from comfy_api.latest import io
from torch import Tensor

from ..stages.guide import IMAGE_GUIDANCE, TEXT_GUIDANCE, guide_edit
from .conditioning import require_readable
from .host_options import where_known
from .latents import NETWORK_REMEDY, mask_of, require_finite, samples_for
from .picture_latent import require_picture
from .sdxl import PIX2PIX_CHANNELS
from .sockets import CATEGORY

SOURCE = "concat_latent_image"  # where ComfyUI's models look for what fills the extra channels; nothing there is zeros
NODE = "InstructPix2Pix Guidance"
WHAT = f"image of {NODE}"
NEGATIVE = 1  # ComfyUI's number in cond_or_uncond; 0 is positive


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
                    tooltip="An InstructPix2Pix model, with 8 input channels: SD 1.5, SDXL or CosXL Edit. LoRAs count.",
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
                    tooltip="How strongly the instruction is followed (s_T of the paper). It changes too little? Raise "
                    "this. Usual: 5 to 10.",
                ),
                io.Float.Input(
                    "image_guidance",
                    default=IMAGE_GUIDANCE,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    round=0.01,
                    tooltip="How much of the picture stays (s_I of the paper). It changes too much? Raise this. Usual: "
                    "1 to 2.5.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="The empty prompt: CLIP Text Encode with no text. A text here is what to avoid. Only "
                    "with both guidances at 1 it is not needed.",
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
        _require_pix2pix(model)
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
        _require_no_control_lora(positive + negative)
        guider = Pix2PixGuider(model, source)
        guider.set_conds(positive, negative)
        guider.set_cfg(text_guidance, image_guidance)
        return io.NodeOutput(guider, _to_sample(image, source, mask_of(image, WHAT)))


class Pix2PixGuider(comfy.samplers.CFGGuider):
    """ComfyUI's guider with three predictions instead of two: (no picture, no text), (picture, no text), (picture,
    text).

    ``source``: (B, 4, h, w), the picture as a VAE encodes it. ComfyUI's models know what scale each wants it in.
    """

    def __init__(self, model: Any, source: Tensor) -> None:
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, __name__, _as_positive_and_negative)
        super().__init__(model)
        self.source = source

    def set_conds(self, positive: list, negative: list) -> None:
        self.texts = (positive, negative)

    def set_cfg(self, text_guidance: float, image_guidance: float) -> None:
        self.cfg, self.image_guidance = text_guidance, image_guidance

    def sample(self, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        positive, negative = self.texts
        source = _beside(self.source, latent_image)
        # The names are those that ComfyUI shares areas and ControlNets between; the type is that of its DualCFGGuider.
        with_picture = {SOURCE: source, "prompt_type": "negative"}
        self.inner_set_conds(
            {
                "positive": node_helpers.conditioning_set_values(positive, {SOURCE: source}),
                "middle": node_helpers.conditioning_set_values(negative, with_picture),
                "negative": node_helpers.conditioning_set_values(negative, {SOURCE: None}),
            }
        )
        # in float32: noise levels above 100 in CosXL's scale do not fit into fp16
        painted = super().sample(noise.float(), latent_image.float(), *args, **kwargs)
        require_finite(painted, f"latent that {NODE} painted", NETWORK_REMEDY)
        return painted

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None = None) -> Tensor:
        """The denoised latent. The text's guidance is ComfyUI's own, with whatever other nodes hang on it (RescaleCFG,
        APG, perturbed attention): they see the model's predictions for the picture with and without text, as in a
        guider of two, and so what they change is what they change there. The picture's guidance is added to it."""
        # ComfyUI's batch begins with the last. Nodes that look at one negative row of it (SelfAttentionGuidance) look
        # at the first, and want the one that counts as negative below: with the picture.
        conds = self._needed([self.conds["positive"], self.conds["negative"], self.conds["middle"]], model_options)
        told = {"model": self.inner_model, "input": x, "sigma": timestep, "model_options": model_options}
        text, plain, image = _predictions(conds, told)
        cond, uncond = text, image
        for fn in model_options.get("sampler_pre_cfg_function", []):
            answer = fn(
                {**told, "conds": conds[::2], "conds_out": [cond, uncond], "cond_scale": self.cfg, "timestep": timestep}
            )
            cond, uncond = answer[:2]
        guided = comfy.samplers.cfg_function(
            self.inner_model, cond, uncond, self.cfg, x, timestep, {**model_options, "sampler_post_cfg_function": []},
            cond=conds[0], uncond=conds[2],
        )  # fmt: skip
        denoised = guide_edit(plain, image, guided, 1.0, self.image_guidance)
        for fn in model_options.get("sampler_post_cfg_function", []):
            denoised = fn({**told, "denoised": denoised, "cond": conds[0], "uncond": conds[2], "cond_scale": self.cfg,
                           "cond_denoised": cond, "uncond_denoised": uncond})  # fmt: skip
        return denoised

    def _needed(self, conds: list, model_options: dict) -> list:
        """None, which costs nothing and predicts zeros, for the predictions that these guidances leave out."""
        if model_options.get("disable_cfg1_optimization", False) or not math.isclose(self.image_guidance, 1.0):
            return conds
        text, _, image = conds
        return [text, None, None if math.isclose(self.cfg, 1.0) else image]


def _predictions(conds: list, told: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """What the model predicts for (text, no picture, picture). One that is None is left out, and the next stands in for
    it: ComfyUI would give zeros, and NaN in 16 bits."""
    model, x, sigma, options = (told[name] for name in ("model", "input", "sigma", "model_options"))
    if "sampler_calc_cond_batch_function" in options:  # another pack's, which knows of two
        text, image = options["sampler_calc_cond_batch_function"]({**told, "conds": conds[::2]})[:2]
        (plain,) = comfy.samplers.calc_cond_batch(model, conds[1:2], x, sigma, options)
    else:
        text, plain, image = comfy.samplers.calc_cond_batch(model, conds, x, sigma, options)
    image = text if conds[2] is None else image
    return text, image if conds[1] is None else plain, image


def _as_positive_and_negative(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Three predictions are 0, 1 and 2 in cond_or_uncond. Other packs' patches know 0, positive, and 1, negative, and
    fail at 2 with an IndexError; both predictions without text are negative to them."""
    # apply_model(x, t, c_concat, c_crossattn, control, transformer_options, ...)
    options = kwargs["transformer_options"] if "transformer_options" in kwargs else args[5]
    options["cond_or_uncond"] = [min(kind, NEGATIVE) for kind in options["cond_or_uncond"]]
    return executor(*args, **kwargs)


def _beside(source: Tensor, latent: Tensor) -> Tensor:
    """The source once for each sample of the latent. ComfyUI would stretch what does not fit, and shift the pixels."""
    if source.shape[1:] != latent.shape[1:]:
        raise ValueError(
            f"The latent to sample is {_size(latent)}, the picture of InstructPix2Pix Guidance {_size(source)}. "
            "Connect the latent output of InstructPix2Pix Guidance to the sampler, or scale the picture before VAE "
            "Encode."
        )
    copies, rest = divmod(len(latent), len(source))
    if rest:
        raise ValueError(
            f"{len(latent)} latents are to be sampled from {len(source)} pictures. Connect the latent output of "
            "InstructPix2Pix Guidance to the sampler, or repeat it a whole number of times."
        )
    return source.repeat(copies, 1, 1, 1)  # in turns, as RepeatLatentBatch does


def _to_sample(image: dict[str, Any], samples: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """The picture's LATENT with zeros in it. Under a soft or open part of the mask the picture stays: the sampler shows
    it."""
    if mask is None:
        return {**image, "samples": torch.zeros_like(samples)}
    kept = prepare_mask(mask, samples.shape, samples.device) < 1.0
    return {**image, "samples": samples * kept}


def _require_pix2pix(model: Any) -> None:
    channels = model.model.model_config.unet_config.get("in_channels")
    remedy = "Connect an InstructPix2Pix model: SD 1.5 InstructPix2Pix, SDXL InstructPix2Pix or CosXL Edit."
    if channels != PIX2PIX_CHANNELS:
        raise ValueError(
            f"The model has {'an unknown number of' if channels is None else channels} input channels; InstructPix2Pix "
            f"needs {PIX2PIX_CHANNELS}, for the noisy latent and the picture. {remedy}"
        )
    if not isinstance(model.model, comfy.model_base.IP2P):
        raise ValueError(
            f"The model has {PIX2PIX_CHANNELS} input channels, but ComfyUI loaded it as {type(model.model).__name__}, "
            f"which fills them with something else than the picture to edit. {remedy}"
        )


def _require_no_control_lora(conditionings: list) -> None:
    for _, options in conditionings:
        control = options.get("control")
        while control is not None:
            if isinstance(control, comfy.controlnet.ControlLora):
                raise ValueError(
                    "The ControlNet is a Control-LoRA, which copies its layers from the model: an InstructPix2Pix "
                    f"model's first layer reads {PIX2PIX_CHANNELS} channels, a ControlNet is given the noisy latent "
                    "alone. Load a full ControlNet of the same family (SD 1.5, SDXL)."
                )
            control = control.previous_controlnet


def _size(latent: Tensor) -> str:
    return f"{latent.shape[-1]} x {latent.shape[-2]} with {latent.shape[1]} channels"
