"""InstructPix2Pix and the text-conditioned UNet it grows from: our files, or folders in diffusers format."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.text_diffusion import SOURCE_CHANNELS, TextDiffusion
from .diffusion import build_unet, plan_unet, read_unet
from .errors import file_error
from .kinds import KINDS
from .plan import Plan, Progress
from .text_encoder import load_text_encoder


def load_pix2pix_unet(
    path: str | Path, dtype: torch.dtype | None = None, progress: Progress | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state dict, config) of an InstructPix2Pix UNet; CheckpointError where it has no channels for the source picture."""
    return read_unet(_plan(path, "pix2pix", SOURCE_CHANNELS), dtype, progress)


def load_text_unet(
    path: str | Path, dtype: torch.dtype | None = None, progress: Progress | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state dict, config) of a text-conditioned UNet: ours, or any diffusers one."""
    return read_unet(_plan(path, "text_unet", 0), dtype, progress)


def load_text_diffusion(
    unet: str | Path, text_encoder: str | Path, device="cpu", dtype=torch.float32, source: bool = False
) -> TextDiffusion:
    """UNet and text encoder together, outside ComfyUI (training, evaluation). ``source``: an InstructPix2Pix UNet."""
    load = load_pix2pix_unet if source else load_text_unet
    network = TextDiffusion(build_unet(*load(unet, dtype), source=unet), load_text_encoder(text_encoder))
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _plan(path: str | Path, kind: str, extra: int) -> Plan:
    """A UNet with ``extra`` more input than output channels."""
    plan = plan_unet(path, (kind, "unet"))
    config = plan.dims
    wanted = config["out_channels"] + extra
    if config["in_channels"] != wanted:
        raise file_error(
            path,
            f"has {config['in_channels']} input channels; {KINDS[kind].title} of {config['out_channels']} output "
            f"channels has {wanted}.",
            KINDS[kind].source,
        )
    return plan
