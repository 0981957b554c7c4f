"""SDXL Embedding Sampler: Apply Embedding and the stock sampler in one node, with the checks of an inverted latent."""

from typing import Any

import comfy.sample
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io
from torch import Tensor

from ..models.two_view import RELEASED_LOCAL_STRENGTH, RELEASED_VIEW, VIEWS
from ..stages.any2pix.options import EditOptions
from .condition import apply_embedding, conditioning_inputs, scale_input, view_inputs
from .conditioning import AdapterOptions, Painted
from .host.choices import ChoiceInput, check_choices, samplers, schedulers
from .host.conditioning import Conditioning
from .host.follow import EULER, following_sampler
from .host.host_options import where_known
from .host.inverted import (
    Inversion,
    InvertedNoise,
    detach,
    inversion_of,
    not_inverted,
    require_same_schedule,
    sampler_sigmas,
)
from .host.latents import NETWORK_REMEDY, mask_of, require_finite, samples_for
from .host.networks import Network
from .instruct import MAX_SEED
from .sockets import CATEGORY, AdapterSocket, Embedding, EmbeddingSocket

DEFAULTS = EditOptions()
NODE = "SDXL Embedding Sampler"
WHAT = f"latent of {NODE}"


class EmbeddingSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixSampler",
            display_name=NODE,
            category=f"{CATEGORY}/sampling",
            description="Paints an embedding, from an inverted picture or from noise. Gives the same pixels as Apply "
            "Embedding with a stock sampler.",
            **where_known(io.Schema, search_aliases=["ksampler", "embedding sampler", "sound to image"]),
            inputs=[
                io.Model.Input("model", tooltip="From Load Embedding Diffusion, the same as on DDIM Invert."),
                AdapterSocket.Input("adapter", tooltip="From Load Embedding Adapter."),
                EmbeddingSocket.Input("embedding", tooltip="What to paint, from Embedding Mix."),
                io.Latent.Input(
                    "latent",
                    tooltip="From Latent Noise Mix or DDIM Invert to edit; an empty latent to paint from noise. A "
                    "noise mask on it is respected.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the noise for an empty latent. An inverted latent has its own noise: change the "
                    "seed of Latent Noise Mix instead.",
                ),
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.steps,
                    min=1,
                    max=1000,
                    tooltip="For an inverted latent, the same as on DDIM Invert.",
                ),
                io.Float.Input(
                    "cfg",
                    default=DEFAULTS.cfg,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance scale. Use 1.5 to 3 with a negative embedding; the published value without one "
                    "is 10.",
                ),
                ChoiceInput(
                    "sampler_name",
                    options=samplers(),
                    default=EULER,
                    tooltip="euler follows the path of an inversion, also of O-BELM; other samplers deviate from it.",
                ),
                ChoiceInput(
                    "scheduler",
                    options=schedulers(),
                    default=DEFAULTS.scheduler,
                    tooltip="For an inverted latent, the same as on DDIM Invert.",
                ),
                *conditioning_inputs(),
                scale_input(optional=True),
                *view_inputs(),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The painted latent, for VAE Decode.")],
        )

    @classmethod
    def validate_inputs(
        cls, sampler_name: str | None = None, scheduler: str | None = None, view: str | None = None
    ) -> bool | str:
        return check_choices(
            NODE, sampler_name=(sampler_name, samplers()), scheduler=(scheduler, schedulers()), view=(view, VIEWS)
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        adapter: Network,
        embedding: Embedding,
        latent: dict[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        negative_embedding: Embedding | None = None,
        local: Embedding | None = None,
        scale: float = 1.0,
        view: str = RELEASED_VIEW,
        local_strength: float = RELEASED_LOCAL_STRENGTH,
    ) -> io.NodeOutput:
        painted = Painted(embedding, local, negative_embedding)
        options = AdapterOptions(scale, view=view, local_strength=local_strength)
        model, positive, negative = apply_embedding(model, adapter, painted, positive, negative, options)
        noise, image, inversion = _start(model, latent, seed, sampler_name, scheduler, steps)
        common = {
            "noise_mask": mask_of(latent, WHAT),
            "callback": latent_preview.prepare_callback(model, steps),
            "disable_pbar": not comfy.utils.PROGRESS_BAR_ENABLED,
            "seed": seed,
        }
        if inversion is not None and inversion.below is not None:
            sampler = following_sampler(inversion)
            samples = comfy.sample.sample_custom(
                model, noise, cfg, sampler, inversion.sigmas, positive, negative, image, **common
            )
        else:
            start = 0 if inversion is None else inversion.start_step
            samples = comfy.sample.sample(
                model, noise, steps, cfg, sampler_name, scheduler, positive, negative, image, start_step=start, **common
            )
        require_finite(samples, f"latent that {NODE} painted", NETWORK_REMEDY)
        return io.NodeOutput(detach(latent, samples))


def _start(
    model: Any, latent: dict[str, Any], seed: int, sampler_name: str, scheduler: str, steps: int
) -> tuple[Tensor, Tensor, Inversion | None]:
    """Noise and latent image for ComfyUI's sampler, each (B, 4, h, w) in float32, and how the latent was inverted."""
    samples, masked = samples_for(model, latent, WHAT), mask_of(latent, WHAT) is not None
    inversion = inversion_of(latent, WHAT)
    if inversion is None:
        sampler_sigmas(model, scheduler, steps, NODE, sampler_name)  # names that are not there are errors
        require_finite(samples, WHAT)
        _require_empty_or_masked(latent, samples, masked)
        return comfy.sample.prepare_noise(samples, seed, latent.get("batch_index")), samples, None
    require_same_schedule(inversion, model, NODE, sampler_name, scheduler, steps)
    if inversion.below is not None and sampler_name != EULER:
        raise ValueError(
            f"sampler_name of {NODE} is {sampler_name!r}, but the latent was inverted with method 'O-BELM', which no "
            f"stock sampler follows. Set sampler_name to {EULER!r}: the node then uses O-BELM's own rule; or set "
            "method of DDIM Invert to 'fixed point'."
        )
    if masked:
        noise = InvertedNoise(inversion, seed).generate_noise({"samples": inversion.clean})
        return noise, inversion.clean, inversion
    return torch.zeros_like(samples), inversion.samples, inversion


def _require_empty_or_masked(latent: dict[str, Any], samples: Tensor, masked: bool) -> None:
    """A clean picture under full noise would silently be forgotten; under a mask it is an ordinary inpainting."""
    if not masked and torch.count_nonzero(samples):
        raise ValueError(
            f"The {WHAT} {not_inverted(latent)} The sampler would paint over it from noise. Put DDIM Invert in "
            "between, set a noise mask on it, or connect an empty latent."
        )
