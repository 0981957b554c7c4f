"""ComfyUI's guider with the two guidances of InstructPix2Pix, and what a model and a picture must be for it."""

import math
from typing import Any

import comfy.controlnet
import comfy.model_base
import comfy.samplers
import node_helpers
import torch
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import prepare_mask
from torch import Tensor

from ...stages.pix2pix.guide import guide_edit
from .latents import NETWORK_REMEDY, require_finite

SOURCE = "concat_latent_image"  # where ComfyUI's models look for what fills the extra channels; nothing there is zeros
NEGATIVE = 1  # ComfyUI's number in cond_or_uncond; 0 is positive


class Pix2PixGuider(comfy.samplers.CFGGuider):
    """ComfyUI's guider with three predictions instead of two: (no picture, no text), (picture, no text), (picture,
    text).

    ``source``: (B, c, h, w), the picture as a VAE encodes it. ComfyUI's models apply the scale that each needs.
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
        require_finite(painted, "latent that InstructPix2Pix Guidance painted", NETWORK_REMEDY)
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
    if "sampler_calc_cond_batch_function" in options:  # another pack's, which supports two
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


def latent_to_sample(image: dict[str, Any], samples: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """The picture's LATENT with zeros in it. Under a soft or open part of the mask the picture stays: the sampler shows
    it."""
    if mask is None:
        return {**image, "samples": torch.zeros_like(samples)}
    kept = prepare_mask(mask, samples.shape, samples.device) < 1.0
    return {**image, "samples": samples * kept}


def require_pix2pix(model: Any) -> None:
    channels = model.model.model_config.unet_config.get("in_channels")
    wanted = 2 * model.get_model_object("latent_format").latent_channels
    remedy = "Connect an InstructPix2Pix model: SD 1.5 InstructPix2Pix, SDXL InstructPix2Pix or CosXL Edit."
    if channels != wanted:
        raise ValueError(
            f"The model has {'an unknown number of' if channels is None else channels} input channels; InstructPix2Pix "
            f"needs {wanted}, for the noisy latent and the picture. {remedy}"
        )
    if not isinstance(model.model, comfy.model_base.IP2P):
        raise ValueError(
            f"The model has {channels} input channels, but ComfyUI loaded it as {type(model.model).__name__}, which "
            f"uses them for something else than the picture to edit. {remedy}"
        )


def require_no_control_lora(conditionings: list) -> None:
    for _, options in conditionings:
        control = options.get("control")
        while control is not None:
            if isinstance(control, comfy.controlnet.ControlLora):
                raise ValueError(
                    "The ControlNet is a Control-LoRA, which copies its layers from the model: an InstructPix2Pix "
                    "model's first layer reads the source picture's latent too, a ControlNet gets only the noisy "
                    "latent. Load a full ControlNet of the same family (SD 1.5, SDXL)."
                )
            control = control.previous_controlnet


def _size(latent: Tensor) -> str:
    return f"{latent.shape[-1]} x {latent.shape[-2]} with {latent.shape[1]} channels"
