"""Train the embedding-conditioned UNet (paper sec. 3.3): python -m any2pix.training.train_diffusion [--recipe NAME]
[--work DIR] [--out DIR].

Needs the frozen VAE and ImageBind of the miniature: latents and embeddings of every picture are computed once.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import backbone_of
from ..loading.files import write_network_file
from ..loading.imagebind import load_imagebind
from ..miniature import manifest
from ..models.adapter import UnclipDims, UnclipProjector
from ..models.autoencoder import Autoencoder
from ..models.backbone import Backbone
from ..models.diffusion import EmbeddingDiffusion
from ..models.mm_llm import scale_embedding
from .bank import PICTURE_SIZE, SceneBank, embed_bank, scene_bank
from .caches import cached
from .command import network_file, run_command
from .digests import fingerprint
from .loop import fit
from .probe import Probe
from .recipe_files import read_section
from .recipe_types import DiffusionRecipe
from .train_autoencoder import subject_masks

PROBES = 256  # pictures that a probe looks at


@torch.no_grad()
def latent_bank(vae: Autoencoder, bank: SceneBank, batch_size: int = 32) -> Tensor:
    """Unit-variance latents of every picture and of its mirror image: (2, N, c, h, w), float16."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for start in tqdm(range(0, len(bank.scenes), batch_size), desc="encoding pictures", mininterval=5):
        pictures = bank.batch(np.arange(start, min(start + batch_size, len(bank.scenes)))) * 2 - 1
        for side, view in zip(sides, (pictures, pictures.flip(-1)), strict=True):
            with torch.autocast(view.device.type, torch.bfloat16):  # 0.5 % off, twice as fast
                mean = vae.encode(view)[0]
            side.append((mean.float() * vae.latent.scale).half())
    return torch.stack([torch.cat(side) for side in sides])


def mirrored(bank: SceneBank) -> SceneBank:
    """The same bank, every picture flipped left to right (a view, not a copy)."""
    return replace(bank, images=bank.images[:, :, ::-1])


def place_weights(masks: np.ndarray, index: Tensor, flip: Tensor, side: int, subject_weight: float) -> Tensor:
    """Loss weight of each latent place, (B, 1, side, side), mean 1: the subject counts `subject_weight` times.

    `index`, `flip` (B,): the pictures, and whether each is mirrored.
    """
    mask = torch.from_numpy(np.unpackbits(masks[index.numpy()], axis=1)).float().view(-1, 1, PICTURE_SIZE, PICTURE_SIZE)
    weight = 1 + (subject_weight - 1) * F.adaptive_avg_pool2d(mask, side)
    weight = torch.where(flip.view(-1, 1, 1, 1).bool(), weight.flip(-1), weight)
    return weight / weight.mean(dim=(1, 2, 3), keepdim=True)


def build(recipe: DiffusionRecipe, embed: int, side: int) -> EmbeddingDiffusion:
    """A fresh UNet and projector of the configured widths. The backbone follows from the UNet's config, as for the
    loaders that read the written file."""
    dims = replace(recipe.network, sample_size=side)
    config = dims.unet_config()
    adapter = UnclipDims(embed=embed, context=dims.context, pooled=dims.pooled, **asdict(recipe.adapter))
    return EmbeddingDiffusion(UNet2DConditionModel(**config), UnclipProjector(adapter), backbone_of(config))


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train UNet and projector, write them at every checkpoint; returns the last losses."""
    recipe = read_section(DiffusionRecipe, config)
    data, loop = recipe.data, recipe.loop
    bank = scene_bank(work, data.pictures, data.seed, "train", data.messy_share)
    masks = subject_masks(bank, work)
    weights = (network_file(out, manifest.IMAGEBIND), network_file(out, manifest.VAE))
    imagebind = load_imagebind(weights[0])
    embeddings = cached(
        work,
        "embeddings",
        bank.key,
        weights[0],
        lambda: torch.stack([embed_bank(imagebind, view) for view in (bank, mirrored(bank))]),
    )
    latents = cached(work, "latents", bank.key, weights[1], lambda: latent_bank(load_autoencoder(weights[1]), bank))
    side = latents.shape[-1]
    torch.manual_seed(data.seed)
    network = build(recipe, embeddings.shape[-1], side)
    probe = noise_probe(
        loop.batch_size, network.backbone, latents[0, :PROBES].float(), scale_embedding(embeddings[0, :PROBES])
    )

    def make_batch(step: int, generator: torch.Generator):
        count = loop.batch_size
        index = torch.randint(len(bank.scenes), (count,), generator=generator)
        flip = torch.randint(2, (count,), generator=generator)
        H = F.normalize(embeddings[flip, index], dim=-1)
        jitter = torch.randn(H.shape, generator=generator) * recipe.embedding_noise / H.shape[-1] ** 0.5
        H = scale_embedding(H + jitter)
        H = H * (torch.rand((count, 1), generator=generator) >= recipe.condition_dropout)
        weight = place_weights(masks, index, flip, side, recipe.subject_weight)
        z = latents[flip, index].float()
        noise = torch.randn(z.shape, generator=generator)
        timesteps = torch.randint(network.backbone.timesteps, (count,), generator=generator)
        return z, H, noise, timesteps, weight

    def save(module: EmbeddingDiffusion, step: int):
        out.mkdir(parents=True, exist_ok=True)
        unet_config = replace(recipe.network, sample_size=side).unet_config()
        write_network_file(out / manifest.UNET, "unet", module.unet.state_dict(), unet_config, in_8_bits=True)
        write_network_file(
            out / manifest.ADAPTER,
            "adapter",
            module.projector.state_dict(),
            asdict(module.projector.dims),
            dtype=torch.float16,
        )

    def loss(module: EmbeddingDiffusion, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return module.training_loss(*batch)

    fitted = fit("diffusion", network, make_batch, loss, loop, work, fingerprint(config, weights), save, probe=probe)
    return {"probe_loss": fitted.probe}


def noise_probe(at_once: int, backbone: Backbone, latents: Tensor, condition: Tensor, *more: Tensor) -> Probe:
    """The same noise on the same pictures each time: a loss that can be compared between checkpoints.

    `at_once` pictures in a forward pass. `more`: what the network's training loss takes after latents, condition,
    noise and timesteps.
    """
    parts = (latents, condition, *probe_noise(latents.shape, backbone), *more)
    return Probe(len(latents), at_once, lambda start, stop: tuple(part[start:stop] for part in parts))


def probe_noise(shape: tuple[int, ...], backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Noise of this shape (N, c, h, w), and N timesteps; always the same."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(shape, generator=generator)
    return noise, torch.randint(backbone.timesteps, (shape[0],), generator=generator)


if __name__ == "__main__":
    run_command(train, "diffusion")
