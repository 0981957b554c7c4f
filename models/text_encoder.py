"""CLIP's text encoder as Stable Diffusion uses it: the last hidden states are the context, the projected end the pooled
text. And SDXL's two of them as one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .operations import swap_operations
from .transformers_networks import clip_text_transformer


@dataclass(frozen=True)
class TextEncoderDims:
    """The names of CLIPTextConfig; the defaults are CLIP ViT-L's. ``projected``: False for Stable Diffusion 1's
    encoder, which comes without the projection of the pooled text. ``padding``: the token after the end of a text, as
    it was trained; the end again in Stable Diffusion 1 and in SDXL's first encoder, 0 in SDXL's second and in the
    miniature's."""

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    projected: bool = True
    padding: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def clip_config(self) -> dict[str, Any]:
        """The arguments of CLIPTextConfig. Its own padding token does nothing: the network reads padding as any
        token."""
        fields = asdict(self)
        del fields["projected"], fields["padding"]
        return {**fields, "pad_token_id": self.eos_token_id, "projection_dim": self.hidden_size}


class TextEncoder(nn.Module):
    """Published key layout: ``text_model.*`` and ``text_projection.weight``. ``tokenizer`` is set by whoever loads
    it."""

    def __init__(self, dims: TextEncoderDims, operations: Any = nn) -> None:
        super().__init__()
        self.dims = dims
        self.text_model = clip_text_transformer(**dims.clip_config())
        if dims.projected:
            self.text_projection = operations.Linear(dims.hidden_size, dims.hidden_size, bias=False)
            # CLIP's own spread: pooled texts about as long as the states they come from
            nn.init.normal_(self.text_projection.weight, std=dims.hidden_size**-0.5)
        self.tokenizer = None
        swap_operations(self.text_model, operations)

    @property
    def context(self) -> int:
        """Channels of the context."""
        return self.dims.hidden_size

    @property
    def pooled(self) -> int:
        """Channels of the pooled text."""
        return self.dims.hidden_size

    def forward(self, tokens: Tensor, penultimate: bool = False) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) of ``stages.preprocess.tokens_for`` -> context (B, L, C), pooled (B, C).

        The context is the last hidden state after the final norm, or the ``penultimate`` one, without a norm. The
        pooled text is the state after the final norm at the first end of text, projected where the network has a
        projection.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        found = self.text_model(input_ids=tokens, position_ids=positions, output_hidden_states=penultimate)
        states = found.last_hidden_state
        end = (tokens == self.dims.eos_token_id).int().argmax(dim=1)
        pooled = states[torch.arange(len(tokens), device=tokens.device), end]
        context = found.hidden_states[-2] if penultimate else states
        return context, self.text_projection(pooled) if self.dims.projected else pooled


class JoinedTextEncoders(nn.Module):
    """SDXL's text encoders as one (Podell et al., arXiv 2307.01952, sec. 2.1): CLIP ViT-L and OpenCLIP ViT-bigG.

    The context is the penultimate hidden states of all, side by side along the channels; the pooled text is the last
    one's.
    """

    def __init__(self, parts: Sequence[TextEncoder]) -> None:
        super().__init__()
        lengths = {part.dims.max_position_embeddings for part in parts}
        if len(lengths) > 1:
            raise ValueError(
                f"The text encoders read {sorted(lengths)} tokens. Take those of one SDXL: they read the same number."
            )
        if not parts[-1].dims.projected:
            raise ValueError(
                "The second text encoder has no projection of the pooled text, which SDXL reads. Take text_encoder_2 "
                "of an SDXL pipeline; text_encoder is the first."
            )
        self.parts = nn.ModuleList(parts)

    @property
    def context(self) -> int:
        """Channels of the context."""
        return sum(part.context for part in self.parts)

    @property
    def pooled(self) -> int:
        """Channels of the pooled text."""
        return self.parts[-1].pooled

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, 2, L), a row for each encoder -> context (B, L, C1 + C2), pooled (B, C2)."""
        found = [part(row, penultimate=True) for part, row in zip(self.parts, tokens.unbind(1), strict=True)]
        return torch.cat([context for context, _ in found], dim=-1), found[-1][1]
