"""Diffusers-format SDXL UNets: a file of ours with its config inside, or a folder with config.json as diffusers writes it."""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..models.diffusion import EmbeddingDiffusion
from .adapter import load_adapter
from .files import file_error, read_network_file
from .strict import load_strict

CONFIG_NAME = "config.json"
FOLDER_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")


def load_unet(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """(state dict, keyword arguments of `UNet2DConditionModel`) of a file of ours or of a diffusers folder."""
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    file = read_network_file(path, "unet")
    beside = path.with_name(CONFIG_NAME)
    config = file.dims or (_read_config(beside) if beside.is_file() else {})
    if not config:
        raise file_error(path, "does not say how the UNet is built.", f"Put the {CONFIG_NAME} it was published with beside it.")
    return file.state_dict, config


def build_unet(state_dict: dict[str, Tensor], config: dict, source: str | Path = "the UNet") -> UNet2DConditionModel:
    """The diffusers network with these weights, every key and shape checked."""
    unet = UNet2DConditionModel.from_config(config)
    load_strict(unet, state_dict, source=source)
    return unet.eval().requires_grad_(False)


def load_embedding_diffusion(unet: str | Path, adapter: str | Path, device="cpu", dtype=torch.float32) -> EmbeddingDiffusion:
    """UNet and unCLIP projector together, outside ComfyUI (training, evaluation)."""
    network = EmbeddingDiffusion(build_unet(*load_unet(unet), source=unet), load_adapter(adapter))
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _load_folder(folder: Path) -> tuple[dict[str, Tensor], dict]:
    config = _read_config(folder / CONFIG_NAME)
    for name in FOLDER_WEIGHTS:
        if (folder / name).is_file():
            return read_network_file(folder / name, "unet").state_dict, config
    raise file_error(folder, "holds no UNet weights.", f"It should hold {CONFIG_NAME} and {FOLDER_WEIGHTS[0]}.")


def _read_config(path: Path) -> dict:
    if not path.is_file():
        raise file_error(path, "is not there.", "A diffusers UNet comes with its config.json; put both into the folder.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise file_error(path, f"is not JSON ({error}).", "Download it again.") from error
    return {key: value for key, value in config.items() if not key.startswith("_")}
