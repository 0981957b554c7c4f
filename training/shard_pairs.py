"""Training pairs of InstructPix2Pix from the shards of `datagen.pairs`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datagen.pairs.filter import NAME as FILTERED
from ..loading.autoencoder import load_autoencoder
from ..models.backbone import Latent
from .pair_files import Pair, PairFiles

HELD_BYTES = 2**30  # latents kept in memory; what is beyond is encoded each time it comes by
AT_ONCE = 32  # pictures that the VAE encodes in one call
FLIPPED = 0.5  # of the pairs: mirrored, as in the authors' configs/train.yaml


@dataclass(frozen=True)
class Edits:
    """A batch: `source` (B, c, h, w) as the VAE encodes it, `target` (B, c, h, w) of unit variance, B instructions.

    `weight` (B, 1, h, w), mean 1: how much the loss counts at each place; None: the same everywhere.
    """

    source: Tensor
    target: Tensor
    texts: list[str]
    weight: Tensor | None = None


@dataclass(frozen=True)
class PairPictures:
    """A batch that is not encoded yet: `pixels` (B, 2, 3, H, W) uint8, source and target, mirrored where drawn so;
    `keys` name each pair and whether it is mirrored; B instructions."""

    pixels: Tensor
    keys: list[tuple[int, bool]]
    texts: list[str]


@dataclass(frozen=True)
class Vae:
    """`encode`: (B, 3, H, W) in [-1, 1] -> mean latents, both on the CPU; `latent`: what they are."""

    encode: Callable[[Tensor], Tensor]
    latent: Latent


def load_vae(place: str | Path, device: str | torch.device = "cpu") -> Vae:
    """The VAE in this pack's file, or in a folder of diffusers' AutoencoderKL; it runs on `device`."""
    if not Path(place).is_dir():
        vae = load_autoencoder(place, device=device)
        return Vae(lambda pictures: vae.encode(pictures.to(device))[0].cpu(), vae.latent)
    from diffusers import AutoencoderKL

    kl = AutoencoderKL.from_pretrained(place).to(device).eval().requires_grad_(False)
    step = 2 ** (len(kl.config.block_out_channels) - 1)
    return Vae(
        lambda pictures: kl.encode(pictures.to(device)).latent_dist.mean.cpu(),
        Latent(kl.config.latent_channels, kl.config.scaling_factor, step),
    )


class ShardPairs:
    """The pairs of a folder of finished shards, each once per epoch, in an order drawn from `seed`.

    `stage`: "filter", or "pictures" for unfiltered pairs. `step`: the sides of the pictures must be multiples of
    it, and all pictures of one size. `flip`: share of the pairs that are mirrored; 0 where instructions say left or
    right. `at_once`: pictures that the VAE encodes in one call. `work`: where the index of the shards is kept.

    A batch depends on its number and `seed` alone, and is read without those before it.
    """

    def __init__(
        self,
        folder: str | Path,
        vae: Vae,
        step: int,
        work: Path,
        seed: int = 0,
        stage: str = FILTERED,
        flip: float = FLIPPED,
        at_once: int = AT_ONCE,
    ):
        if not 0 <= flip <= 1:
            raise ValueError(f"flip is {flip}; the share of mirrored pairs must be from 0 to 1.")
        self.folder, self.vae, self.flip, self.at_once, self.seed = Path(folder), vae, flip, at_once, seed
        self.scale = vae.latent.scale  # a source times this has unit variance
        self.pairs = PairFiles(folder, stage, work)
        self.files = self.pairs.records
        self.total = len(self.pairs)
        self.size = self._checked_size(step)
        self.latent_shape = vae.latent.shape(self.size[1], self.size[0])
        self.epoch, self.order = -1, np.arange(0)
        self.held: dict[tuple[int, bool], Tensor] = {}
        self.held_bytes = 0

    def draw(self, number: int, generator: torch.Generator, count: int) -> PairPictures:
        """The pictures of a batch; it decodes files and uses no device, so worker processes call it."""
        rows = [self._row(place) for place in range(number * count, (number + 1) * count)]
        return self._read(rows, (torch.rand(count, generator=generator) < self.flip).tolist())

    def probe(self, start: int, stop: int, count: int) -> PairPictures:
        """A slice of the first `count` pairs, as they are."""
        rows = range(start, min(stop, count, self.total))
        return self._read(rows, [False] * len(rows))

    def encode(self, pictures: PairPictures) -> Edits:
        """The latents of a batch, on the CPU."""
        latents = self._latents(pictures).float()
        return Edits(latents[:, 0], latents[:, 1] * self.scale, pictures.texts)

    def _row(self, place: int) -> int:
        """The pair at a place of the endless sequence of epochs."""
        epoch, within = divmod(place, self.total)
        if epoch != self.epoch:
            self.epoch, self.order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.total)
        return int(self.order[within])

    def _read(self, rows: Sequence[int], flips: Sequence[bool]) -> PairPictures:
        pairs = [self.pairs[row] for row in rows]
        pixels = torch.stack([self._pixels(pair, flip) for pair, flip in zip(pairs, flips, strict=True)])
        return PairPictures(pixels, list(zip(rows, flips, strict=True)), [pair.instruction for pair in pairs])

    @torch.no_grad()
    def _latents(self, pictures: PairPictures) -> Tensor:
        """Source and target of each row: (B, 2, c, h, w), half precision."""
        found = {key: self.held[key] for key in pictures.keys if key in self.held}
        wanted = {key: row for row, key in enumerate(pictures.keys) if key not in found}
        if wanted:
            pixels = pictures.pixels[list(wanted.values())].flatten(0, 1)
            chunks = [self.vae.encode(chunk.float() / 127.5 - 1).half() for chunk in pixels.split(self.at_once)]
            found |= dict(zip(wanted, torch.cat(chunks).unflatten(0, (-1, 2)).unbind(), strict=True))
        for key in wanted:
            if self.held_bytes + found[key].nbytes <= HELD_BYTES:
                self.held[key] = found[key].clone()  # a view would keep the whole batch
                self.held_bytes += found[key].nbytes
        return torch.stack([found[key] for key in pictures.keys])

    def _pixels(self, pair: Pair, flip: bool) -> Tensor:
        """Source and target of a pair: (2, 3, H, W) uint8."""
        for picture in pair.pictures:
            if picture.size != self.size:
                width, height = picture.size
                raise ValueError(
                    f"Pair {pair.key} in {self.folder} has a picture of {width} x {height} pixels, another one is "
                    f"{self.size[0]} x {self.size[1]}. Give all pictures of a training the same size."
                )
        pixels = torch.stack([torch.from_numpy(np.array(picture)) for picture in pair.pictures]).permute(0, 3, 1, 2)
        return pixels.flip(-1) if flip else pixels

    def _checked_size(self, step: int) -> tuple[int, int]:
        """Width and height of the first picture."""
        width, height = self.pairs[0].pictures[0].size
        if width % step or height % step:
            raise ValueError(
                f"The pictures in {self.folder} are {width} x {height} pixels; this UNet takes sides that are "
                f"multiples of {step}. Paint them in such a size."
            )
        return width, height
