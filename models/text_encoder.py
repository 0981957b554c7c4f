"""CLIP's text encoder, as Stable Diffusion uses it: the last hidden states are the context, the projected end the pooled text."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from .operations import swap_operations


@dataclass(frozen=True)
class TextEncoderDims:
    """The names of CLIPTextConfig; the defaults are CLIP ViT-L's. ``projected``: False for Stable Diffusion 1's encoder,
    which comes without the projection of the pooled text."""

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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def clip_config(self) -> dict[str, Any]:
        """The arguments of CLIPTextConfig. Padding is no part of it: what comes after the end reaches nothing before it."""
        fields = asdict(self)
        del fields["projected"]
        return {**fields, "pad_token_id": self.eos_token_id, "projection_dim": self.hidden_size}


class TextEncoder(nn.Module):
    """Published key layout: ``text_model.*`` and ``text_projection.weight``. ``tokenizer`` is set by whoever loads it."""

    def __init__(self, dims: TextEncoderDims, operations: Any = nn) -> None:
        super().__init__()
        self.dims = dims
        clip = CLIPTextModel(CLIPTextConfig(**dims.clip_config()))
        # transformers 4 keeps the transformer in an attribute of CLIPTextModel, transformers 5 made them one.
        self.text_model = getattr(clip, "text_model", clip)
        if dims.projected:
            self.text_projection = operations.Linear(dims.hidden_size, dims.hidden_size, bias=False)
            # CLIP's own spread: pooled texts about as long as the states they come from
            nn.init.normal_(self.text_projection.weight, std=dims.hidden_size**-0.5)
        self.tokenizer = None
        swap_operations(self.text_model, operations)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) of ``stages.preprocess.tokenize_clip`` -> context (B, L, C) after the final norm, pooled (B, C).

        The pooled text is the state at the first end of text, projected where the network has a projection.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        states = self.text_model(input_ids=tokens, position_ids=positions).last_hidden_state
        end = (tokens == self.dims.eos_token_id).int().argmax(dim=1)
        pooled = states[torch.arange(len(tokens), device=tokens.device), end]
        return states, self.text_projection(pooled) if self.dims.projected else pooled
