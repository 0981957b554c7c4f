"""InstructPix2Pix and the text-conditioned UNet it grows from: our files, or folders in diffusers format."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.backbone import SDXL
from ..models.text_diffusion import TextDiffusion
from .diffusion import backbone_of, build_unet, plan_unet, read_unet
from .entries import is_file
from .errors import file_error
from .kinds import KINDS
from .plan import Plan, Progress
from .reader import read_json
from .text_encoder import load_text_encoder

SCHEDULER = Path("scheduler", "scheduler_config.json")  # beside the unet folder of a pipeline
# Stable Diffusion's schedule (models.backbone), as diffusers' schedulers name it
TRAINED_AS = {
    "prediction_type": "epsilon",
    "beta_schedule": SDXL.schedule,
    "beta_start": SDXL.betas[0],
    "beta_end": SDXL.betas[1],
    "num_train_timesteps": SDXL.timesteps,
    "rescale_betas_zero_snr": False,
}


def load_pix2pix_unet(
    path: str | Path, dtype: torch.dtype | None = None, progress: Progress | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state dict, config) of an InstructPix2Pix UNet; CheckpointError where it has no channels for the source
    picture."""
    return read_unet(_plan(path, "pix2pix"), dtype, progress)


def load_text_unet(
    path: str | Path, dtype: torch.dtype | None = None, progress: Progress | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state dict, config) of a text-conditioned UNet: ours, or any diffusers one."""
    return read_unet(_plan(path, "text_unet"), dtype, progress)


def takes_source(path: str | Path) -> bool:
    """Whether a UNet has channels for a source picture: an InstructPix2Pix, and not one that reads texts alone."""
    dims = plan_unet(path, ("text_unet", "pix2pix", "unet")).dims
    return dims["in_channels"] != dims["out_channels"]


def load_text_diffusion(
    unet: str | Path, text_encoder: str | Path, device="cpu", dtype=torch.float32, source: bool = False
) -> TextDiffusion:
    """UNet and text encoder together, outside ComfyUI (training, evaluation). ``source``: an InstructPix2Pix UNet."""
    load = load_pix2pix_unet if source else load_text_unet
    built = build_unet(*load(unet, dtype), source=unet)
    network = TextDiffusion(built, load_text_encoder(text_encoder), backbone=backbone_of(built.config))
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _plan(path: str | Path, kind: str) -> Plan:
    """A UNet that finds the noise of Stable Diffusion's schedule. As a "pix2pix" it has input channels for the latent
    of the source picture too."""
    plan = plan_unet(path, (kind, "unet"))
    _require_noise(Path(path))
    config = plan.dims
    if lacking := [name for name in ("in_channels", "out_channels") if type(config[name]) is not int]:
        raise file_error(path, f"comes with sizes that are not numbers: {', '.join(lacking)}.", KINDS[kind].source)
    wanted = config["out_channels"] * (2 if kind == "pix2pix" else 1)
    if config["in_channels"] != wanted:
        raise file_error(
            path,
            f"has {config['in_channels']} input channels; {KINDS[kind].title} of {config['out_channels']} output "
            f"channels has {wanted}.",
            KINDS[kind].source,
        )
    return plan


def _require_noise(unet: Path) -> None:
    """CheckpointError where the scheduler of a UNet's pipeline says that it predicts something else, or at other noise
    levels."""
    scheduler = (unet if unet.is_dir() else unet.parent).parent / SCHEDULER
    said = read_json(scheduler, "") if is_file(scheduler) else {}
    if other := [
        f"{key} {said[key]!r} (not {value!r})" for key, value in TRAINED_AS.items() if said.get(key, value) != value
    ]:
        raise file_error(
            scheduler,
            f"states that the UNet beside it has {', '.join(other)}.",
            "Use a UNet that predicts the noise of Stable Diffusion's schedule, such as Stable Diffusion 1 or SDXL; a "
            "checkpoint in one file that predicts v, such as CosXL Edit, is for ComfyUI's Load Checkpoint.",
        )
