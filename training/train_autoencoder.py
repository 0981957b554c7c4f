"""Train the miniature's VAE on Toyland: python -m any2pix.training.train_autoencoder [--config FILE] [--work DIR] [--out DIR].

Two phases: the whole network; then, with the encoder frozen (so that latents stay valid), the decoder alone.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datagen.toyland import subject_mask
from ..loading.files import write_network_file
from ..models.autoencoder import Autoencoder, AutoencoderDims
from .bank import PICTURE_SIZE, SceneBank, scene_bank
from .command import run_command
from .loop import LoopConfig, fit

VAE_FILE = "vae.safetensors"


def picture_batch(bank: SceneBank, masks: np.ndarray, count: int, subject_weight: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random pictures (B, 3, H, W) in [-1, 1], half of them mirrored, and the weight of their places (B, 1, H, W)."""
    index = torch.randint(len(bank.scenes), (count,), generator=generator).sort().values
    pictures = bank.batch(index) * 2 - 1
    weight = 1 + (subject_weight - 1) * torch.from_numpy(np.unpackbits(masks[index.numpy()], axis=1)).float()
    weight = weight.view(count, 1, PICTURE_SIZE, PICTURE_SIZE)
    flipped = torch.rand(count, generator=generator) < 0.5
    pictures[flipped], weight[flipped] = pictures[flipped].flip(-1), weight[flipped].flip(-1)
    return pictures, weight


def subject_masks(bank: SceneBank, path: Path) -> np.ndarray:
    """The subject's places of every picture, bit-packed: (N, H * W / 8) uint8."""
    if not path.exists():
        np.save(path, np.stack([np.packbits(subject_mask(scene)) for scene in bank.scenes]))
    return np.load(path)


@torch.no_grad()
def fit_latent_scale(network: Autoencoder, pictures: Tensor):
    """Set shift and gain so that the training set's latents have mean 0 and standard deviation 1 / SDXL_SCALE a channel."""
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
    """Train both phases, write `out`/vae.safetensors after each; returns the held-out round trip."""
    data = config["data"]
    bank = scene_bank(work, data["pictures"], data["seed"], "train", data["messy_share"])
    held_out = scene_bank(work, data["held_out_pictures"], data["seed"] + 1, "test")
    masks = subject_masks(bank, work / f"masks-{data['pictures']}-{data['seed']}.npy")
    torch.manual_seed(data["seed"])
    network = Autoencoder(AutoencoderDims(**config["network"]))
    results = {}

    def whole(module: Autoencoder, batch) -> dict[str, Tensor]:
        pictures, weight, noise = batch
        return module.training_loss(pictures, weight, noise, config["kl_weight"])

    def batches(loop: LoopConfig):
        def make(step: int, generator: torch.Generator):
            pictures, weight = picture_batch(bank, masks, loop.batch_size, config["subject_weight"], generator)
            side = PICTURE_SIZE // network.dims.downscale
            noise = torch.randn((len(pictures), network.dims.latent, side, side), generator=generator)
            return pictures, weight, noise

        return make

    def save(module: Autoencoder, phase: str):
        fit_latent_scale(module, bank.batch(np.arange(min(2048, len(bank.scenes)))) * 2 - 1)
        results[phase] = round_trip_psnr(module, held_out)
        (work / "autoencoder.json").write_text(json.dumps(results))
        write_network_file(out / VAE_FILE, "vae", module.state_dict(), asdict(module.dims), dtype=torch.float16)

    loop = LoopConfig(**config["loop"])
    fit("autoencoder", network, batches(loop), whole, loop, work)
    save(network, "whole")
    if "decoder_loop" in config:
        network.encoder.requires_grad_(False)
        loop = LoopConfig(**config["decoder_loop"])
        fit("decoder", network, batches(loop), lambda module, batch: module.decoder_loss(*batch[:2]), loop, work)
        save(network, "decoder")
    return results


if __name__ == "__main__":
    run_command(train, "autoencoder")
