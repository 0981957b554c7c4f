"""DDIM Invert and Latent Noise Mix: the source picture as noise, and how much of it is kept."""

from dataclasses import asdict, replace
from typing import Any

import comfy.sample
from comfy_api.latest import io

from ..stages.any2pix.mix import MIX_MODES, mix_noise
from ..stages.any2pix.options import FIXED_POINT, INVERSION_METHODS, EditOptions
from ..stages.belm import check_levels
from ..stages.invert import InversionOptions
from .host.choices import ChoiceInput, check_choices, require_choice, schedulers
from .host.follow import following_sampler
from .host.host_options import where_known
from .host.identity import identify
from .host.inverted import Inversion, InvertedNoise, attach, inversion_of, not_inverted, sampler_sigmas, sigmas_from
from .host.latents import mask_of, require_finite, samples_for
from .host.picture_latent import require_picture
from .host.run_inversion import NO_GUIDANCE, Guidance, require_noise_on_top, run_inversion
from .instruct import MAX_SEED
from .sockets import CATEGORY, Embedding, EmbeddingSocket

# Of the noise that stands in for an inversion, after <base_null> and outside a mask; the noise mix replaces the former.
BLANK_SEED = 0
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
            **where_known(
                io.Schema, search_aliases=["unsampler", "invert", "inversion", "reverse sampling", "noise from image"]
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model for sampling. LoRAs and ControlNets matter: use the same here and on the "
                    "sampler.",
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
                    tooltip="Must equal the sampler's steps. More steps are more exact and slower.",
                ),
                ChoiceInput(
                    "scheduler",
                    options=schedulers(),
                    default=DEFAULTS.scheduler,
                    tooltip="Must equal the sampler's scheduler.",
                ),
                io.Int.Input(
                    "iterations",
                    default=DEFAULTS.iterations,
                    min=1,
                    max=50,
                    tooltip="Maximum calls of the network for each step. 1 is the plain DDIM inversion of the "
                    "released code; from 2 on, each step is solved to the tolerance.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=DEFAULTS.tolerance,
                    min=0.0,
                    max=0.1,
                    step=0.00001,
                    round=False,
                    tooltip="Allowed error of one sampler step back, relative to the latent's length. Iteration stops "
                    "there: lower is more exact and slower.",
                    **where_known(io.Float.Input, advanced=True),
                ),
                EmbeddingSocket.Input(
                    "base",
                    optional=True,
                    tooltip="Base Retrieval's embedding. For <base_null>, a sound or a text, nothing is inverted: the "
                    "edit is painted from noise.",
                ),
                io.Int.Input(
                    "start_at_step",
                    default=0,
                    min=0,
                    max=10000,
                    optional=True,
                    tooltip="The step at which the sampler will start, as on KSampler (Advanced). 0 inverts all the "
                    "way to noise; a higher value stops earlier, and an edit stays closer to the picture.",
                    **where_known(io.Int.Input, advanced=True),
                ),
                io.Float.Input(
                    "cfg",
                    default=NO_GUIDANCE,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    optional=True,
                    tooltip="Guidance scale of the inversion. Use 1 for edits: the picture is then restored exactly. "
                    "A higher value, the same as on the sampler, loses some detail (0.9 to 6.9 dB at cfg 5). Any "
                    "value except 1 needs negative.",
                    **where_known(io.Float.Input, advanced=True),
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="The negative conditioning; only needed for a cfg other than 1."
                ),
                ChoiceInput(
                    "method",
                    options=list(INVERSION_METHODS),
                    default=DEFAULTS.inversion_method,
                    optional=True,
                    tooltip="fixed point: for every sampler. O-BELM: exact at one call of the network a step, at any "
                    "cfg; only SDXL Embedding Sampler, and SamplerCustomAdvanced with the sampler output, follow it.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The inverted latent: for Latent Noise Mix, SDXL Embedding Sampler, or KSampler "
                    "(Advanced) with add_noise disabled.",
                ),
                io.Noise.Output(
                    display_name="noise",
                    tooltip="The same as NOISE, for SamplerCustomAdvanced with the clean latent; respects a noise "
                    "mask.",
                ),
                io.Sigmas.Output(
                    display_name="sigmas",
                    tooltip="The sampler's noise levels from start_at_step on, for SamplerCustomAdvanced.",
                ),
                sampler_output(),
            ],
        )

    @classmethod
    def validate_inputs(cls, scheduler: str | None = None, method: str | None = None) -> bool | str:
        return check_choices("DDIM Invert", scheduler=(scheduler, schedulers()), method=(method, INVERSION_METHODS))

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
        start_at_step: int = 0,
        cfg: float = NO_GUIDANCE,
        negative: list | None = None,
        method: str = FIXED_POINT,
    ) -> io.NodeOutput:
        require_choice("method of DDIM Invert", method, INVERSION_METHODS)
        guidance = Guidance(conditioning, negative, cfg)
        options = InversionOptions(iterations, tolerance) if method == FIXED_POINT else None
        blank = base is not None and base.paints_from_noise
        start = 0 if blank else start_at_step  # there is no picture that could show through
        require_noise_on_top(model)
        what = "latent of DDIM Invert"
        clean = samples_for(model, latent, what)
        sigmas = sigmas_from(sampler_sigmas(model, scheduler, steps, "DDIM Invert"), start, scheduler)
        sampling, latent_format = (model.get_model_object(name) for name in ("model_sampling", "latent_format"))
        record = Inversion(clean, clean, sigmas, scheduler, steps, latent_format, float(sampling.sigma_max), start)
        settings = {} if options is None else asdict(options)
        record = replace(record, model=identify(model), settings={**settings, "cfg": cfg})
        fresh = comfy.sample.prepare_noise(clean, BLANK_SEED, latent.get("batch_index"))
        if blank:
            inversion = replace(record, blank=True).with_noise(lambda _: fresh, alpha=0.0)
        else:
            require_picture(latent, clean, what)
            if options is None:
                check_levels(sigmas)
            inversion = run_inversion(model, guidance, record, options, mask_of(latent, what), fresh)
        noise = InvertedNoise(inversion, BLANK_SEED)
        return io.NodeOutput(attach(latent, inversion), noise, sigmas, following_sampler(inversion))


class NoiseMix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixNoiseMix",
            display_name="Latent Noise Mix",
            category=f"{CATEGORY}/sampling",
            description="Mixes the inverted picture with fresh noise: alpha sets how much of its layout stays.",
            **where_known(io.Schema, search_aliases=["noise blend", "slerp noise", "edit strength"]),
            inputs=[
                io.Latent.Input("latent", tooltip="From DDIM Invert."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the fresh noise.",
                ),
                io.Float.Input(
                    "alpha",
                    default=DEFAULTS.alpha,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 keeps the layout of the source picture, 0 ignores it. Lower it if the edit changes too "
                    "little. After <base_null> it is treated as 0.",
                ),
                ChoiceInput(
                    "mode",
                    options=list(MIX_MODES),
                    default=DEFAULTS.mode,
                    tooltip="How the mix is rescaled: as in the paper, or as in the released code (polar).",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="latent",
                    tooltip="For SDXL Embedding Sampler, or KSampler (Advanced) with add_noise disabled.",
                ),
                io.Noise.Output(
                    display_name="noise",
                    tooltip="The same as NOISE, for SamplerCustomAdvanced with the clean latent; respects a noise "
                    "mask.",
                ),
                sampler_output(),
            ],
        )

    @classmethod
    def validate_inputs(cls, mode: str | None = None) -> bool | str:
        return check_choices("Latent Noise Mix", mode=(mode, MIX_MODES))

    @classmethod
    def execute(cls, latent: dict[str, Any], seed: int, alpha: float, mode: str) -> io.NodeOutput:
        require_choice("mode of Latent Noise Mix", mode, MIX_MODES)
        what = "latent of Latent Noise Mix"
        inversion = inversion_of(latent, what)
        if inversion is None:
            raise ValueError(f"The {what} {not_inverted(latent)} Put DDIM Invert in between.")
        fresh = comfy.sample.prepare_noise(inversion.samples, seed, latent.get("batch_index"))
        inversion = inversion.with_noise(
            lambda noise: fresh if inversion.blank else mix_noise(noise, fresh.to(noise), alpha, mode),
            alpha=0.0 if inversion.blank else alpha,
        )
        require_finite(
            inversion.samples, "latent that Latent Noise Mix made", "Its own arithmetic overflowed: please report it."
        )
        return io.NodeOutput(attach(latent, inversion), InvertedNoise(inversion, seed), following_sampler(inversion))


def sampler_output() -> io.Sampler.Output:
    """The last output of every node that gives an inverted latent."""
    return io.Sampler.Output(
        display_name="sampler",
        tooltip="The sampler that follows this inversion, for SamplerCustomAdvanced: euler, or the two-step rule of "
        "O-BELM.",
    )
