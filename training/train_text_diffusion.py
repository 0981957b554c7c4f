"""Train the text-conditioned UNet with its text encoder: python -m any2pix.training.train_text_diffusion [--recipe
NAME] [--work DIR] [--out DIR].

Toyland's captions and descriptions; an empty prompt trains the unconditional model. Needs the frozen VAE of the
miniature.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from tokenizers import Tokenizer
from torch import Tensor

from ..datagen.plain_text import mirrored_text
from ..datagen.toyland import caption, describe
from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import backbone_of
from ..loading.files import write_network_file
from ..miniature import manifest
from ..models.text_diffusion import TextDiffusion
from ..models.text_encoder import TextEncoder, TextEncoderDims
from ..stages.preprocess import tokens_for
from .bank import scene_bank
from .caches import cached
from .clip_tokenizer import train_clip_tokenizer
from .command import network_file, run_command
from .digests import fingerprint
from .imagebind_data import vocabulary_texts
from .loop import fit
from .recipe_files import read_section
from .recipe_types import TextDiffusionRecipe
from .train_autoencoder import subject_masks
from .train_diffusion import PROBES, latent_bank, noise_probe, place_weights


def build(recipe: TextDiffusionRecipe, tokenizer: Tokenizer, side: int) -> TextDiffusion:
    """A fresh UNet and text encoder of the configured widths. The backbone follows from the UNet's config."""
    encoder = TextEncoder(text_dims(recipe.text_encoder, tokenizer))
    encoder.tokenizer = tokenizer
    config = unet_config(recipe, side)
    return TextDiffusion(UNet2DConditionModel(**config), encoder, recipe.min_snr, backbone=backbone_of(config))


def text_dims(sizes: dict[str, int], tokenizer: Tokenizer) -> TextEncoderDims:
    """Configured sizes with the vocabulary of a tokenizer of ours, whose last tokens are start and end of text."""
    tokens = tokenizer.get_vocab_size()
    return TextEncoderDims(**sizes, vocab_size=tokens, bos_token_id=tokens - 2, eos_token_id=tokens - 1)


def unet_config(recipe: TextDiffusionRecipe, side: int) -> dict:
    """The UNet's config: it reads the text encoder's states, and its projected end as the pooled text."""
    width = recipe.text_encoder["hidden_size"]
    return replace(recipe.network, context=width, pooled=width, sample_size=side).unet_config()


def without_some(texts: list[str], dropped: Tensor) -> list[str]:
    """The texts, with the empty prompt for those that are `dropped`, (B,) bool."""
    return ["" if drop else text for text, drop in zip(texts, dropped.tolist(), strict=True)]


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """numpy's random numbers, seeded by torch's: Toyland's sentences are drawn with them."""
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))


def write_text_encoder(path: Path, encoder: TextEncoder, **stored: Any) -> None:
    """`stored`: how, the options of write_network_file."""
    write_network_file(
        path, "text_encoder", encoder.state_dict(), encoder.dims.to_dict(), encoder.tokenizer.to_str(), **stored
    )


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train UNet and text encoder, write them at every checkpoint; returns the last losses."""
    recipe = read_section(TextDiffusionRecipe, config)
    data, loop = recipe.data, recipe.loop
    bank = scene_bank(work, data.pictures, data.seed, "train", data.messy_share)
    masks = subject_masks(bank, work)
    vae = network_file(out, manifest.VAE)
    latents = cached(work, "latents", bank.key, vae, lambda: latent_bank(load_autoencoder(vae), bank))
    tokenizer = train_clip_tokenizer(vocabulary_texts(bank.scenes, data.seed), recipe.vocabulary)
    side = latents.shape[-1]
    torch.manual_seed(data.seed)
    network = build(recipe, tokenizer, side)
    probed = [caption(scene) for scene in bank.scenes[:PROBES]]
    probe = noise_probe(
        loop.batch_size, network.backbone, latents[0, :PROBES].float(), tokens_for(network.text_encoder, probed)
    )

    def make_batch(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        count = loop.batch_size
        index = torch.randint(len(bank.scenes), (count,), generator=generator)
        flip = torch.randint(2, (count,), generator=generator)
        rng = numpy_generator(generator)
        texts = [describe(bank.scenes[i], rng) for i in index.tolist()]
        texts = [mirrored_text(text) if mirror else text for text, mirror in zip(texts, flip.tolist(), strict=True)]
        texts = without_some(texts, torch.rand(count, generator=generator) < recipe.condition_dropout)
        weight = place_weights(masks, index, flip, side, recipe.subject_weight)
        z = latents[flip, index].float()
        noise = torch.randn(z.shape, generator=generator)
        timesteps = torch.randint(network.backbone.timesteps, (count,), generator=generator)
        return z, tokens_for(network.text_encoder, texts), noise, timesteps, weight

    def save(module: TextDiffusion, step: int) -> None:
        state = module.unet.state_dict()
        write_network_file(out / manifest.TEXT_UNET, "text_unet", state, unet_config(recipe, side), in_8_bits=True)
        write_text_encoder(out / manifest.TEXT_ENCODER, module.text_encoder, in_8_bits=True)

    def loss(module: TextDiffusion, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return module.training_loss(*batch[:4], weight=batch[4] if len(batch) > 4 else None)

    fitted = fit("text_diffusion", network, make_batch, loss, loop, work, fingerprint(config, [vae]), save, probe=probe)
    return {"probe_loss": fitted.probe}


if __name__ == "__main__":
    run_command(train, "text_diffusion")
