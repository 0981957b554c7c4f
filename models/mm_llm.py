"""The instruction LLM: a LLaMA that reads reference embeddings at ``<video>`` tokens and predicts embeddings there.

InstructAny2Pix (arXiv 2312.06738), section 3.2. The state dict is the published layout: ``model.*`` and ``lm_head.*``
as Hugging Face's LlamaForCausalLM has them, ``model.vae_projector_image.{0,2}`` and
``model.vae_predictor_image.{0,2}``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .operations import swap_operations
from .transformers_networks import llama

if TYPE_CHECKING:
    from transformers import DynamicCache

# Added to Vicuna's vocabulary in this order (the released training script).
ADDED_TOKENS = (
    "<im_gen_start>", "<im_gen>", "<mask_gen>", "<audio_gen>", "<audio_gen_start>",
    "<audio>", "<video>", "<base>", "<base_null>",
)  # fmt: skip
EMBED_NORM = 20.0  # every embedding goes in, and is predicted, as unit * 20: the released LLM was trained at this norm
IGNORE_INDEX = -100  # label of a position that has no cross entropy
INIT_STD = 0.02  # LLaMA's own


@dataclass(frozen=True)
class MMLLMDims:
    """``llama``: keyword arguments of LlamaConfig. ``merge``: "add" (the released code) or "substitute" (the paper)."""

    embed: int
    llama: dict[str, Any]
    projector_hidden: int
    merge: str = "add"

    def __post_init__(self) -> None:
        if self.merge not in ("add", "substitute"):
            raise ValueError(f'merge is "add" (as released) or "substitute" (as in the paper), not {self.merge!r}.')

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def published(cls) -> MMLLMDims:
        """Vicuna-7B-v1.5 with the nine added tokens."""
        llama = dict(
            vocab_size=32000 + len(ADDED_TOKENS),
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
        )
        return cls(embed=1024, llama=llama, projector_hidden=4096)


@dataclass(frozen=True)
class LLMOutput:
    """``logits`` (B, L, V), ``hidden`` (B, L, width) after the final norm, and the key-value cache when one was asked
    for. L is 1, the last position, where only that was asked for.

    ``hidden[:, i]`` is the state that predicts token i + 1.
    """

    logits: Tensor
    hidden: Tensor
    past_key_values: DynamicCache | None


@dataclass(frozen=True)
class LLMBatch:
    """One training batch; sequences padded on the right (a causal model never sees the padding, so no mask is needed).

    ``input_ids``, ``labels`` (B, L), labels IGNORE_INDEX outside the answer. ``references`` (B, N, D) raw embeddings at
    ``reference_positions`` (B, N), -1 where there is none. ``targets`` (B, 1 + M, D) raw embeddings and
    ``target_positions`` (B, 1 + M) of their ``<video>`` tokens, -1 where there is none: column 0 is the base, the rest
    what is generated.
    """

    input_ids: Tensor
    labels: Tensor
    references: Tensor
    reference_positions: Tensor
    targets: Tensor
    target_positions: Tensor


class MultimodalLLM(nn.Module):
    """A plain module around LlamaModel: ``model``, ``lm_head``, and the two small networks between embeddings and
    states.

    ``tokenizer`` is set by the loader: a ``tokenizers.Tokenizer``. Everything is computed in the dtype of the token
    table: another one would have ``operations`` cast every weight again for every token.
    """

    def __init__(self, dims: MMLLMDims, operations: Any = nn) -> None:
        super().__init__()
        self.dims = dims
        self.tokenizer = None
        self.model = llama(**dims.llama)
        config = self.model.config
        width = config.hidden_size
        self.cache_argument = cache_argument(self.model.forward)
        _replace_rotary(self.model, _rotary_base(dims.llama), width // config.num_attention_heads)
        self.model.vae_projector_image = _two_layers(dims.embed, dims.projector_hidden, width)
        self.model.vae_predictor_image = _two_layers(width, dims.projector_hidden, dims.embed)
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        nn.init.normal_(self.lm_head.weight, std=INIT_STD)
        swap_operations(self, operations)

    @property
    def vocabulary(self) -> int:
        return self.dims.llama["vocab_size"]

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together that the model has positions for."""
        return self.dims.llama.get("max_position_embeddings", 2048)  # LlamaConfig's default

    def forward(
        self,
        input_ids: Tensor,
        references: Tensor | None = None,
        reference_positions: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        last_only: bool = False,
    ) -> LLMOutput:
        """``input_ids`` (B, L); ``references`` (B, N, D) raw embeddings; ``reference_positions`` (B, N) into L, -1 for
        none.

        ``attention_mask`` (B, cached + L), 1 on tokens and 0 on padding: padding is neither seen nor counted as a
        position, on whichever side it lies. Hand in an empty or filled DynamicCache to continue from it; without one
        nothing is cached. ``last_only``: no logits but the last position's, the only ones that decoding reads.
        """
        inputs = self.embed(input_ids, references, reference_positions)
        output = self.model(
            inputs_embeds=inputs,
            attention_mask=attention_mask,
            position_ids=None if attention_mask is None else _positions(attention_mask, input_ids.shape[1]),
            use_cache=past_key_values is not None,
            **{self.cache_argument: past_key_values},
        )
        hidden = output.last_hidden_state
        if last_only:
            hidden = hidden[:, -1:].clone()  # a copy, so that keeping a state does not keep the whole prompt's
        return LLMOutput(self.lm_head(hidden), hidden, past_key_values)

    def embed(self, input_ids: Tensor, references: Tensor | None, positions: Tensor | None) -> Tensor:
        """(B, L) token ids -> (B, L, width), the references merged in at ``positions``."""
        tokens = self.model.embed_tokens(input_ids)
        if references is None or references.shape[1] == 0:
            return tokens
        projected = self.model.vae_projector_image(scale_embedding(references).to(tokens.dtype))
        rows, columns = torch.nonzero(positions >= 0, as_tuple=True)
        merged = tokens.clone()
        places = (rows, positions[rows, columns])
        merged[places] = projected[rows, columns] + (tokens[places] if self.dims.merge == "add" else 0)
        return merged

    def predict_embedding(self, hidden: Tensor) -> Tensor:
        """(..., width) the states that predict ``<video>`` -> (..., D) embeddings, norm about EMBED_NORM."""
        return self.model.vae_predictor_image(hidden)

    def training_loss(
        self, batch: LLMBatch, embedding_loss: str = "l2", embedding_weight: float = 1.0
    ) -> dict[str, Tensor]:
        """Cross entropy + ||H_base - F(X_base)||^2 + ||H_gen - F(Y)||^2 (the paper's eq. 2), or L1 as released.

        Both distances are means over the D numbers of embeddings at EMBED_NORM, so their weight does not depend on D.
        """
        output = self(batch.input_ids, batch.references, batch.reference_positions)
        text = F.cross_entropy(
            output.logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX
        )
        rows, columns = torch.nonzero(batch.target_positions >= 0, as_tuple=True)
        states = output.hidden[rows, batch.target_positions[rows, columns] - 1]
        distance = self._distance(embedding_loss)(
            self.predict_embedding(states).float(), scale_embedding(batch.targets[rows, columns])
        )
        base, generated = _mean_where(distance, columns == 0), _mean_where(distance, columns > 0)
        return {
            "loss": text + embedding_weight * (base + generated),
            "text": text,
            "base": base,
            "generated": generated,
        }

    @staticmethod
    def _distance(kind: str) -> Any:
        if kind == "l2":
            return lambda predicted, target: (predicted - target).square().mean(-1)
        if kind == "l1":
            return lambda predicted, target: (predicted - target).abs().mean(-1)
        raise ValueError(f'embedding_loss is "l2" (the paper) or "l1" (the released code), not {kind!r}.')


class RotaryEmbedding(nn.Module):
    """LLaMA's rotary position embedding, computed at use.

    Hugging Face keeps the frequencies in a buffer, which a cast to half precision rounds, a build on the meta device
    leaves empty and a layer-wise move leaves behind. This holds two numbers and has none of those troubles.
    """

    def __init__(self, base: float, head_width: int) -> None:
        super().__init__()
        self.base, self.head_width = base, head_width

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """``position_ids`` (B, L) -> cos, sin, each (B, L, head_width), in x's dtype."""
        exponents = torch.arange(0, self.head_width, 2, device=x.device, dtype=torch.float32) / self.head_width
        angles = position_ids[..., None].to(x.device, torch.float32) * (1.0 / self.base**exponents)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def cache_argument(forward: Callable[..., Any]) -> str:
    """What a LlamaModel calls its key-value cache: "cache" from transformers 5.24 on, whose old name goes in 5.40.

    Earlier versions take any name and ignore those they do not know, so it cannot be tried out.
    """
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def scale_embedding(embedding: Tensor) -> Tensor:
    """(..., D) -> the same direction at norm EMBED_NORM; float32."""
    return F.normalize(embedding.float(), dim=-1) * EMBED_NORM


def _positions(attention_mask: Tensor, length: int) -> Tensor:
    """(B, cached + length) -> (B, length): how many tokens come before each of the last ``length`` places."""
    return (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -length:]


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the masked values; 0, with a gradient, where there are none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _rotary_base(llama: dict[str, Any]) -> float:
    if llama.get("rope_scaling"):
        raise ValueError(f"rope_scaling={llama['rope_scaling']!r} is not supported; Vicuna-7B-v1.5 has none.")
    return float(llama.get("rope_theta") or 10000.0)


def _replace_rotary(model: nn.Module, base: float, head_width: int) -> None:
    """Put ours in the place of Hugging Face's: on the model, and on each attention before version 4.48."""
    for module in list(model.modules()):
        if hasattr(module, "rotary_emb"):
            module.rotary_emb = RotaryEmbedding(base, head_width)
