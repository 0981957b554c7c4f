"""The inversion of a picture on disk: it is found once, and every later edit of the picture starts from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.latent_formats
import comfy.model_management as management
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..stages.any2pix.options import BELM, FIXED_POINT
from ..stages.encode import check_finite
from .host.follow import following_sampler
from .host.identity import ModelIdentity, identify
from .host.inverted import INVERSION_KEY, Inversion, InvertedNoise, attach, inversion_of
from .invert import sampler_output
from .saved import LoadingNode, SavingNode, describe_file
from .sockets import CATEGORY

PREFIX = "any2pix_inversion."
SEED = 0  # of the NOISE; it has its noise already
PLAIN = (bool, int, float, str)
MOST_STEPS = 100_000
NUMBER = (int, float)
KINDS_OF_ENTRIES = {  # of a record; a dict: the fields of a part
    "scheduler": str,
    "steps": int,
    "start_step": int,
    "sigma_max": NUMBER,
    "blank": bool,
    "alpha": (*NUMBER, type(None)),
    "settings": dict,
    "latent_format": {"name": str, "scale_factor": NUMBER},
    "model": {"family": str, "patches": str},
    "extras": dict,
}


@dataclass(frozen=True)
class SavedInversion:
    """``extras``: the plain entries of the LATENT beside samples, mask and record. ``left_out``: names of those no file
    can hold."""

    inversion: Inversion
    mask: Tensor | None
    extras: Mapping[str, Any]
    left_out: tuple[str, ...] = ()

    def latent(self) -> dict[str, Any]:
        mask = {} if self.mask is None else {"noise_mask": self.mask}
        return attach({**self.extras, **mask}, self.inversion)


class SaveInversion(SavingNode):
    KIND = "inversion"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.saver(
            io.Latent.Input("latent", tooltip="From DDIM Invert, or from Latent Noise Mix to keep a certain mix."),
            default="my picture",
            search_aliases=["save inverted latent", "save noise"],
            node_id="Any2PixSaveInversion",
            display_name="Save Inversion",
            category=f"{CATEGORY}/sampling",
            description="Saves the inversion of a picture. Later edits skip the inversion and give the same picture, "
            "bit for bit.",
        )

    @classmethod
    def execute(cls, latent: dict[str, Any], name: str, overwrite: bool) -> io.NodeOutput:
        inverted = saved_inversion_of(latent)
        left_out = f"not saved of the latent: {', '.join(inverted.left_out)}" if inverted.left_out else ""
        shown = "\n".join(filter(None, (describe(inverted.inversion), left_out)))
        return cls.keep("latent", *pack_inversion(inverted), name, overwrite, shown)


class LoadInversion(LoadingNode):
    KIND = "inversion"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return cls.loader(
            "Save Inversion",
            inputs=[
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that DDIM Invert used, with its LoRAs. If connected, it is compared with the "
                    "model of the inversion; a different one is an error.",
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
                    display_name="sigmas", tooltip="The sampler's noise levels, for SamplerCustomAdvanced."
                ),
                sampler_output(),
            ],
            search_aliases=["load inverted latent", "load noise"],
            node_id="Any2PixLoadInversion",
            display_name="Load Inversion",
            category=f"{CATEGORY}/sampling",
            description="Loads the inversion of a picture; replaces DDIM Invert and the picture.",
        )

    @classmethod
    def execute(cls, name: str, model: Any = None) -> io.NodeOutput:
        inverted, record, path = cls.read(name, unpack_inversion)
        inversion = inverted.inversion
        if model is not None and inversion.model is not None and (other := inversion.model.difference(identify(model))):
            raise ValueError(
                f"The inversion {name} was made with {other}. Connect the model that DDIM Invert had, or disconnect "
                "model of Load Inversion: the picture may then be restored less exactly."
            )
        shown = ui.PreviewText(f"{describe(inversion)}\n{describe_file(path, record)}")
        noise, sampler = InvertedNoise(inversion, SEED), following_sampler(inversion)
        return io.NodeOutput(inverted.latent(), noise, inversion.sigmas, sampler, ui=shown)


def describe(inversion: Inversion) -> str:
    """How it was made, a few words a line."""
    height, width = inversion.samples.shape[-2:]
    model, settings = inversion.model, ", ".join(f"{key} {value:g}" for key, value in inversion.settings.items())
    made = "a model that was not recorded" if model is None else model.family + (" with LoRA" if model.patches else "")
    start = f" from step {inversion.start_step}" if inversion.start_step else ""
    method = FIXED_POINT if inversion.below is None else BELM
    mixed = "" if inversion.alpha is None else f"mixed with fresh noise, alpha {inversion.alpha:g}"
    lines = (
        f"steps {inversion.steps}{start}, scheduler {inversion.scheduler}",
        "" if inversion.blank else f"method {method}",
        f"latent {len(inversion.samples)} x {width} x {height}, made with {made}",
        "<base_null>: noise, no picture" if inversion.blank else settings,
        "" if inversion.blank else mixed,
    )
    return "\n".join(filter(None, lines))


def saved_inversion_of(latent: dict[str, Any]) -> SavedInversion:
    """What of a LATENT is saved; ValueError where it is not inverted, or could not be the same again."""
    inversion = inversion_of(latent)
    if inversion is None:
        raise ValueError(
            "Save Inversion needs the latent of DDIM Invert; this one was not inverted. Put DDIM Invert in between."
        )
    check_finite(inversion.samples, "latent of Save Inversion")
    again = _latent_format(*_name_of(inversion.latent_format))
    if again is None or not torch.equal(
        again.process_in(inversion.samples), inversion.latent_format.process_in(inversion.samples)
    ):
        raise ValueError(
            f"The latent format {type(inversion.latent_format).__name__} is not one of ComfyUI's own, so it cannot be "
            "saved. This inversion can be used in this graph only."
        )
    rest = {key: value for key, value in latent.items() if key not in ("samples", "noise_mask", INVERSION_KEY)}
    extras = {key: value for key, value in rest.items() if _is_plain(value)}
    return SavedInversion(inversion, latent.get("noise_mask"), extras, tuple(key for key in rest if key not in extras))


def pack_inversion(saved: SavedInversion) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """-> tensors, record."""
    inversion, model = saved.inversion, saved.inversion.model
    tensors = {"samples": inversion.samples, "clean": inversion.clean, "sigmas": inversion.sigmas}
    tensors |= {} if inversion.below is None else {"below": inversion.below}
    tensors |= {} if saved.mask is None else {"noise_mask": saved.mask}
    tensors |= {} if model is None else {"model": model.weights}
    name, scale = _name_of(inversion.latent_format)
    record = {
        "scheduler": inversion.scheduler,
        "steps": inversion.steps,
        "start_step": inversion.start_step,
        "sigma_max": inversion.sigma_max,
        "blank": inversion.blank,
        "alpha": inversion.alpha,
        "settings": dict(inversion.settings),
        "latent_format": {"name": name, "scale_factor": scale},
        "model": None if model is None else {"family": model.family, "patches": model.patches},
        "extras": dict(saved.extras),
    }
    return {PREFIX + key: value for key, value in tensors.items()}, record


def unpack_inversion(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> SavedInversion:
    """The reverse, on the device where ComfyUI keeps latents; ValueError where tensors and record do not fit
    together."""
    entries = _entries(record)
    tensors = {key.removeprefix(PREFIX): value for key, value in tensors.items()}
    latent_format = _latent_format(**entries.pop("latent_format"))
    _require(latent_format is not None, f"this ComfyUI has no latent format {record['latent_format']['name']!r}")
    _check_tensors(tensors, latent_format)
    model, extras = entries.pop("model"), entries.pop("extras")
    if model is not None:
        model = ModelIdentity(weights=tensors.get("model", torch.zeros(0)), **model)
    device = management.intermediate_device()
    samples, clean = (tensors[key].to(device) for key in ("samples", "clean"))
    below, mask = (tensors[key].to(device) if key in tensors else None for key in ("below", "noise_mask"))
    sigmas = tensors["sigmas"]
    inversion = Inversion(samples, clean, sigmas, latent_format=latent_format, model=model, below=below, **entries)
    return SavedInversion(inversion, mask, extras)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _check_tensors(tensors: Mapping[str, Tensor], latent_format: Any) -> None:
    missing = [key for key in ("samples", "clean", "sigmas") if key not in tensors]
    _require(not missing, f"it has no {', '.join(missing)}")
    samples, clean, sigmas = (tensors[key] for key in ("samples", "clean", "sigmas"))
    _require(all(value.is_floating_point() for value in (samples, clean, sigmas)), "it holds whole numbers")
    fits = samples.ndim == 2 + latent_format.latent_dimensions and samples.shape[1] == latent_format.latent_channels
    _require(fits and samples.numel() > 0, f"its latent has the shape {tuple(samples.shape)}")
    _require(clean.shape == samples.shape, "its two latents differ in shape")
    below = tensors.get("below", samples)
    _require(below.shape == samples.shape and below.is_floating_point(), "its third latent is of another kind")
    _require(sigmas.ndim == 1 and 2 <= len(sigmas) <= MOST_STEPS, "its noise levels are of no schedule")
    _require(float(sigmas[-1]) == 0.0 and bool((sigmas[1:] < sigmas[:-1]).all()), "its noise levels do not fall to 0")


def _entries(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record's entries as Inversion takes them, each of its type."""
    for key, kind in KINDS_OF_ENTRIES.items():
        value = record.get(key)
        valid = isinstance(value, kind) if not isinstance(kind, dict) else value is None or _has_fields(value, kind)
        _require(key in record and valid, f"its record has no valid {key}")
    entries = {key: record[key] for key in KINDS_OF_ENTRIES}
    _require(entries["latent_format"] is not None, "its record has no valid latent_format")
    _require(
        all(isinstance(value, NUMBER) for value in entries["settings"].values()), "its record has no valid settings"
    )
    reserved = {"samples", "noise_mask", INVERSION_KEY} & set(entries["extras"])
    _require(not reserved and all(map(_is_plain, entries["extras"].values())), "its record has no valid extras")
    _require(
        1 <= entries["steps"] <= MOST_STEPS and 0 <= entries["start_step"] <= MOST_STEPS,
        "its record has no valid steps",
    )
    return entries


def _has_fields(value: Any, kinds: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and set(value) == set(kinds) and all(isinstance(value[k], kinds[k]) for k in kinds)


def _name_of(latent_format: Any) -> tuple[str, float]:
    return type(latent_format).__name__, float(latent_format.scale_factor)


def _latent_format(name: str, scale_factor: float) -> Any:
    """ComfyUI's latent format of this class, None where it has none."""
    kind = getattr(comfy.latent_formats, name, None)
    if not (isinstance(kind, type) and issubclass(kind, comfy.latent_formats.LatentFormat)):
        return None
    latent_format = kind()
    if latent_format.scale_factor != scale_factor:
        latent_format.scale_factor = scale_factor
    return latent_format


def _is_plain(value: Any) -> bool:
    """What a record in JSON gives back as it was: plain values, and lists of them, as batch_index is."""
    values = value if isinstance(value, list) else [value]
    if not all(type(entry) in PLAIN for entry in values):
        return False
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except ValueError:
        return False
