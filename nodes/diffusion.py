"""Load Embedding Diffusion: the SDXL UNet that is conditioned on embeddings, and its VAE."""

from collections.abc import Callable
from pathlib import Path

import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import load_unet
from ..loading.files import META_DIMS, read_tensors
from ..loading.reader import WeightFile
from ..miniature import manifest
from .host.choices import require_choice
from .host.folders import MINIATURE, check_name, find_weights, list_names
from .host.host_options import where_known
from .host.networks import OPERATIONS, cancellable_progress, describe
from .host.patchers import reloads
from .host.precision import PRECISIONS, choose_dtype
from .host.sdxl import build_model
from .host.vae import AutoencoderVAE
from .sockets import CATEGORY

AUTO = PRECISIONS[0]  # ComfyUI's own rules for diffusion models and the options it was started with
VAE_NAMES = (
    manifest.VAE,
    "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
)


class LoadDiffusion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadDiffusion",
            display_name="Load Embedding Diffusion",
            category=f"{CATEGORY}/loaders",
            description="Loads an SDXL UNet in diffusers format, or the bundled miniature, as an ordinary MODEL with "
            "its VAE.",
            **where_known(io.Schema, search_aliases=["unet loader", "sdxl unet"], has_intermediate_output=True),
            inputs=[
                io.Combo.Input(
                    "name",
                    options=list_names("unet"),
                    tooltip="'miniature' is the small UNet included in the pack. Put others in models/any2pix/unet: a "
                    "diffusers folder (such as the unet of the first InstructAny2Pix release), a file with its "
                    "config.json beside it, or a converted file.",
                ),
                io.Combo.Input(
                    "precision",
                    options=PRECISIONS,
                    default="auto",
                    optional=True,  # graphs in API format made before there was this widget still run
                    tooltip="Precision in which the weights are stored. auto: chosen by ComfyUI, as for any diffusion "
                    "model. fp8 needs half the memory of half precision, with a small loss of accuracy. An SDXL UNet "
                    "takes 5.1 GB in half precision.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="An SDXL MODEL for stock samplers, LoRAs and ControlNets."
                ),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="The VAE found beside the UNet (vae.safetensors, or a vae folder). If there is none, use "
                    "ComfyUI's Load VAE.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("unet", name)

    @classmethod
    def execute(cls, name: str, precision: str = "auto") -> io.NodeOutput:
        require_choice("precision of Load Embedding Diffusion", precision, PRECISIONS)
        path = find_weights("unet", name)
        model = open_model(load_unet, path, precision)
        return io.NodeOutput(model, load_vae(path, name), ui=ui.PreviewText(describe(model, path)))


def open_model(
    load: Callable[..., tuple[dict, dict]], path: Path, precision: str, disable_dynamic: bool = False
) -> ModelPatcher:
    """The MODEL of the UNet that ``load`` (a ``load_*_unet`` of the loading room) reads, its weights kept in
    ``precision``."""
    dtype = None if precision == AUTO else choose_dtype(precision)
    model = build_model(*load(path, progress=cancellable_progress()), path.name, dtype, disable_dynamic)
    return reloads(model, open_model, load, path, precision)


def load_vae(unet: Path, name: str) -> comfy.sd.VAE:
    """The VAE that belongs to a UNet; where there is none, an invalid VAE, which raises when it is used."""
    if name == MINIATURE:
        return _open_vae(manifest.FOLDER / manifest.VAE)
    for folder in (unet, unet.parent, unet.parent.parent):
        for path in (folder / relative for relative in VAE_NAMES):
            if path.is_file():
                return _open_vae(path)
    return comfy.sd.VAE(sd={})


def _open_vae(path: Path, disable_dynamic: bool = False) -> comfy.sd.VAE:
    if META_DIMS in WeightFile(path).metadata:
        vae = AutoencoderVAE(load_autoencoder(path, OPERATIONS), disable_dynamic)
    else:
        vae = comfy.sd.VAE(sd=read_tensors(path)[0])
    reloads(vae.patcher, _vae_patcher, path)
    return vae


def _vae_patcher(path: Path, disable_dynamic: bool = False) -> ModelPatcher:
    return _open_vae(path, disable_dynamic).patcher
