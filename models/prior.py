"""The refinement prior: a GPT-2 that reads embeddings and answers with the ImageBind embedding of a clean picture."""

import math
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from .operations import swap_operations
from .transformers_networks import clip_text_transformer, gpt2

# The sequence the published weights saw, in order; the index of a name is its row in the start and end token tables and
# its input projection. The released list goes on with the noise level and the target modality, but a missing comma
# between these two fuses them into one key that no input has, and inference calls the noisy input by a third name: none
# of the three ever enters the sequence. "source" is a bare modality token, without start and end.
PRIOR_INPUTS = ("source", "imagebind", "text", "score")
IMAGEBIND, TEXT, SCORE = (PRIOR_INPUTS.index(name) for name in PRIOR_INPUTS[1:])

MODALITIES = {"image": 0, "audio": 1, "text": 2, "video": 3}  # rows of the published modality embedding
INPUT_NORM = 100.0  # length of the imagebind input, as the released pipeline hands it over
UNCONDITIONAL_FEATURE = 2.0  # the released unconditional pass fills ALL score features with its "negative score"
BOUNDARY_ROWS = 32  # rows of the start and end token tables; only 1..3 are used
MAX_PERIOD = 10000.0  # of the sinusoidal score features, diffusers' get_timestep_embedding


@dataclass(frozen=True)
class PriorDims:
    """Sizes of the prior. `clip` holds the arguments of CLIPTextConfig."""

    embed: int  # D, the ImageBind embedding that comes in and goes out
    width: int  # of GPT-2
    layers: int
    heads: int
    score_features: int = 512
    clip: dict = field(default_factory=dict)
    modalities: int = 10
    positions: int = 1024
    vocab: int = 1  # rows of GPT-2's token table, which is in the files and never read
    dropout: float = 0.1  # in training only

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def published(cls) -> "PriorDims":
        """GPT-2 medium and the text encoder of CLIP ViT-H/14 (laion2B)."""
        clip = {
            "vocab_size": 49408,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "max_position_embeddings": 77,
            "hidden_act": "gelu",
            "bos_token_id": 49406,
            "eos_token_id": 49407,
        }
        return cls(embed=1024, width=1024, layers=24, heads=16, clip=clip, vocab=50257)


class RefinementPrior(nn.Module):
    """GPT-2 over [source] [imagebind] [text] [score]; the last state, projected where D is not GPT-2's width, is the
    answer.

    State dict, as published: `modality_embedding`, `{start,end}_of_sequence_tokens`,
    `input_sequence_embed_linear.{1,2,3}`, `cond_stage_models.0.model.text_model.*`, `model.*`; `output_proj` only where
    D differs from the width.
    """

    def __init__(self, dims: PriorDims, operations=nn):
        super().__init__()
        self.dims = dims
        width = dims.width
        self.modality_embedding = operations.Embedding(dims.modalities, width)
        self.start_of_sequence_tokens = operations.Embedding(BOUNDARY_ROWS, width)
        self.end_of_sequence_tokens = operations.Embedding(BOUNDARY_ROWS, width)
        inputs = (dims.embed, dims.clip["hidden_size"], dims.score_features)
        self.input_sequence_embed_linear = nn.ModuleList(
            [nn.Identity(), *(operations.Linear(size, width) for size in inputs)]
        )
        self.cond_stage_models = nn.ModuleList([_TextStage(dims.clip)])
        self.model = _gpt2(dims)
        self.output_proj = nn.Identity() if dims.embed == width else operations.Linear(width, dims.embed)
        self.tokenizer: Tokenizer | None = None  # for text sources; whoever loads the weights sets it
        swap_operations(self.cond_stage_models, operations)
        swap_operations(self.model, operations)

    def forward(
        self,
        embedding: Tensor,
        score: Tensor,
        text_ids: Tensor,
        text_mask: Tensor,
        modality: Tensor,
        unconditional: bool | Tensor = False,
    ) -> Tensor:
        """One refined embedding per row, at the scale of the training targets.

        embedding (B, D), rows of length INPUT_NORM. score (B,), aesthetic, 1..10. text_ids, text_mask (B, L): the CLIP
        prompt with its start and end tokens, mask 1 where a token counts; the empty prompt when the source is not text.
        modality (B,): values of MODALITIES. unconditional: True, or a (B,) bool per row, for the pass that guidance
        moves away from: imagebind input zeroed, score features constant (hand over the empty prompt with it). -> (B, D)
        """
        batch, device = embedding.shape[0], embedding.device
        skip = torch.as_tensor(unconditional, device=device).expand(batch)
        embedding = embedding.masked_fill(skip[:, None], 0.0)
        features = score_features(score.to(device), self.dims.score_features).to(embedding.dtype)  # (B, F)
        features = features.masked_fill(skip[:, None], UNCONDITIONAL_FEATURE)
        text = self.cond_stage_models[0](text_ids, text_mask).to(embedding.dtype)  # (B, L, C)

        parts = [
            self.modality_embedding(modality)[:, None],  # (B, 1, W)
            *self._enclosed(IMAGEBIND, embedding[:, None]),
            *self._enclosed(TEXT, text),
            *self._enclosed(SCORE, features[:, None]),
        ]
        sequence = torch.cat([part.to(embedding.dtype) for part in parts], dim=1)  # (B, L + 9, W)
        before = text_mask.new_ones(batch, 5)  # source, <imagebind> x </imagebind>, <text>
        after = text_mask.new_ones(batch, 4)  # </text>, <score> x </score>
        mask = torch.cat([before, text_mask, after], dim=1)
        positions = torch.arange(sequence.shape[1], device=device)[None]
        states = self.model(inputs_embeds=sequence, attention_mask=mask, position_ids=positions, use_cache=False)
        return self.output_proj(states.last_hidden_state[:, -1])

    def training_loss(
        self,
        target: Tensor,
        corrupted: Tensor,
        score: Tensor,
        text_ids: Tensor,
        text_mask: Tensor,
        modality: Tensor,
        unconditional: bool | Tensor = False,
    ) -> Tensor:
        """||F(X) - prior(C(F(X)), score(X))||^2 (InstructAny2Pix sec. 3), the mean over the batch, relative to
        ||F(X)||^2.

        target (B, D): F(X) at the scale the prior is to answer in; corrupted (B, D): C(F(X)), rows of length
        INPUT_NORM. Dividing by ||F(X)||^2, the same number for every row, makes 1 the loss of a prior that answers
        zero.
        """
        predicted = self(corrupted, score, text_ids, text_mask, modality, unconditional)
        return F.mse_loss(predicted, target) / target.square().mean()

    def _enclosed(self, index: int, item: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, input width) -> start token (B, 1, W), projected item (B, N, W), end token (B, 1, W)."""
        row = torch.full((item.shape[0], 1), index, device=item.device)
        return (
            self.start_of_sequence_tokens(row),
            self.input_sequence_embed_linear[index](item),
            self.end_of_sequence_tokens(row),
        )


class _TextStage(nn.Module):
    """The CLIP text transformer under the names of the published file: `model.text_model.*`."""

    def __init__(self, config: dict):
        super().__init__()
        self.model = nn.Module()
        self.model.text_model = clip_text_transformer(**config)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (B, L) -> last hidden states after the final LayerNorm (B, L, C)."""
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        return self.model.text_model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state


def score_features(score: Tensor, size: int) -> Tensor:
    """Scores (B,) -> sinusoidal features (B, size), cosines first; the timestep embedding of DDPM as diffusers writes
    it with flip_sin_to_cos=True and downscale_freq_shift=0."""
    half = size // 2
    frequencies = torch.exp(-math.log(MAX_PERIOD) / half * torch.arange(half, device=score.device, dtype=torch.float32))
    angles = score.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _gpt2(dims: PriorDims) -> nn.Module:
    return gpt2(
        vocab_size=dims.vocab,
        n_positions=dims.positions,
        n_embd=dims.width,
        n_layer=dims.layers,
        n_head=dims.heads,
        resid_pdrop=dims.dropout,
        embd_pdrop=dims.dropout,
        attn_pdrop=dims.dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
