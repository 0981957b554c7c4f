"""The inversion inside ComfyUI: its own sampling, with our sampler function and rising noise levels."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import comfy.model_management as management
import comfy.model_sampling
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.sampler_helpers import prepare_mask
from torch import Tensor

from ...stages.belm import belm_invert
from ...stages.invert import InversionOptions, ddim_invert
from .conditioning import require_cover, require_readable
from .inverted import Inversion
from .latents import NETWORK_REMEDY, require_finite
from .skips import Witness, without_skips

logger = logging.getLogger(__name__)
NO_GUIDANCE = 1.0  # the inversion has to explain the picture, not to stress it (released code)


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

    def sides(self) -> dict[str, list]:
        """Input of DDIM Invert -> the conditioning that is asked with."""
        asked = {"conditioning of DDIM Invert": self.positive}
        return asked if self.cfg == NO_GUIDANCE else {**asked, "negative of DDIM Invert": self.negative}


def run_inversion(
    model: Any,
    guidance: Guidance,
    record: Inversion,
    options: InversionOptions | None,
    mask: Tensor | None,
    noise: Tensor,
) -> Inversion:
    """Loading, LoRA, ControlNet and previews come free with ComfyUI's sampling. All in float32: see samples_for.

    ``options``: of the fixed point; None for O-BELM.

    With a ``mask`` the model sees what a sampler with this mask will show it: outside, the clean picture under
    ``noise``. The part inside is then inverted against just that, and comes back. A soft edge counts as inside: there a
    sampler shows a blend with the noise that only the inversion finds.
    """
    for name, given in guidance.sides().items():
        require_readable(model, given, name)
        require_cover(given, model.get_model_object("model_sampling"), record.sigmas[:-1], name)
    if mask is not None:
        mask = (prepare_mask(mask, noise.shape, "cpu")[:, :1] > 0).float()
    witness, steps = Witness(), len(record.sigmas) - 1
    model = witness.attach(without_skips(model))
    solved: list[dict] = []
    lower: list[Tensor] = []  # the other half of O-BELM's state

    def inverted_pair(*given: Any, **more: Any) -> Tensor:
        upper, below = belm_invert(*given, **more)
        lower.append(below.float())
        return upper.float()

    stage, settings = (inverted_pair, {}) if options is None else (ddim_invert, asdict(options))
    inverted = comfy.samplers.sample(
        model,
        torch.zeros_like(record.clean) if mask is None else noise,
        guidance.positive,
        guidance.positive if guidance.negative is None else guidance.negative,
        guidance.cfg,
        model.load_device,
        comfy.samplers.KSAMPLER(_as_sampler(stage, witness, solved.append), extra_options=settings),
        record.sigmas.flip(0),
        model_options=model.model_options,
        latent_image=record.clean,
        denoise_mask=mask,
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
    ).to(management.intermediate_device())
    require_finite(inverted, "latent that DDIM Invert found", NETWORK_REMEDY)
    _report(solved, witness)
    below = record.latent_format.process_out(lower[0].to(inverted.device)) if lower else None
    inversion = replace(record, samples=inverted, below=below)
    return inversion if mask is None else inversion.with_noise_outside(mask, noise)


def _report(solved: list[dict], witness: Witness) -> None:
    """What the log says was counted and measured, not concluded."""
    calls = sum(state.get("calls", 1) for state in solved)
    changes = [state["change"] for state in solved if "change" in state]  # O-BELM solves nothing
    checked = "" if witness.saw else " (another node runs the network, so this count was not checked)"
    moved = max((float(change.max()) for change in changes), default=0.0)
    least = f"; the last time of a step moved no latent by more than {moved:.2g} of its length" if changes else ""
    logger.info("DDIM Invert: the network ran %d times for %d steps%s%s.", calls, len(solved), checked, least)


def _as_sampler(
    stage: Callable[..., Tensor], witness: Witness, observe: Callable[[dict], None]
) -> Callable[..., Tensor]:
    """A stage of k-diffusion's form as ComfyUI calls samplers; every call of the network can be cancelled and is
    watched, and ``observe`` sees what the stage tells of each step."""

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

        return stage(witness.watch(cancellable), x, sigmas, extra_args=extra_args, callback=tell, **options)

    return sample


def require_noise_on_top(model: Any) -> None:
    """The arithmetic of inversion and mix is that of noise added to the picture, not of a blend of both."""
    if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise ValueError(
            "DDIM Invert is for models that add noise to a picture, such as SDXL; the connected model is a flow model. "
            "Connect Load Embedding Diffusion or an SDXL checkpoint."
        )
