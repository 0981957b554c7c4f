"""The networks that are measured, read from a folder of files named as in miniature/."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import cached_property
from pathlib import Path

import torch

from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import load_embedding_diffusion
from ..loading.imagebind import load_imagebind
from ..loading.llm import load_llm
from ..loading.pix2pix import load_text_diffusion
from ..loading.prior import load_prior
from ..miniature import manifest
from ..models.autoencoder import Autoencoder
from ..models.judge import Judge
from ..models.text_diffusion import TextDiffusion
from ..stages.any2pix.pipeline import Networks
from .judge import load_judge

PIX2PIX = (manifest.PIX2PIX, manifest.PIX2PIX_TEXT_ENCODER)


def load_networks(folder: Path = manifest.FOLDER) -> Networks:
    """All networks of a folder of files named as in miniature/."""
    return Checkpoint(folder).networks


def load_pix2pix(folder: Path) -> TextDiffusion:
    """The InstructPix2Pix of a folder of files named as in miniature/."""
    files = (folder / name for name in PIX2PIX)
    return load_text_diffusion(*files, source=True)


def add_checkpoint(parser: ArgumentParser) -> None:
    """The arguments of a Checkpoint."""
    parser.add_argument("--miniature", type=Path, default=manifest.FOLDER, help="folder of the weight files")
    parser.add_argument("--device", default="cpu", help="for instance cuda (default: %(default)s)")


class Checkpoint:
    """The networks of a folder of files named as in miniature/, each read when it is first asked for."""

    def __init__(self, folder: Path = manifest.FOLDER, device: str = "cpu", pix2pix: Path | None = None):
        """`pix2pix`: where the InstructPix2Pix lies; None: with the others."""
        self.folder, self.device = Path(folder), torch.device(device)
        self.pix2pix_folder = Path(pix2pix or folder)

    @cached_property
    def networks(self) -> Networks:
        return Networks(
            imagebind=load_imagebind(self.folder / manifest.IMAGEBIND).to(self.device),
            llm=load_llm(self.folder / manifest.LLM).to(self.device),
            diffusion=load_embedding_diffusion(
                self.folder / manifest.UNET, self.folder / manifest.ADAPTER, device=self.device
            ),
            vae=self.vae,
            prior=load_prior(self.folder / manifest.PRIOR).to(self.device),
        )

    @cached_property
    def vae(self) -> Autoencoder:
        return load_autoencoder(self.folder / manifest.VAE).to(self.device)

    @cached_property
    def pix2pix(self) -> TextDiffusion:
        return load_pix2pix(self.pix2pix_folder).to(self.device)

    @cached_property
    def text_diffusion(self) -> TextDiffusion:
        """The UNet that paints a caption; SDEdit starts it from a noised picture."""
        files = (self.folder / name for name in (manifest.TEXT_UNET, manifest.TEXT_ENCODER))
        return load_text_diffusion(*files, device=self.device)

    @cached_property
    def judge(self) -> Judge | None:
        """None where the folder has none."""
        path = self.folder / manifest.JUDGE
        return load_judge(path).to(self.device) if path.is_file() else None
