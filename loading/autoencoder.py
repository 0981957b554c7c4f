"""VAE files -> `Autoencoder`."""

from pathlib import Path

import torch

from ..models.autoencoder import Autoencoder, AutoencoderDims
from .files import build_dims, open_network


def load_autoencoder(
    path: str | Path, operations=torch.nn, device="cpu", dtype: torch.dtype | None = None
) -> Autoencoder:
    """The VAE of a file written by `training.train_autoencoder`; CheckpointError where it does not fit."""
    plan = open_network(path, "vae")
    dims = build_dims(AutoencoderDims, plan.dims, path)
    network = plan.build(lambda: Autoencoder(dims, operations))
    plan.fill(network, dtype or torch.float32)
    return network.to(device=device, dtype=dtype or torch.float32).eval().requires_grad_(False)
