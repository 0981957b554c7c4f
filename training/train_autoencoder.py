"""Train the miniature's VAE on Toyland: python -m any2pix.training.train_autoencoder [--recipe NAME] [--work DIR]
[--out DIR]."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from ..datagen.toyland import subject_mask
from ..loading.atomic import atomic_path
from ..loading.files import write_network_file
from ..miniature import manifest
from ..models.autoencoder import Autoencoder
from .bank import PICTURE_SIZE, SceneBank, scene_bank
from .caches import missing
from .command import run_command
from .digests import fingerprint
from .loop import fit
from .recipe_files import read_section
from .recipe_types import AutoencoderRecipe

SCALE_PICTURES = 2048  # enough to know the mean and deviation of four channels


def picture_batch(
    bank: SceneBank, masks: np.ndarray, count: int, subject_weight: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random pictures (B, 3, H, W) in [-1, 1], half of them mirrored, and the weight of their places (B, 1, H, W)."""
    index = torch.randint(len(bank.scenes), (count,), generator=generator).sort().values
    pictures = bank.batch(index) * 2 - 1
    weight = 1 + (subject_weight - 1) * torch.from_numpy(np.unpackbits(masks[index.numpy()], axis=1)).float()
    weight = weight.view(count, 1, PICTURE_SIZE, PICTURE_SIZE)
    flipped = torch.rand(count, generator=generator) < 0.5
    pictures[flipped], weight[flipped] = pictures[flipped].flip(-1), weight[flipped].flip(-1)
    return pictures, weight


def subject_masks(bank: SceneBank, work: Path) -> np.ndarray:
    """The subject's places of every picture, bit-packed: (N, H * W / 8) uint8. Kept in `work`."""
    path = Path(work) / f"masks-{bank.key}.npy"
    with missing(path) as is_missing:
        if is_missing:
            masks = np.stack([np.packbits(subject_mask(scene)) for scene in bank.scenes])
            with atomic_path(path) as unfinished, open(unfinished, "wb") as file:
                np.save(file, masks)
    return np.load(path)


@torch.no_grad()
def fit_latent_scale(network: Autoencoder, pictures: Tensor):
    """Set shift and gain so that the training set's latents have mean 0 and standard deviation 1 / dims.scale a
    channel."""
    mean = torch.cat([network.encoder(chunk).chunk(2, dim=1)[0] for chunk in pictures.split(32)])
    network.latent_shift.copy_(mean.mean(dim=(0, 2, 3)))
    network.latent_gain.copy_(1 / mean.std(dim=(0, 2, 3)))


@torch.no_grad()
def round_trip_psnr(network: Autoencoder, bank: SceneBank, count: int = 256) -> float:
    """Mean over pictures of the PSNR in dB of decode(encode(picture)), 8-bit range."""
    values = []
    for start in range(0, min(count, len(bank.scenes)), 32):
        pictures = bank.batch(np.arange(start, min(start + 32, len(bank.scenes))))
        decoded = network.decode(network.encode(pictures * 2 - 1)[0]).add(1).div(2).clamp(0, 1)
        values.append(-10 * (decoded - pictures).square().mean(dim=(1, 2, 3)).log10())
    return float(torch.cat(values).mean())


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train, fit the latents' scale, write `out`/vae.safetensors; returns the held-out round trip."""
    recipe = read_section(AutoencoderRecipe, config)
    data, loop = recipe.data, recipe.loop
    bank = scene_bank(work, data.pictures, data.seed, "train", data.messy_share)
    held_out = scene_bank(work, data.held_out_pictures, data.seed + 1, "test")
    masks = subject_masks(bank, work)
    torch.manual_seed(data.seed)
    network = Autoencoder(recipe.network)
    side = PICTURE_SIZE // network.dims.downscale

    def make_batch(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        pictures, weight = picture_batch(bank, masks, loop.batch_size, recipe.subject_weight, generator)
        return pictures, weight, torch.randn((loop.batch_size, network.dims.latent, side, side), generator=generator)

    def loss(module: Autoencoder, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        return module.training_loss(*batch, recipe.kl_weight)

    fit("autoencoder", network, make_batch, loss, loop, work, fingerprint(config))
    if not PartialState().is_main_process:
        return {}
    fit_latent_scale(network, bank.batch(np.arange(min(SCALE_PICTURES, len(bank.scenes)))) * 2 - 1)
    write_network_file(out / manifest.VAE, "vae", network.state_dict(), asdict(network.dims), dtype=torch.float16)
    return {"held_out_psnr": round_trip_psnr(network, held_out)}


if __name__ == "__main__":
    run_command(train, "autoencoder")
