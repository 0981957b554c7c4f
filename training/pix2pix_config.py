"""The configuration of train_instructpix2pix: one dataclass per section; fields with a default are optional."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..datagen.pairs.filter import NAME as FILTERED
from .loop_config import LoopConfig
from .recipe_files import read_section
from .shard_pairs import AT_ONCE, FLIPPED

WEIGHTS = {"int8": {"in_8_bits": True}, "fp16": {"dtype": torch.float16}, "fp32": {"dtype": torch.float32}}


@dataclass(frozen=True)
class Start:
    """What training starts from: files in this pack's format, or folders of a diffusers pipeline; None: the
    miniature's.

    `unet`: a text-conditioned UNet, or an InstructPix2Pix to train further.
    `tokenizer` belongs to `text_encoder` where that is a folder. `text_encoder_2` and `tokenizer_2`: SDXL's second.
    """

    unet: str | None = None
    text_encoder: str | None = None
    tokenizer: str | None = None
    text_encoder_2: str | None = None
    tokenizer_2: str | None = None
    vae: str | None = None


@dataclass(frozen=True)
class Dropout:
    """Shares of the samples that are trained without a condition (sec. 3.2.1: 5 % each)."""

    image_only: float = 0.05
    text_only: float = 0.05
    both: float = 0.05

    def __post_init__(self):
        shares = (self.image_only, self.text_only, self.both)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(
                f"dropout is image_only {self.image_only}, text_only {self.text_only}, both {self.both}; these are "
                "shares of the samples: none may be below 0, and together they may be at most 1."
            )

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """-> (count,) bool twice: the samples that lose their picture, and those that lose their text."""
        drawn = torch.rand(count, generator=generator)
        image_end, both_end = self.image_only, self.image_only + self.both
        return drawn < both_end, (drawn >= image_end) & (drawn < both_end + self.text_only)


@dataclass(frozen=True)
class ToylandData:
    """Pairs that Toyland draws: this many families of pictures of the train split."""

    families: int
    seed: int

    def __post_init__(self):
        if self.families < 1:
            raise ValueError(f"families is {self.families}; it must be at least 1.")


@dataclass(frozen=True)
class ShardData:
    """Pairs of the data pipeline, see shard_pairs.ShardPairs."""

    shards: str
    seed: int = 0
    stage: str = FILTERED
    flip: float = FLIPPED


@dataclass(frozen=True)
class Recipe:
    """The whole configuration. `weights`: how what was trained is stored, a key of WEIGHTS.

    `unchanged`: share of the samples that keep their picture and lose their text whose target is the picture as it is.
    The paper has none: the prediction without text is then an arbitrary edit, close to the picture where all edits are
    small. `source_gain`: standard deviation of the source in training. `subject_weight`: how much the loss counts where
    the subject is; Toyland's own pairs only. `min_snr` and `snr_floor`: see models.diffusion.diffusion_loss. `probes`:
    pairs that the loss at a checkpoint is measured on. `vae_batch`: pictures that the VAE encodes in one call.
    """

    data: ToylandData | ShardData
    loop: LoopConfig
    start: Start = field(default_factory=Start)
    dropout: Dropout = field(default_factory=Dropout)
    unchanged: float = 0.0
    train_text_encoder: bool = False
    min_snr: float | None = None
    snr_floor: float = 0.0
    source_gain: float = 1.0
    subject_weight: float = 1.0
    weights: str = "int8"
    probes: int = 256
    vae_batch: int = AT_ONCE

    def __post_init__(self):
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights is {self.weights!r}; it must be one of {', '.join(WEIGHTS)}.")
        for name in ("source_gain", "subject_weight"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for name in ("probes", "vae_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.unchanged <= 1:
            raise ValueError(
                f"unchanged is {self.unchanged}; it must be a share of the samples without text, from 0 to 1."
            )
        if self.train_text_encoder and self.start.text_encoder_2:
            raise ValueError(
                "SDXL's two text encoders stay as they are. Set train_text_encoder: false, as in the paper."
            )


def read_recipe(config: dict) -> Recipe:
    """Read a recipe; ValueError names what is unknown, missing or invalid."""
    data = config.get("data") or {}
    if ("shards" in data) == ("families" in data):
        raise ValueError("The recipe's data names both shards and families, or neither. Give one of them.")
    kind = ShardData if "shards" in data else ToylandData
    return read_section(Recipe, {**config, "data": read_section(kind, data, "data")}, "The recipe")
