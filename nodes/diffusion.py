"""Load Embedding Diffusion: the SDXL UNet that is conditioned on embeddings, and its VAE."""

from pathlib import Path

import comfy.sd
import comfy.utils
from comfy_api.latest import io

from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import load_unet
from ..loading.files import META_DIMS, read_tensors
from .folders import MINIATURE, MINIATURE_FOLDER, check_name, find_weights, list_names
from .networks import OPERATIONS
from .sdxl import build_model
from .sockets import CATEGORY
from .vae import AutoencoderVAE

VAE_NAMES = (
    "vae.safetensors",
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
            description="Loads an SDXL UNet in diffusers format, the bundled miniature included, as an ordinary "
            "MODEL with its VAE.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=list_names("unet"),
                    tooltip="'miniature' is the small UNet that comes with the pack. Others lie in "
                    "models/any2pix/unet: "
                    "a diffusers folder, or a file with its config.json beside it.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="An SDXL MODEL for stock samplers, LoRAs and ControlNets."
                ),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="The VAE found beside the UNet (vae.safetensors, or a vae folder). Where there is none, "
                    "use ComfyUI's Load VAE.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("unet", name)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        path = find_weights("unet", name)
        state_dict, config = load_unet(path)
        return io.NodeOutput(build_model(state_dict, config, source=path.name), load_vae(path, name))


def load_vae(unet: Path, name: str) -> comfy.sd.VAE:
    """The VAE that belongs to a UNet; an invalid VAE, which says so when it is used, where there is none."""
    if name == MINIATURE:
        return AutoencoderVAE(load_autoencoder(MINIATURE_FOLDER / VAE_NAMES[0], OPERATIONS))
    for folder in (unet, unet.parent, unet.parent.parent):
        for path in (folder / relative for relative in VAE_NAMES):
            if path.is_file():
                return _open_vae(path)
    return comfy.sd.VAE(sd={})


def _open_vae(path: Path) -> comfy.sd.VAE:
    state_dict, metadata = read_tensors(path)
    if META_DIMS in metadata:
        return AutoencoderVAE(load_autoencoder(path, OPERATIONS))
    return comfy.sd.VAE(sd=state_dict)
