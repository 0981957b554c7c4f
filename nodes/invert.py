"""DDIM Invert and Latent Noise Mix: the source picture as noise, and how much of it is kept."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.model_management as management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io
from torch import Tensor

from ..stages.edit import EditOptions
from ..stages.invert import ddim_invert
from ..stages.mix import MIX_MODES, mix_noise
from .instruct import MAX_SEED
from .inverted import Inversion, InvertedNoise, attach, inversion_of, sampler_sigmas
from .sockets import CATEGORY, Embedding, EmbeddingSocket

NO_GUIDANCE = 1.0  # the inversion has to explain the picture, not to stress it (released code)
BLANK_SEED = 0  # of the noise that stands in for an inversion after <base_null>; the noise mix replaces it by its own
DEFAULTS = EditOptions()


class DDIMInvert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixDDIMInvert",
            display_name="DDIM Invert",
            category=f"{CATEGORY}/sampling",
            description="Finds the noise from which the model paints the given picture, so that an edit keeps its "
            "layout.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model that will sample. LoRAs and ControlNets count: use the same on both sides.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="What the source picture shows: Apply Embedding's positive with Base Retrieval's "
                    "embedding.",
                ),
                io.Latent.Input("latent", tooltip="The clean picture, from VAE Encode."),
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.steps,
                    min=1,
                    max=1000,
                    tooltip="Must be the sampler's steps. More is more exact and slower.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.SCHEDULER_NAMES,
                    default=DEFAULTS.scheduler,
                    tooltip="Must be the sampler's scheduler.",
                ),
                io.Int.Input(
                    "iterations",
                    default=DEFAULTS.iterations,
                    min=1,
                    max=50,
                    tooltip="Fixed-point iterations a step at most. 1 is plain DDIM inversion; more brings the "
                    "picture back more exactly.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=DEFAULTS.tolerance,
                    min=0.0,
                    max=0.1,
                    step=0.00001,
                    round=False,
                    tooltip="A step stops iterating when the latent changes by less than this share.",
                ),
                EmbeddingSocket.Input(
                    "base",
                    optional=True,
                    tooltip="Base Retrieval's embedding. When it is <base_null> nothing is inverted: noise comes "
                    "out, and the edit is painted from it.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The inverted latent: for Latent Noise Mix, our sampler, or KSampler (Advanced) with "
                    "add_noise disabled.",
                ),
                io.Noise.Output(
                    display_name="noise",
                    tooltip="The same as NOISE, for SamplerCustomAdvanced with the clean latent; honours a noise mask.",
                ),
                io.Sigmas.Output(
                    display_name="sigmas", tooltip="The sampler's noise levels, for SamplerCustomAdvanced."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        conditioning: list,
        latent: dict[str, Any],
        steps: int,
        scheduler: str,
        iterations: int,
        tolerance: float,
        base: Embedding | None = None,
    ) -> io.NodeOutput:
        clean = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
        sigmas = sampler_sigmas(model, scheduler, steps)
        sigma_max = float(model.get_model_object("model_sampling").sigma_max)
        record = Inversion(clean, clean, sigmas, scheduler, steps, model.get_model_object("latent_format"), sigma_max)
        if base is not None and base.is_null:
            noise = comfy.sample.prepare_noise(clean, BLANK_SEED, latent.get("batch_index"))
            inversion = replace(record, blank=True).with_unit_variance(noise, alpha=0.0)
        else:
            _require_picture(latent, clean)
            inverted = _run_inversion(
                model, conditioning, clean, sigmas, {"iterations": iterations, "tolerance": tolerance}
            )
            inversion = replace(record, samples=inverted)
        return io.NodeOutput(attach(latent, inversion), InvertedNoise(inversion, BLANK_SEED), sigmas)


class NoiseMix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixNoiseMix",
            display_name="Latent Noise Mix",
            category=f"{CATEGORY}/sampling",
            description="Mixes the inverted picture with fresh noise: alpha says how much of its layout stays.",
            inputs=[
                io.Latent.Input("latent", tooltip="From DDIM Invert."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Draws the fresh noise.",
                ),
                io.Float.Input(
                    "alpha",
                    default=DEFAULTS.alpha,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 keeps the layout of the source picture, 0 forgets it. It changes too little? Lower "
                    "this. After <base_null> it counts as 0.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MIX_MODES),
                    default=DEFAULTS.mode,
                    tooltip="How the mix is rescaled: as in the paper, or as in the released code (polar).",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent", tooltip="For our sampler, or KSampler (Advanced) with add_noise disabled."
                ),
                io.Noise.Output(
                    display_name="noise",
                    tooltip="The same as NOISE, for SamplerCustomAdvanced with the clean latent; honours a noise mask.",
                ),
            ],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any], seed: int, alpha: float, mode: str) -> io.NodeOutput:
        inversion = inversion_of(latent)
        if inversion is None:
            raise ValueError(
                "Latent Noise Mix needs the latent of DDIM Invert; this one was not inverted. Put DDIM Invert in "
                "between."
            )
        fresh = comfy.sample.prepare_noise(inversion.samples, seed, latent.get("batch_index"))
        mixed = fresh if inversion.blank else mix_noise(inversion.unit_variance(), fresh, alpha, mode)
        inversion = inversion.with_unit_variance(mixed, alpha=0.0 if inversion.blank else alpha)
        return io.NodeOutput(attach(latent, inversion), InvertedNoise(inversion, seed))


def _run_inversion(model: Any, conditioning: list, clean: Tensor, sigmas: Tensor, options: dict[str, Any]) -> Tensor:
    """ComfyUI's own sampling with our sampler function and rising noise levels: loading, LoRA, ControlNet and previews come free."""
    return comfy.sample.sample_custom(
        model,
        torch.zeros_like(clean),
        NO_GUIDANCE,
        comfy.samplers.KSAMPLER(_as_sampler(ddim_invert), extra_options=options),
        sigmas.flip(0),
        conditioning,
        conditioning,
        clean,
        callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
    )


def _as_sampler(stage: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A stage of k-diffusion's form as ComfyUI calls samplers; every call of the network can be cancelled."""

    def sample(
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Tensor,
        extra_args=None,
        callback=None,
        disable=None,
        **options: Any,
    ) -> Tensor:
        def cancellable(*args: Any, **kwargs: Any) -> Tensor:
            management.throw_exception_if_processing_interrupted()
            return model(*args, **kwargs)

        return stage(cancellable, x, sigmas, extra_args=extra_args, callback=callback, **options)

    return sample


def _require_picture(latent: dict[str, Any], clean: Tensor) -> None:
    if inversion_of(latent) is not None:
        raise ValueError("This latent is inverted already. Connect the latent of VAE Encode to DDIM Invert.")
    if torch.count_nonzero(clean) == 0:
        raise ValueError(
            "DDIM Invert got an empty latent: there is no picture in it to invert. Connect VAE Encode, or sample "
            "from the empty latent directly."
        )
