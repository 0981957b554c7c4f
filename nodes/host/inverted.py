"""What an inverted LATENT carries: how it was made, so that a sampler with other settings is an error and not mush."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ...stages.latents import clean_outside, noise_in, noise_scale, with_noise
from .choices import require_choice, samplers, schedulers
from .identity import ModelIdentity
from .latents import require_finite, samples_of

INVERSION_KEY = "any2pix_inversion"
# A latent that still is noise of level sigma has a deviation of about sigma in model space, a clean one of about 1:
# above a share of sigma it is noise, where that share is high enough to tell the two apart.
NOISE_SHARE = 0.5
LEAST_NOISE_DEVIATION = 2.0
SIGMA_TOLERANCE = 1e-4  # relative; the same schedule computed on two devices differs by less


@dataclass(frozen=True)
class Inversion:
    """``samples``: the very tensor this describes, so that a node which replaced the LATENT's samples is noticed.

    ``clean``: the LATENT before inversion. ``sigmas``: falling, as the sampler will use them, with the final 0: those
    of ``steps`` steps from step ``start_step`` on; ``sigma_max``: the model's highest noise level.
    ``latent_format``: between LATENT and model space. ``blank``: <base_null>, ``samples`` are plain noise. ``alpha``:
    set by the noise mix, for the record, as are ``model``, which made it, and ``settings``, the other knobs by their
    names. ``below``: of O-BELM alone, the latent at sigmas[1], the other half of its state.
    """

    samples: Tensor
    clean: Tensor
    sigmas: Tensor
    scheduler: str
    steps: int
    latent_format: Any
    sigma_max: float
    start_step: int = 0
    blank: bool = False
    alpha: float | None = None
    model: ModelIdentity | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    below: Tensor | None = None

    @property
    def start_sigma(self) -> float:
        return float(self.sigmas[0])

    @property
    def whole(self) -> bool:
        """Whether it was inverted all the way up."""
        return self.start_step == 0

    @property
    def noise_scale(self) -> float:
        """What ComfyUI multiplies noise with at the first step."""
        return noise_scale(self.start_sigma, self.sigma_max)

    def with_noise(self, mix: Callable[[Tensor], Tensor], alpha: float | None = None) -> "Inversion":
        """The inversion that starts from ``mix(noise)``. ``alpha``: for the record.

        ``noise``, of unit variance, in model space: inverted all the way up, the whole latent in the
        variance-preserving scale, as in the paper. Inverted up to a step in between the picture still shows in the
        latent, and it is the noise on top of the clean picture.
        """

        def mixed(x: Tensor, clean: Tensor, level: int) -> Tensor:
            sigma = float(self.sigmas[level])
            return with_noise(mix(noise_in(x, clean, sigma, self.whole)), clean, sigma, self.whole)

        return replace(self._with_state(mixed), alpha=alpha)

    def with_noise_outside(self, mask: Tensor, noise: Tensor) -> "Inversion":
        """Where ``mask`` (B, 1 or C, h, w) is 0, the clean picture under ``noise``, as a sampler with this mask puts
        it."""

        def outside(x: Tensor, clean: Tensor, level: int) -> Tensor:
            scale = noise_scale(float(self.sigmas[level]), self.sigma_max)
            return clean_outside(x, mask.to(x.device), clean, noise.to(x), scale)

        return self._with_state(outside)

    def _with_state(self, change: Callable[[Tensor, Tensor, int], Tensor]) -> "Inversion":
        """``change(latent, clean latent, its place in sigmas)``, in model space, of each latent of the state."""

        def changed(latent: Tensor, level: int) -> Tensor:
            x = self.latent_format.process_in(latent)
            return self.latent_format.process_out(change(x, self.latent_format.process_in(self.clean).to(x), level))

        below = None if self.below is None else changed(self.below, 1)
        return replace(self, samples=changed(self.samples, 0), below=below)


class PairedLatent(dict):
    """The LATENT of an O-BELM inversion: for ComfyUI a LATENT, but a node that would sample or decode its samples
    alone, without the other half of the state, gets an error instead of a spoilt picture."""

    def __getitem__(self, key: str) -> Any:
        if key == "samples":
            raise ValueError(
                "This latent was inverted with method 'O-BELM', which only SDXL Embedding Sampler, or "
                "SamplerCustomAdvanced with the sampler, noise and sigmas outputs of DDIM Invert, can follow. Connect "
                "one of them, or set method of DDIM Invert to 'fixed point'."
            )
        return super().__getitem__(key)

    def copy(self) -> "PairedLatent":
        """As SetLatentNoiseMask copies it."""
        return PairedLatent(self)


def attach(latent: dict[str, Any], inversion: Inversion) -> dict[str, Any]:
    """The LATENT with the inversion's samples and its record; mask and batch index stay."""
    kind = dict if inversion.below is None else PairedLatent
    return kind({**latent, "samples": inversion.samples, INVERSION_KEY: inversion})


def detach(latent: dict[str, Any], samples: Tensor) -> dict[str, Any]:
    """A sampled LATENT: clean again, so the record goes."""
    return {**{key: value for key, value in latent.items() if key != INVERSION_KEY}, "samples": samples}


def inversion_of(latent: dict[str, Any], what: str = "latent") -> Inversion | None:
    """The record of an inverted LATENT, None for any other; an error where a node changed the noise after the
    inversion.

    ``what``: the input, for messages: "latent of Latent Noise Mix".
    """
    samples = samples_of(latent, what)
    inversion = latent.get(INVERSION_KEY)
    if inversion is None or _is_copy(samples, inversion.samples):
        return inversion
    require_finite(samples, what, "It was inverted and has been changed since: check the node it comes from.")
    deviation = float(inversion.latent_format.process_in(samples.float()).std())
    if deviation > max(NOISE_SHARE * inversion.start_sigma, LEAST_NOISE_DEVIATION):
        raise ValueError(
            "The inverted latent was changed by another node (batch, crop, rotate, upscale, composite ...), so it no "
            "longer leads back to its picture. Put that node before DDIM Invert."
        )
    return None  # stock samplers copy every key of a LATENT: this one has been sampled since


def not_inverted(latent: dict[str, Any]) -> str:
    """Why a LATENT without a valid record has none: the end of a sentence that begins with "The latent of ..."."""
    if INVERSION_KEY in latent:
        return "was inverted, but a sampler or another node has changed its content since."
    return "was not inverted."


def _is_copy(samples: Tensor, inverted: Tensor) -> bool:
    """The very tensor, or the same numbers elsewhere: some nodes copy a LATENT, move it or keep it in 16 bits."""
    if samples is inverted:
        return True
    return samples.shape == inverted.shape and torch.equal(samples.cpu(), inverted.to("cpu", samples.dtype))


def sampler_sigmas(model: Any, scheduler: str, steps: int, node: str, sampler_name: str = "euler") -> Tensor:
    """The falling noise levels that ComfyUI's KSampler uses for these widgets, with the final 0, on the CPU.

    ComfyUI takes its first scheduler and sampler for names that it does not have; here they are errors. ``node``: whose
    widgets.
    """
    require_choice(f"scheduler of {node}", scheduler, schedulers())
    require_choice(f"sampler_name of {node}", sampler_name, samplers())
    if steps < 1:
        raise ValueError(f"steps of {node} is {steps}; it must be at least 1.")
    sampler = comfy.samplers.KSampler(
        model, steps=steps, device="cpu", sampler=sampler_name, scheduler=scheduler, denoise=1.0
    )
    return sampler.sigmas.cpu()


def sigmas_from(sigmas: Tensor, start_step: int, scheduler: str) -> Tensor:
    """The noise levels of a sampler that begins at ``start_step``, as KSampler (Advanced) cuts them."""
    last = len(sigmas) - 2
    if not 0 <= start_step <= last:
        raise ValueError(
            f"start_at_step is {start_step}, but scheduler {scheduler!r} has the steps 0 to {last} here. Set "
            f"start_at_step to {last} or less (0 inverts all the way up), or raise steps."
        )
    return sigmas[start_step:]


def require_same_schedule(
    inversion: Inversion, model: Any, node: str, sampler_name: str, scheduler: str, steps: int
) -> None:
    """Sampling has to walk down the very steps that the inversion walked up, in latents of the same kind."""
    inverted_in, sampled_in = inversion.latent_format, model.get_model_object("latent_format")
    if type(inverted_in) is not type(sampled_in):
        raise ValueError(
            f"The latent was inverted with a model of {type(inverted_in).__name__} latents, the sampler's has "
            f"{type(sampled_in).__name__} latents. Connect the same model to both."
        )
    sigmas = sampler_sigmas(model, scheduler, steps, node, sampler_name)[inversion.start_step :]
    if same_levels(sigmas, inversion.sigmas):
        return
    if scheduler != inversion.scheduler:
        raise ValueError(
            f"The latent was inverted with scheduler {inversion.scheduler!r}, the sampler has {scheduler!r}. Set "
            f"scheduler to {inversion.scheduler!r} on both."
        )
    if steps != inversion.steps:
        raise ValueError(
            f"The latent was inverted with {inversion.steps} steps, the sampler has {steps}. Set steps to "
            f"{inversion.steps} on both."
        )
    if not torch.equal(sampler_sigmas(model, scheduler, steps, node)[inversion.start_step :], sigmas):
        raise ValueError(
            f"The sampler {sampler_name!r} uses other noise levels than the inversion. Set sampler_name to 'euler'."
        )
    raise ValueError(
        "The model's noise levels differ between DDIM Invert and the sampler. Connect the same model to both."
    )


def same_levels(sigmas: Tensor, others: Tensor) -> bool:
    """Whether two schedules are one, computed twice."""
    return sigmas.shape == others.shape and torch.allclose(sigmas, others, rtol=SIGMA_TOLERANCE, atol=0.0)


class InvertedNoise:
    """An inverted or mixed latent as ComfyUI's NOISE: together with the latent it is given, it starts the sampler
    there.

    Handing the noise and the clean latent over apart lets a stock sampler honour a noise mask: outside the mask it puts
    the clean latent back, and there the result is the VAE round trip, exactly.
    """

    def __init__(self, inversion: Inversion, seed: int):
        self.inversion = inversion
        self.seed = seed

    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """N such that ComfyUI's noise scaling of N and the given latent gives the inverted latent."""
        what = "latent_image of the sampler"
        given = samples_of(input_latent, what)
        require_finite(given, what)
        masked = input_latent.get("noise_mask") is not None
        if masked and inversion_of(input_latent, what) is not None:
            raise ValueError(
                "The sampler got the inverted latent together with its NOISE and a mask. Connect the clean latent "
                "instead: VAE Encode, Set Latent Noise Mask, then latent_image of the sampler."
            )
        start = self.inversion.latent_format.process_in(self._start_for(given))
        # an empty latent is not scaled by the sampler either
        clean = self.inversion.latent_format.process_in(given) if torch.count_nonzero(given) else given
        return (start - clean.to(start)) / self.inversion.noise_scale

    def _start_for(self, given: Tensor) -> Tensor:
        start = self.inversion.samples
        if given.shape[1:] != start.shape[1:] or (len(start) != 1 and len(given) != len(start)):
            raise ValueError(
                f"The NOISE was inverted from a latent of shape {tuple(start.shape)}, the sampler's latent is "
                f"{tuple(given.shape)}. Connect the latent that went into DDIM Invert."
            )
        return comfy.utils.repeat_to_batch_size(start, len(given))
