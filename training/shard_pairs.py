"""Training pairs of InstructPix2Pix out of the shards of `datagen.pairs`, streamed by `datasets`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..datagen.pairs.filter import NAME as FILTERED
from ..datagen.pairs.shards import KEPT, ShardFolder, stream
from ..loading.autoencoder import load_autoencoder
from ..models.autoencoder import SDXL_SCALE

SHUFFLED = 1000  # pairs that the next one is drawn from; the order of the shards is shuffled besides
HELD_BYTES = 2**30  # latents kept in memory; what is beyond is encoded each time it comes by
FLIPPED = 0.5  # of the pairs: mirrored, as in the authors' configs/train.yaml


@dataclass(frozen=True)
class Edits:
    """A batch: `source` (B, 4, h, w) as the VAE encodes it, `target` (B, 4, h, w) of unit variance, B instructions.

    `weight` (B, 1, h, w), mean 1: how much the loss counts at each place; None: the same everywhere.
    """

    source: Tensor
    target: Tensor
    texts: list[str]
    weight: Tensor | None = None


@dataclass(frozen=True)
class Vae:
    """`encode`: (B, 3, H, W) in [-1, 1] -> mean latents, both on the CPU; times `scale` they have unit variance.

    `downscale`: pixels of a side for one place of the latent.
    """

    encode: Callable[[Tensor], Tensor]
    scale: float
    downscale: int


def load_vae(place: str | Path, device: str | torch.device = "cpu") -> Vae:
    """Our VAE file, or the folder of an AutoencoderKL as diffusers writes it; it works on `device`."""
    if not Path(place).is_dir():
        vae = load_autoencoder(place, device=device)
        return Vae(lambda pictures: vae.encode(pictures.to(device))[0].cpu(), SDXL_SCALE, vae.dims.downscale)
    from diffusers import AutoencoderKL

    kl = AutoencoderKL.from_pretrained(place).to(device).eval().requires_grad_(False)
    downscale = 2 ** (len(kl.config.block_out_channels) - 1)
    return Vae(
        lambda pictures: kl.encode(pictures.to(device)).latent_dist.mean.cpu(), kl.config.scaling_factor, downscale
    )


class ShardPairs:
    """The pairs of a folder of finished shards, each once an epoch, in an order that `seed` decides.

    `stage`: "filter", or "pictures" for what no filter has seen. `step`: the sides of the pictures must be multiples of
    it, and all pictures of one size. `flip`: share of the pairs that are mirrored; 0 where instructions say left or
    right.

    The batch of a training step depends on nothing but the step and `seed`. A run that goes on reads over the pairs
    before its place in the epoch, without decoding or encoding them. Each process of a parallel run has an order of its
    own over all pairs. Shuffled are the shards and, as they are read, SHUFFLED pairs: shards of a few hundred pairs mix
    well.
    """

    def __init__(
        self,
        folder: str | Path,
        vae: Vae,
        step: int,
        seed: int = 0,
        stage: str = FILTERED,
        flip: float = FLIPPED,
        process: int = 0,
    ):
        if not 0 <= flip <= 1:
            raise ValueError(f"flip is {flip}; it is the share of the pairs that are mirrored, from 0 to 1.")
        self.folder, self.vae, self.step, self.flip = folder, vae, step, flip
        self.scale = vae.scale  # a source times this has unit variance
        self.order = int(np.random.SeedSequence((seed, process)).generate_state(1)[0])
        self.pairs = stream(folder, stage)
        shards = ShardFolder(folder, stage, ".tar")
        self.total = sum(shards.counts(index)[KEPT] for index in shards.finished())
        self.files = [shards.folder / "stage.json", *(shards.counts_path(index) for index in shards.finished())]
        self.size: tuple[int, int] | None = None
        self.held: dict[tuple[str, bool], Tensor] = {}
        self.held_bytes = 0
        self.place, self.rows = 0, self._from(0)

    def edits(self, step: int, generator: torch.Generator, count: int) -> Edits:
        """The batch of a training step, 0-based."""
        start = step * count
        if start != self.place:
            self.rows = self._from(start)
        rows, self.place = list(islice(self.rows, count)), start + count
        return self._batch(rows, (torch.rand(count, generator=generator) < self.flip).tolist())

    def probe(self, count: int) -> Edits:
        """The first pairs, as they are; fewer where there are fewer."""
        rows = list(self.pairs.take(count))
        return self._batch(rows, [False] * len(rows))

    def _from(self, start: int) -> Iterator[dict]:
        """Endless rows, epoch after epoch, from the `start`-th on."""
        epoch, skipped = divmod(start, self.total)
        while True:
            yield from self.pairs.shuffle(seed=(self.order + epoch) % 2**32, buffer_size=SHUFFLED).skip(skipped)
            epoch, skipped = epoch + 1, 0

    def _batch(self, rows: Sequence[dict], flips: Sequence[bool]) -> Edits:
        latents = self._latents(rows, flips).float()
        return Edits(latents[:, 0], latents[:, 1] * self.scale, [row["json"]["instruction"] for row in rows])

    def _latents(self, rows: Sequence[dict], flips: Sequence[bool]) -> Tensor:
        """Source and target of each row: (B, 2, 4, h, w), half precision."""
        keys = [(f"{row['__url__']}/{row['__key__']}", flip) for row, flip in zip(rows, flips, strict=True)]
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self.held}
        found = {}
        if missing:
            pixels = torch.stack([self._pixels(row, key[1]) for key, row in missing.items()])
            with torch.no_grad():
                encoded = self.vae.encode(pixels.flatten(0, 1)).half().unflatten(0, (-1, 2))
            found = dict(zip(missing, encoded.unbind(), strict=True))
        latents = torch.stack([self.held[key] if key in self.held else found[key] for key in keys])
        for key, pair in found.items():
            if self.held_bytes + pair.nbytes <= HELD_BYTES:
                self.held[key] = pair.clone()  # a view would keep the whole batch
                self.held_bytes += pair.nbytes
        return latents

    def _pixels(self, row: dict, flip: bool) -> Tensor:
        """Source and target of a row: (2, 3, H, W) in [-1, 1]."""
        pictures = [row[name].convert("RGB") for name in ("source.png", "edited.png")]
        self._check(row["__key__"], pictures)
        pixels = torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).permute(0, 3, 1, 2)
        pixels = pixels.float() / 127.5 - 1
        return pixels.flip(-1) if flip else pixels

    def _check(self, key: str, pictures: Sequence[Image.Image]) -> None:
        self.size = self.size or pictures[0].size
        for picture in pictures:
            width, height = picture.size
            if picture.size != self.size:
                raise ValueError(
                    f"Pair {key} in {self.folder} has a picture of {width} x {height} pixels, another one is "
                    f"{self.size[0]} x {self.size[1]}. Make all pictures of a training one size."
                )
            if width % self.step or height % self.step:
                raise ValueError(
                    f"The pictures in {self.folder} are {width} x {height} pixels; this UNet takes sides that are "
                    f"multiples of {self.step}. Paint them in such a size."
                )
