"""Train InstructPix2Pix (arXiv 2211.09800): python -m any2pix.training.train_instructpix2pix [--recipe NAME] [--work
DIR] [--out DIR].

A text-conditioned UNet gets four more input channels, at first of zero weight, for the latent of the picture to edit;
the text is an instruction. The UNet, the text encoder and the VAE to start from are the miniature's, or any that
diffusers writes (`start` in the recipe: unet, text_encoder, tokenizer, for an SDXL text_encoder_2 and
tokenizer_2, and, with shards, vae). SDXL's text encoders are not copied: *Load InstructPix2Pix* reads the folders
text_encoder and text_encoder_2 beside the result.

The pairs are Toyland's own (`data: {families, seed}`), or those of the data pipeline, streamed from its shards:
`data: {shards: FOLDER}`, with `seed`, `stage` and `flip` of shard_pairs.ShardPairs where they should differ.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import PartialState
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..datagen.instructions import COMPOSITION_SHARES
from ..datagen.plain_text import text_instruction
from ..datagen.toyland import Scene
from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import backbone_of, build_unet
from ..loading.files import write_network_file
from ..loading.pix2pix import load_pix2pix_unet, load_text_unet, takes_source
from ..loading.text_encoder import load_text_encoder
from ..miniature import manifest
from ..models.text_diffusion import TextDiffusion, fold_source_scale, widen_input
from ..models.text_encoder import JoinedTextEncoders, TextEncoder
from ..stages.preprocess import tokens_for
from .caches import cached
from .command import network_file, run_command
from .digests import fingerprint
from .llm_bank import edit_pairs, family_bank
from .loop import fit
from .pix2pix_config import WEIGHTS, Recipe, Start, ToylandData, read_recipe
from .probe import Probe
from .shard_pairs import AT_ONCE, Edits, ShardPairs, load_vae
from .train_autoencoder import subject_masks
from .train_diffusion import latent_bank, place_weights, probe_noise
from .train_text_diffusion import (
    numpy_generator,
    without_some,
    write_text_encoder,
)


@dataclass(frozen=True)
class ToylandPairs:
    """Families of pictures whose latents and subject masks are at hand; ``pairs[n]`` (P, 2) change n + 1 attributes.

    ``latents`` (2, N, c, h, w): unit variance, of the pictures and of their mirror images. ``subject_weight``: how much
    the loss counts where the subject is, before or after the edit.
    """

    scenes: tuple[Scene, ...]
    latents: Tensor
    masks: np.ndarray
    pairs: tuple[np.ndarray, ...]
    scale: float  # a source times this has unit variance
    subject_weight: float = 1.0
    files: ClassVar[tuple[Path, ...]] = ()  # read at every step: none, all is in memory

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of one picture: (c, h, w)."""
        return tuple(self.latents.shape[2:])

    @property
    def total(self) -> int:
        """Pairs that can be drawn."""
        return sum(map(len, self.pairs))

    def draw(self, number: int, generator: torch.Generator, count: int) -> Edits:
        """A batch of the training."""
        index, texts = self.choose(numpy_generator(generator), count)
        flip = torch.randint(2, (count,), generator=generator)
        return Edits(*self.batch(index, flip), texts, self.place_weights(index, flip))

    def probe(self, start: int, stop: int, count: int) -> Edits:
        """A slice of `count` edits, always the same."""
        index, texts = self.choose(np.random.default_rng(0), count)
        source, target = self.batch(index[start:stop], torch.zeros(len(texts[start:stop]), dtype=torch.long))
        return Edits(source, target, texts[start:stop])

    def encode(self, edits: Edits) -> Edits:
        """They are encoded already."""
        return edits

    def choose(self, rng: np.random.Generator, count: int) -> tuple[Tensor, list[str]]:
        """-> source and target of each edit, indices (count, 2), and the instruction that leads from one to the
        other."""
        drawn = [self.pairs[i] for i in rng.choice(len(COMPOSITION_SHARES), count, p=COMPOSITION_SHARES)]
        index = np.stack([pairs[rng.integers(len(pairs))] for pairs in drawn])
        return torch.from_numpy(index), [text_instruction(rng, *(self.scenes[i] for i in pair)) for pair in index]

    def batch(self, index: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (B, 2), mirrored or not (B,) -> (source, target): the source as the VAE encodes it, the target with
        the VAE's scale, as InstructPix2Pix takes them."""
        source, target = (self.latents[flip, index[:, side]].float() for side in (0, 1))
        return source / self.scale, target

    def place_weights(self, index: Tensor, flip: Tensor) -> Tensor:
        """Loss weight of each latent place, (B, 1, h, w), mean 1: where the subject is, before and after the edit."""
        side = self.latents.shape[-1]
        return sum(place_weights(self.masks, index[:, end], flip, side, self.subject_weight) for end in (0, 1)) / 2


def toyland_pairs(
    work: Path, vae: Path, families: int, seed: int, subject_weight: float = 1.0, at_once: int = AT_ONCE
) -> ToylandPairs:
    """Draw and encode (or read back) ``families`` families of the train split; ``at_once`` pictures in a call."""
    bank = family_bank(work, families, seed)
    network = load_autoencoder(vae)
    latents = cached(work, "latents", bank.key, vae, lambda: latent_bank(network, bank, at_once))
    masks = subject_masks(bank, work)
    return ToylandPairs(bank.scenes, latents, masks, edit_pairs(bank.scenes), network.latent.scale, subject_weight)


def open_pairs(recipe: Recipe, unet_config: dict, vae: Path, work: Path) -> ToylandPairs | ShardPairs:
    """The pairs of the recipe: `data` names either families or shards."""
    at_once = recipe.vae_batch
    if isinstance(recipe.data, ToylandData):
        if vae.is_dir():
            raise ValueError(
                f"The VAE {vae} is a folder of a diffusers pipeline, but families need the miniature's VAE. Leave vae "
                "out of start, or train on shards."
            )
        return toyland_pairs(work, vae, **asdict(recipe.data), subject_weight=recipe.subject_weight, at_once=at_once)
    coder = load_vae(vae, PartialState().device)
    step = coder.latent.step * 2 ** (len(unet_config["block_out_channels"]) - 1)
    options = {name: value for name, value in asdict(recipe.data).items() if name != "shards"}
    return ShardPairs(recipe.data.shards, coder, step, work, **options, at_once=at_once)


def open_texts(start: Start, text_encoder: Path) -> TextEncoder | JoinedTextEncoders:
    """The text encoder to start from, or both of an SDXL."""
    places = [(text_encoder, start.tokenizer, "tokenizer")]
    if start.text_encoder_2:
        places.append((Path(start.text_encoder_2), start.tokenizer_2, "tokenizer_2"))
    parts = [load_text_encoder(place, tokenizer=tokenizer) for place, tokenizer, _ in places]
    for part, (place, _, key) in zip(parts, places, strict=True):
        if part.tokenizer is None:
            raise ValueError(
                f"{place} comes without a tokenizer. Name its tokenizer.json or its folder in start: {key}."
            )
    return JoinedTextEncoders(parts) if len(parts) > 1 else parts[0]


def build(recipe: Recipe, unet: Path, text_encoder: Path) -> tuple[TextDiffusion, dict]:
    """The network in these files and its UNet's config. A text-conditioned UNet is widened; an InstructPix2Pix is used
    as it is."""
    load = load_pix2pix_unet if takes_source(unet) else load_text_unet
    state_dict, config = load(unet, torch.float32)
    network = build_unet(state_dict, config, unet).requires_grad_(True)
    if load is load_text_unet:
        network = widen_input(network)
        config = {**config, "in_channels": 2 * config["out_channels"]}
    encoder = open_texts(recipe.start, text_encoder).requires_grad_(recipe.train_text_encoder)
    return TextDiffusion(network, encoder, recipe.min_snr, recipe.snr_floor, backbone_of(config)), config


def scale_source(unet: UNet2DConditionModel, scale: float) -> None:
    """Fold a scale of the source into the first layer. After a scale of 1 / s, an InstructPix2Pix trained on the source
    as the VAE encodes it takes the source times s, as training gives it. Zeros stay zeros."""
    with torch.no_grad():
        unet.conv_in.weight.copy_(fold_source_scale(unet.state_dict(), scale)["conv_in.weight"])


class Batches:
    """make_batch of the training loop, and what follows on the device: `encode` gives what TextDiffusion.training_loss
    takes."""

    def __init__(self, recipe: Recipe, pairs: ToylandPairs | ShardPairs, network: TextDiffusion):
        self.recipe, self.pairs = recipe, pairs
        self.texts, self.backbone = network.text_encoder, network.backbone

    def __call__(self, number: int, generator: torch.Generator) -> dict[str, Any]:
        count = self.recipe.loop.batch_size
        drawn = self.pairs.draw(number, generator, count)
        no_image, no_text = self.recipe.dropout.draw(count, generator)
        return {
            "drawn": drawn,
            "no_image": no_image,
            "tokens": self._tokens(without_some(drawn.texts, no_text)),
            "noise": torch.randn((count, *self.pairs.latent_shape), generator=generator),
            "timesteps": torch.randint(self.backbone.timesteps, (count,), generator=generator),
            "unchanged": no_text & ~no_image & (torch.rand(count, generator=generator) < self.recipe.unchanged),
        }

    def probe(self, count: int) -> Probe:
        """The same edits with the same noise, nothing dropped."""
        noise, timesteps = probe_noise((count, *self.pairs.latent_shape), self.backbone)

        def make(start: int, stop: int) -> dict[str, Any]:
            drawn, none = self.pairs.probe(start, stop, count), torch.zeros(stop - start, dtype=torch.bool)
            parts = {"noise": noise[start:stop], "timesteps": timesteps[start:stop]}
            return {"drawn": drawn, "tokens": self._tokens(drawn.texts), "no_image": none, "unchanged": none, **parts}

        return Probe(count, self.recipe.loop.batch_size, make)

    def encode(self, batch: dict[str, Any]) -> tuple[Tensor | None, ...]:
        """Target, tokens, noise, timesteps, source (zeros where it is dropped) and weight."""
        edits: Edits = self.pairs.encode(batch["drawn"])
        wide = {name: batch[name].view(-1, 1, 1, 1) for name in ("no_image", "unchanged")}
        source = self.pairs.scale * self.recipe.source_gain * edits.source * ~wide["no_image"]
        target = torch.where(wide["unchanged"], self.pairs.scale * edits.source, edits.target)
        return target, batch["tokens"], batch["noise"], batch["timesteps"], source, edits.weight

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        return tokens_for(self.texts, texts)


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train the widened UNet, write it at every checkpoint; returns the last losses."""
    recipe = read_recipe(config)
    loop, given = recipe.loop, recipe.start
    vae, *start = (
        Path(place or network_file(out, name))
        for place, name in (
            (given.vae, manifest.VAE), (given.unet, manifest.TEXT_UNET), (given.text_encoder, manifest.TEXT_ENCODER)
        )
    )  # fmt: skip
    network, unet_config = build(recipe, *start)
    if isinstance(network.text_encoder, JoinedTextEncoders) and (out / manifest.PIX2PIX_TEXT_ENCODER).exists():
        raise ValueError(
            f"{out} holds {manifest.PIX2PIX_TEXT_ENCODER} of another training; Load InstructPix2Pix would read texts "
            "with it instead of SDXL's two encoders. Give --out an empty folder."
        )
    pairs = open_pairs(recipe, unet_config, vae, work)
    scale = pairs.scale * recipe.source_gain
    scale_source(network.unet, 1 / scale)

    def save(module: TextDiffusion, step: int) -> None:
        state = fold_source_scale(module.unet.state_dict(), scale)
        write_network_file(out / manifest.PIX2PIX, "pix2pix", state, unet_config, **WEIGHTS[recipe.weights])
        # SDXL's two stay the published ones: their folders are read as they are
        if isinstance(module.text_encoder, TextEncoder):
            write_text_encoder(out / manifest.PIX2PIX_TEXT_ENCODER, module.text_encoder, **WEIGHTS[recipe.weights])

    def loss(module: TextDiffusion, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return module.training_loss(*batch)

    more = [Path(place) for place in (given.tokenizer, given.text_encoder_2, given.tokenizer_2) if place]
    made_from = fingerprint(config, [vae, *start, *more, *pairs.files])
    batches = Batches(recipe, pairs, network)
    probe = batches.probe(min(recipe.probes, pairs.total))
    fitted = fit(
        "instructpix2pix", network, batches, loss, loop, work, made_from, save, prepare=batches.encode, probe=probe
    )
    return {"probe_loss": fitted.probe}


if __name__ == "__main__":
    run_command(train, "instructpix2pix")
