"""VAE files -> `Autoencoder`."""

from pathlib import Path

import torch

from ..models.autoencoder import Autoencoder, AutoencoderDims
from .files import build_dims, read_network_file
from .strict import load_strict


def load_autoencoder(path: str | Path, operations=torch.nn, device="cpu", dtype: torch.dtype | None = None) -> Autoencoder:
    """The VAE of a file written by `training.train_autoencoder`; CheckpointError where it does not fit."""
    file = read_network_file(path, "vae")
    network = Autoencoder(build_dims(AutoencoderDims, file.dims, path), operations)
    load_strict(network, file.state_dict, source=path)
    return network.to(device=device, dtype=dtype or torch.float32).eval().requires_grad_(False)
