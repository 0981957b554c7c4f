"""DDIM Invert and Latent Noise Mix: the source picture as noise, and how much of it is kept."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.sampler_helpers import prepare_mask
from comfy_api.latest import io
from torch import Tensor

from ..stages.edit import EditOptions
from ..stages.invert import InversionOptions, ddim_invert
from ..stages.mix import MIX_MODES, mix_noise
from .host_options import where_known
from .instruct import MAX_SEED
from .inverted import Inversion, InvertedNoise, attach, inversion_of, sampler_sigmas, sigmas_from
from .picture_latent import require_picture
from .sockets import CATEGORY, Embedding, EmbeddingSocket

logger = logging.getLogger(__name__)
NO_GUIDANCE = 1.0  # the inversion has to explain the picture, not to stress it (released code)
# Of the noise that stands in for an inversion, after <base_null> and outside a mask; the noise mix replaces the former.
BLANK_SEED = 0
DEFAULTS = EditOptions()


@dataclass(frozen=True)
class Guidance:
    """What the inversion asks the model with. Guidance other than 1 needs a ``negative``."""

    positive: list
    negative: list | None = None
    cfg: float = NO_GUIDANCE

    def __post_init__(self) -> None:
        if self.cfg != NO_GUIDANCE and self.negative is None:
            raise ValueError(
                f"cfg of DDIM Invert is {self.cfg:g} but no negative is connected. Connect Apply Embedding's "
                "negative, or set cfg to 1."
            )


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
                    tooltip="Calls of the network a step at most. 1 is the plain DDIM inversion of the released code; "
                    "from 2 on steps are solved to the tolerance.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=DEFAULTS.tolerance,
                    min=0.0,
                    max=0.1,
                    step=0.00001,
                    round=False,
                    tooltip="How far one sampler step back may miss, as a share of the latent. A step stops iterating "
                    "there: lower is more exact and slower.",
                    **where_known(io.Float.Input, advanced=True),
                ),
                EmbeddingSocket.Input(
                    "base",
                    optional=True,
                    tooltip="Base Retrieval's embedding. When it is <base_null> nothing is inverted: noise comes "
                    "out, and the edit is painted from it.",
                ),
                io.Int.Input(
                    "start_at_step",
                    default=0,
                    min=0,
                    max=10000,
                    optional=True,
                    tooltip="The step at which the sampler will begin, as on KSampler (Advanced). 0 inverts all the way "
                    "to noise; higher stops below, so that an edit stays closer to the picture.",
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
                    tooltip="Guidance of the inversion. 1 explains the picture and suits edits. With the sampler's cfg "
                    "the same conditioning brings the picture back. Other than 1 needs negative.",
                    **where_known(io.Float.Input, advanced=True),
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What guidance leads away from; only for a cfg other than 1."
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
                    display_name="sigmas",
                    tooltip="The sampler's noise levels from start_at_step on, for SamplerCustomAdvanced.",
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
        start_at_step: int = 0,
        cfg: float = NO_GUIDANCE,
        negative: list | None = None,
    ) -> io.NodeOutput:
        guidance = Guidance(conditioning, negative, cfg)
        options = InversionOptions(iterations, tolerance)
        blank = base is not None and base.is_null
        start = 0 if blank else start_at_step  # there is no picture that could show through
        clean = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
        sigmas = sigmas_from(sampler_sigmas(model, scheduler, steps), start, scheduler)
        sampling, latent_format = (model.get_model_object(name) for name in ("model_sampling", "latent_format"))
        record = Inversion(clean, clean, sigmas, scheduler, steps, latent_format, float(sampling.sigma_max), start)
        fresh = comfy.sample.prepare_noise(clean, BLANK_SEED, latent.get("batch_index"))
        if blank:
            inversion = replace(record, blank=True).with_noise(fresh, alpha=0.0)
        else:
            require_picture(latent, "latent of DDIM Invert")
            _require_noise_on_top(sampling)
            inversion = _run_inversion(model, guidance, record, options, latent.get("noise_mask"), fresh)
        return io.NodeOutput(attach(latent, inversion), InvertedNoise(inversion, BLANK_SEED), sigmas)


class NoiseMix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixNoiseMix",
            display_name="Latent Noise Mix",
            category=f"{CATEGORY}/sampling",
            description="Mixes the inverted picture with fresh noise: alpha says how much of its layout stays.",
            **where_known(io.Schema, search_aliases=["noise blend", "slerp noise", "edit strength"]),
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
        mixed = fresh if inversion.blank else mix_noise(inversion.noise(), fresh, alpha, mode)
        inversion = inversion.with_noise(mixed, alpha=0.0 if inversion.blank else alpha)
        return io.NodeOutput(attach(latent, inversion), InvertedNoise(inversion, seed))


def _run_inversion(
    model: Any, guidance: Guidance, record: Inversion, options: InversionOptions, mask: Tensor | None, noise: Tensor
) -> Inversion:
    """ComfyUI's own sampling with our sampler function and rising noise levels: loading, LoRA, ControlNet and previews come free.

    With a ``mask`` the model sees what a sampler with this mask will show it: outside, the clean picture under ``noise``. The
    part inside is then inverted against just that, and comes back. A soft edge counts as inside: there a sampler shows a
    blend with the noise that only the inversion finds.
    """
    if mask is not None:
        mask = (prepare_mask(mask, noise.shape, "cpu")[:, :1] > 0).float()
    steps = len(record.sigmas) - 1
    solved: list[dict] = []
    inverted = comfy.sample.sample_custom(
        model,
        torch.zeros_like(record.clean) if mask is None else noise,
        guidance.cfg,
        comfy.samplers.KSAMPLER(_as_sampler(ddim_invert, solved.append), extra_options=asdict(options)),
        record.sigmas.flip(0),
        guidance.positive,
        guidance.positive if guidance.negative is None else guidance.negative,
        record.clean,
        noise_mask=mask,
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
    )
    calls, miss = sum(state["calls"] for state in solved), max(float(state["change"].max()) for state in solved)
    logger.info("DDIM Invert: %d calls of the network for %d steps, none off by more than %.2g.", calls, steps, miss)
    inversion = replace(record, samples=inverted)
    return inversion if mask is None else inversion.with_noise_outside(mask, noise)


def _as_sampler(stage: Callable[..., Tensor], observe: Callable[[dict], None]) -> Callable[..., Tensor]:
    """A stage of k-diffusion's form as ComfyUI calls samplers; every call of the network can be cancelled, and
    ``observe`` sees what the stage tells of each step."""

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

        def tell(state: dict) -> None:
            observe(state)
            if callback is not None:
                callback(state)

        return stage(cancellable, x, sigmas, extra_args=extra_args, callback=tell, **options)

    return sample


def _require_noise_on_top(sampling: Any) -> None:
    """The arithmetic of inversion and mix is that of noise added to the picture, not of a blend of both."""
    if isinstance(sampling, comfy.model_sampling.CONST):
        raise ValueError(
            "DDIM Invert is for models that add noise to a picture, such as SDXL; the connected model is a flow model. "
            "Connect Load Embedding Diffusion or an SDXL checkpoint."
        )
