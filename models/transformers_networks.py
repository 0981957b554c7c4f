"""The networks that come from transformers. It is imported where one is built: importing it takes most of a second, and
ComfyUI starts without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import DynamicCache, GPT2Model, LlamaModel


def clip_text_transformer(**config: Any) -> nn.Module:
    """CLIP's text transformer, without the projection. ``config``: the arguments of CLIPTextConfig."""
    from transformers import CLIPTextConfig, CLIPTextModel

    clip = CLIPTextModel(CLIPTextConfig(**config))
    # transformers 4 keeps the transformer in an attribute of CLIPTextModel, transformers 5 made them one.
    return getattr(clip, "text_model", clip)


def gpt2(**config: Any) -> GPT2Model:
    """``config``: the arguments of GPT2Config."""
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(GPT2Config(**config))


def llama(**config: Any) -> LlamaModel:
    """With torch's scaled dot product attention. ``config``: the arguments of LlamaConfig."""
    from transformers import LlamaConfig, LlamaModel

    return LlamaModel(LlamaConfig(**config, attn_implementation="sdpa"))


def key_value_cache() -> DynamicCache:
    """An empty key-value cache for a LLaMA's forward passes."""
    from transformers import DynamicCache

    return DynamicCache()
