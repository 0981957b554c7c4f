"""The contents of the networks' recipes: one dataclass per section. InstructPix2Pix's are in pix2pix_config.py."""

from dataclasses import dataclass, field, fields
from typing import Any

from ..models.autoencoder import AutoencoderDims
from ..models.diffusion import DiffusionDims
from .llm_samples import Wordings
from .loop_config import LoopConfig


def require_shares(section: object, *names: str) -> None:
    """ValueError unless these fields are shares, from 0 to 1."""
    for name in names or [entry.name for entry in fields(section)]:
        if not 0 <= getattr(section, name) <= 1:
            raise ValueError(f"{name} is {getattr(section, name)}; it must be a share from 0 to 1.")


@dataclass(frozen=True)
class Pictures:
    """Drawings of Toyland: how many, from which seed, and the share of them that is drawn less cleanly."""

    pictures: int
    seed: int
    messy_share: float = 0.0
    held_out_pictures: int = 0

    def __post_init__(self):
        if self.pictures < 1:
            raise ValueError(f"pictures is {self.pictures}; it must be at least 1.")
        require_shares(self, "messy_share")


@dataclass(frozen=True)
class AutoencoderRecipe:
    """The VAE. `kl_weight`: of the latents' distance to unit Gaussians; `subject_weight`: how much the places of the
    subject count."""

    network: AutoencoderDims
    kl_weight: float
    subject_weight: float
    data: Pictures
    loop: LoopConfig


@dataclass(frozen=True)
class AdapterSizes:
    """The fields of UnclipDims that the other networks do not determine."""

    hidden: int
    pooled_in: int


@dataclass(frozen=True)
class DiffusionRecipe:
    """The embedding-conditioned UNet. `condition_dropout`: share of the samples without their embedding;
    `embedding_noise`: length of the noise on it, relative to its own."""

    network: DiffusionDims
    adapter: AdapterSizes
    condition_dropout: float
    embedding_noise: float
    subject_weight: float
    data: Pictures
    loop: LoopConfig

    def __post_init__(self):
        require_shares(self, "condition_dropout")


@dataclass(frozen=True)
class TextDiffusionRecipe:
    """The text-conditioned UNet. `text_encoder`: sizes of TextEncoderDims; `vocabulary`: tokens at most;
    `condition_dropout`: share of empty prompts; `min_snr`: see models.diffusion.diffusion_loss."""

    network: DiffusionDims
    text_encoder: dict[str, int]
    vocabulary: int
    condition_dropout: float
    min_snr: float | None
    subject_weight: float
    data: Pictures
    loop: LoopConfig

    def __post_init__(self):
        require_shares(self, "condition_dropout")


@dataclass(frozen=True)
class PicturesAndSounds(Pictures):
    """`sounds` of all kinds in turn."""

    sounds: int = 0
    held_out_sounds: int = 0


@dataclass(frozen=True)
class ImageBindBatch:
    """Sounds in a batch, pictures of it that are seen twice, and the share of its pictures in ink."""

    sounds: int
    second_views: int
    ink_share: float

    def __post_init__(self):
        require_shares(self, "ink_share")


@dataclass(frozen=True)
class ImageBindWeights:
    """How much each loss counts, see train_imagebind.losses_of."""

    caption: float
    phrase: float
    sound: float
    sound_phrase: float
    view: float
    attributes: float
    look: float


@dataclass(frozen=True)
class ImageBindRecipe:
    """ImageBind. `network`: changes to ImageBindDims.miniature()."""

    network: dict[str, Any]
    vocabulary: int
    data: PicturesAndSounds
    batch: ImageBindBatch
    weights: ImageBindWeights
    view_temperature: float
    loop: LoopConfig


@dataclass(frozen=True)
class JudgeModel:
    """Channels of each halving stage."""

    widths: tuple[int, ...]


@dataclass(frozen=True)
class JudgeRecipe:
    """The attribute judge of the evaluation."""

    model: JudgeModel
    data: Pictures
    loop: LoopConfig


@dataclass(frozen=True)
class LLMModel:
    """Sizes: `llama` are arguments of LlamaConfig; `merge`: how a reference joins its token, see models.mm_llm."""

    vocab_size: int
    projector_hidden: int
    merge: str
    llama: dict[str, Any]


@dataclass(frozen=True)
class LLMData:
    """Families of pictures, `takes` of every kind of sound, and instructions that the tokenizer is trained on."""

    families: int
    takes: int
    tokenizer_samples: int
    seed: int


@dataclass(frozen=True)
class LLMLoss:
    """See MultimodalLLM.training_loss."""

    embedding_loss: str = "l2"
    embedding_weight: float = 1.0


@dataclass(frozen=True)
class LLMScores:
    """Held-out edits that the trained network is scored on."""

    samples: int
    seed: int


@dataclass(frozen=True)
class LLMRecipe:
    """The instruction LLM. `loop`: the settings of both stages; each stage adds its own to make a
    LoopConfig."""

    model: LLMModel
    data: LLMData
    wordings: Wordings
    loss: LLMLoss
    loop: dict[str, Any]
    llm_stage1: dict[str, Any]
    llm_stage2: dict[str, Any]
    scores: LLMScores


@dataclass(frozen=True)
class PriorNetwork:
    """The fields of PriorDims that ImageBind does not determine; `text`: arguments of CLIPTextConfig."""

    width: int
    layers: int
    heads: int
    score_features: int
    positions: int
    dropout: float
    text: dict[str, int]


@dataclass(frozen=True)
class PriorData:
    """Pictures, `twins` of them drawn again at another cleanliness, `sounds` of each kind, and what is held out."""

    pictures: int
    messy_share: float
    twins: int
    sounds: int
    held_out_scenes: int
    held_out_sounds: int
    seed: int


@dataclass(frozen=True)
class Corruption:
    """Relative frequencies of the corruptions in the paper's loss."""

    noise: float
    mess: float
    text: float
    sound: float


@dataclass(frozen=True)
class PriorRecipe:
    """The refinement prior. `noise_level`: by corruption, the longest noise relative to the embedding;
    `unconditional`: share of the rows for the pass that guidance moves away from."""

    network: PriorNetwork
    data: PriorData
    corruption: Corruption
    noise_level: dict[str, float]
    unconditional: float
    loop: LoopConfig = field(kw_only=True)

    def __post_init__(self):
        require_shares(self, "unconditional")
