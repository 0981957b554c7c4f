"""The edit mask inside ComfyUI: its own sampling asks the model twice for each noise, as the source and as the edit."""

import logging
from typing import Any

import comfy.model_base
import comfy.model_management as management
import comfy.samplers
import comfy.utils
import node_helpers
import torch
from torch import Tensor

from ...stages.edit_mask import MaskOptions, edit_difference
from .conditioning import Conditioning, require_cover, require_readable
from .pix2pix_guider import SOURCE
from .skips import Witness, without_skips

logger = logging.getLogger(__name__)
NODE = "Edit Mask"


def run_edit_mask(
    model: Any, source: Conditioning, edit: Conditioning, clean: Tensor, noises: Tensor, options: MaskOptions
) -> Tensor:
    """How much edit and source differ, (B, h, w) on the CPU: `clean` (B, c, h, w) as a VAE encodes it, `noises` (n, c,
    h, w) of unit variance.

    Loading, LoRA, ControlNet, areas and time ranges come with ComfyUI's sampling. An InstructPix2Pix model sees the
    picture beside the noise, where its conditioning does not bring one.
    """
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.tensor([float(sampling.percent_to_sigma(options.level)), 0.0])
    sides = {f"source of {NODE}": source, f"edit of {NODE}": edit}
    for name, given in sides.items():
        require_readable(model, given, name)
        require_cover(given, sampling, sigmas[:1], name)
    if isinstance(model.model, comfy.model_base.IP2P):
        source, edit = (_with_picture(given, clean) for given in (source, edit))
    witness = Witness(NODE)
    asked = _Asked(noises, witness)
    guider = _BothSides(witness.attach(without_skips(model, NODE)))
    guider.set_conds(edit, source)
    guider.sample(torch.zeros_like(clean), clean, asked, sigmas, disable_pbar=True)
    return asked.difference.float().cpu()


class _BothSides(comfy.samplers.CFGGuider):
    """A guider that gives both predictions: those of the source, and after them those of the edit."""

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None = None) -> Tensor:
        conds = [self.conds["positive"], self.conds["negative"]]
        if "sampler_calc_cond_batch_function" in model_options:  # another pack's
            told = {"conds": conds, "input": x, "sigma": timestep, "model": self.inner_model}
            found = model_options["sampler_calc_cond_batch_function"]({**told, "model_options": model_options})
        else:
            found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        edit, source = found[:2]
        return torch.cat([source, edit])


class _Asked(comfy.samplers.Sampler):
    """A sampler that paints nothing: it noises the latent with each of the `noises` and keeps the difference."""

    def __init__(self, noises: Tensor, witness: Witness) -> None:
        self.noises, self.witness = noises, witness

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        progress = comfy.utils.ProgressBar(len(self.noises))
        ask = self.witness.watch(lambda x, sigma: model_wrap(x, sigma, **extra_args))

        def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
            management.throw_exception_if_processing_interrupted()
            source, edit = ask(x, sigma).chunk(2)
            progress.update(1)
            return source, edit

        noised = model_wrap.inner_model.model_sampling.noise_scaling
        self.difference = edit_difference(
            pair, latent_image, sigmas[:1], self.noises, lambda clean, fresh, sigma: noised(sigma, fresh, clean)
        )
        return latent_image


def _with_picture(given: Conditioning, clean: Tensor) -> Conditioning:
    return [
        entry if SOURCE in entry[1] else node_helpers.conditioning_set_values([entry], {SOURCE: clean})[0]
        for entry in given
    ]
