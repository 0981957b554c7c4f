"""Load InstructPix2Pix: a UNet with four more channels for the picture to edit, its text encoder and its VAE."""

from collections.abc import Sequence
from pathlib import Path

import comfy.model_base
import comfy.sd
import folder_paths
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from ..loading.pix2pix import load_pix2pix_unet
from ..loading.text_encoder import load_text_encoder
from ..miniature import manifest
from .diffusion import load_vae, open_model
from .host.choices import require_choice
from .host.clip import build_clip
from .host.folders import MINIATURE, check_name, find_weights, list_names
from .host.host_options import where_known
from .host.networks import describe
from .host.patchers import reloads
from .host.precision import PRECISIONS
from .sockets import CATEGORY

# folders beside a diffusers pipeline's unet/; SD 1.5 has one
PIPELINE_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
PIPELINE_WEIGHTS = ("model.safetensors", "model.fp16.safetensors")


class LoadInstructPix2Pix(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixLoadInstructPix2Pix",
            display_name="Load InstructPix2Pix",
            category=f"{CATEGORY}/loaders",
            description="Loads an InstructPix2Pix UNet in diffusers format (SD 1.5 or SDXL), or the bundled "
            "miniature, as an ordinary MODEL with its CLIP and VAE.",
            **where_known(
                io.Schema,
                search_aliases=["ip2p", "instruct pix2pix", "edit by text"],
                has_intermediate_output=True,
            ),
            inputs=[
                io.Combo.Input(
                    "name",
                    options=list_names("pix2pix"),
                    tooltip="'miniature' is the small network included in the pack. Put others in "
                    "models/any2pix/pix2pix: a diffusers folder, the output of train_instructpix2pix, or a file with "
                    "its config.json beside it.",
                ),
                io.Combo.Input(
                    "precision",
                    options=PRECISIONS,
                    default="auto",
                    optional=True,
                    tooltip="Precision in which the UNet's weights are stored. auto: chosen by ComfyUI, as for any "
                    "diffusion model.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="A MODEL with 8 input channels, for InstructPix2Pix Guidance."
                ),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="For CLIP Text Encode. If there is no text encoder beside the UNet, use ComfyUI's "
                    "DualCLIPLoader, for SD 1.5 Load CLIP.",
                ),
                io.Vae.Output(
                    display_name="vae",
                    tooltip="The VAE found beside the UNet. If there is none, use ComfyUI's Load VAE.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return check_name("pix2pix", name)

    @classmethod
    def execute(cls, name: str, precision: str = "auto") -> io.NodeOutput:
        require_choice("precision of Load InstructPix2Pix", precision, PRECISIONS)
        path = find_weights("pix2pix", name)
        model = open_model(load_pix2pix_unet, path, precision)
        sdxl = isinstance(model.model, comfy.model_base.SDXL)
        clip = load_clip(path, name, PIPELINE_TEXT_ENCODERS if sdxl else PIPELINE_TEXT_ENCODERS[:1])
        notes = () if clip else (f"no text encoder beside it: use {'DualCLIPLoader' if sdxl else 'Load CLIP'}",)
        return io.NodeOutput(model, clip, load_vae(path, name), ui=ui.PreviewText(describe(model, path, *notes)))


def load_clip(unet: Path, name: str, pipeline: Sequence[str]) -> comfy.sd.CLIP | None:
    """The text encoder that belongs to a UNet: ours, or those in the ``pipeline``'s folders; None where there is
    none."""
    folders = [manifest.FOLDER] if name == MINIATURE else [unet, unet.parent]
    for folder in folders:
        if (ours := folder / manifest.PIX2PIX_TEXT_ENCODER).is_file():
            return _open_clip(ours)
        found = [_first_file(folder / below) for below in pipeline]
        if all(found):
            return comfy.sd.load_clip(
                [str(path) for path in found],
                folder_paths.get_folder_paths("embeddings"),
                comfy.sd.CLIPType.STABLE_DIFFUSION,
            )
    return None


def _open_clip(path: Path, **options: bool) -> comfy.sd.CLIP:
    clip = build_clip(load_text_encoder(path), **options)
    reloads(clip.patcher, _clip_patcher, path)
    return clip


def _clip_patcher(path: Path, **options: bool) -> ModelPatcher:
    return _open_clip(path, **options).patcher


def _first_file(folder: Path) -> Path | None:
    return next((folder / name for name in PIPELINE_WEIGHTS if (folder / name).is_file()), None)
