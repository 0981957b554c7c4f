"""SDXL Embedding Sampler: Apply Embedding and the stock sampler in one node, with the checks of an inverted latent."""

from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io
from torch import Tensor

from ..models.two_view import RELEASED_LOCAL_STRENGTH, RELEASED_VIEW
from ..stages.edit import EditOptions
from .condition import apply_embedding, conditioning_inputs, scale_input, view_inputs
from .conditioning import AdapterOptions, Conditioning, Painted
from .host_options import where_known
from .instruct import MAX_SEED
from .inverted import InvertedNoise, detach, inversion_of, require_same_schedule
from .networks import Network
from .sockets import CATEGORY, AdapterSocket, Embedding, EmbeddingSocket

DEFAULTS = EditOptions()


class EmbeddingSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixSampler",
            display_name="SDXL Embedding Sampler",
            category=f"{CATEGORY}/sampling",
            description="Paints an embedding, from an inverted picture or from noise. The same pixels as Apply "
            "Embedding and a stock sampler.",
            **where_known(io.Schema, search_aliases=["ksampler", "embedding sampler", "sound to image"]),
            inputs=[
                io.Model.Input("model", tooltip="From Load Embedding Diffusion, the same as on DDIM Invert."),
                AdapterSocket.Input("adapter", tooltip="From Load Embedding Adapter."),
                EmbeddingSocket.Input("embedding", tooltip="What to paint, from Embedding Mix."),
                io.Latent.Input(
                    "latent",
                    tooltip="From Latent Noise Mix or DDIM Invert to edit; an empty latent to paint from noise. A "
                    "noise mask on it is honoured.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Draws the noise for an empty latent. An inverted latent brings its own: change the "
                    "seed of Latent Noise Mix there.",
                ),
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.steps,
                    min=1,
                    max=1000,
                    tooltip="For an inverted latent the same as on DDIM Invert.",
                ),
                io.Float.Input(
                    "cfg",
                    default=DEFAULTS.cfg,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance. 1.5 to 3 when a negative embedding is connected, the published value without "
                    "one is 10.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.SAMPLER_NAMES,
                    default="euler",
                    tooltip="euler retraces an inversion; others drift from it.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.SCHEDULER_NAMES,
                    default=DEFAULTS.scheduler,
                    tooltip="For an inverted latent the same as on DDIM Invert.",
                ),
                *conditioning_inputs(),
                scale_input(optional=True),
                *view_inputs(),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The painted latent, for VAE Decode.")],
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
        noise, image, start_step = _start(model, latent, seed, sampler_name, scheduler, steps)
        samples = comfy.sample.sample(
            model,
            noise,
            steps,
            cfg,
            sampler_name,
            scheduler,
            positive,
            negative,
            image,
            start_step=start_step,
            noise_mask=latent.get("noise_mask"),
            callback=latent_preview.prepare_callback(model, steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        return io.NodeOutput(detach(latent, samples))


def _start(
    model: Any, latent: dict[str, Any], seed: int, sampler_name: str, scheduler: str, steps: int
) -> tuple[Tensor, Tensor, int]:
    """Noise and latent image for ComfyUI's sampler, each (B, 4, h, w), and the step to begin at."""
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    inversion = inversion_of(latent)
    if inversion is None:
        _require_empty_or_masked(latent)
        return comfy.sample.prepare_noise(samples, seed, latent.get("batch_index")), samples, 0
    require_same_schedule(inversion, model, sampler_name, scheduler, steps)
    if "noise_mask" in latent:
        noise = InvertedNoise(inversion, seed).generate_noise({"samples": inversion.clean})
        return noise, inversion.clean, inversion.start_step
    return torch.zeros_like(samples), samples, inversion.start_step


def _require_empty_or_masked(latent: dict[str, Any]) -> None:
    """A clean picture under full noise would silently be forgotten; under a mask it is an ordinary inpainting."""
    if "noise_mask" not in latent and torch.count_nonzero(latent["samples"]):
        raise ValueError(
            "The sampler got a picture that was not inverted, and would paint over it from noise. Put DDIM Invert "
            "in between, set a noise mask on it, or connect an empty latent."
        )
