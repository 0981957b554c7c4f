"""The networks that are measured, read from a folder of files named as in miniature/."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from ..loading.autoencoder import load_autoencoder
from ..loading.pix2pix import load_text_diffusion
from ..models.autoencoder import Autoencoder
from ..models.judge import Judge
from ..models.text_diffusion import TextDiffusion
from ..stages.any2pix.pipeline import Networks
from .editor import MINIATURE, load_networks
from .judge import load_judge
from .pix2pix import load_pix2pix

JUDGE = "judge.safetensors"


class Checkpoint:
    """The networks of a folder of files named as in miniature/, each read when it is first asked for."""

    def __init__(self, folder: Path = MINIATURE, device: str = "cpu"):
        self.folder, self.device = Path(folder), torch.device(device)

    @cached_property
    def networks(self) -> Networks:
        loaded = load_networks(self.folder)
        moved = {name: part and part.to(self.device) for name, part in vars(loaded).items()}
        return replace(loaded, **moved)

    @cached_property
    def vae(self) -> Autoencoder:
        return load_autoencoder(self.folder / "vae.safetensors").to(self.device)

    @cached_property
    def pix2pix(self) -> TextDiffusion:
        return load_pix2pix(self.folder).to(self.device)

    @cached_property
    def text_diffusion(self) -> TextDiffusion:
        """The UNet that paints a caption; SDEdit starts it from a noised picture."""
        files = (self.folder / name for name in ("text_unet.safetensors", "text_encoder.safetensors"))
        return load_text_diffusion(*files, device=self.device)

    @cached_property
    def judge(self) -> Judge | None:
        """None where the folder has none."""
        path = self.folder / JUDGE
        return load_judge(path).to(self.device) if path.is_file() else None
