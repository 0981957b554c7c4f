"""SDXL with its text encoders and the two-view adapter, outside ComfyUI: diffusers' UNet with image tokens beside the
text's in every cross attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import SDXL, Backbone, cross_attentions
from .diffusion import Conditioning, run_unet
from .text_encoder import JoinedTextEncoders
from .two_view import RELEASED_LOCAL_STRENGTH, RELEASED_VIEW, ImageKeyValue, TwoViewAdapter

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class ImageAttention:
    """diffusers' attention processor of a cross attention: attention(q, text) + scale * attention(q, image)."""

    def __init__(self, layer: ImageKeyValue):
        self.layer = layer
        self.image: Tensor | None = None  # (B, T, C)
        self.scale = 0.0

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        query = _split(attn.to_q(hidden_states), attn.heads)
        text = [_split(layer(encoder_hidden_states), attn.heads) for layer in (attn.to_k, attn.to_v)]
        out = F.scaled_dot_product_attention(query, *text)
        if self.image is not None and self.scale != 0.0:
            image = [_split(part, attn.heads) for part in self.layer(self.image.to(hidden_states.dtype))]
            out = out + self.scale * F.scaled_dot_product_attention(query, *image)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


class TwoViewDiffusion(nn.Module):
    """The published pair of the retrained release. ``condition`` reads texts and embeddings; ``predict`` is that
    of the other diffusion networks. The UNet's cross attentions are replaced in place."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: JoinedTextEncoders,
        adapter: TwoViewAdapter,
        backbone: Backbone = SDXL,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.unet, self.text_encoder, self.adapter = unet, text_encoder, adapter
        crossed = cross_attentions(unet)
        if len(crossed) != len(adapter.layers):
            raise ValueError(
                f"The adapter has layers for {len(adapter.layers)} cross attentions, the UNet has {len(crossed)}. The "
                "published adapter is for SDXL base."
            )
        self.processors = [ImageAttention(layer) for layer in adapter.layers]
        unet.set_attn_processor({**unet.attn_processors, **dict(zip(crossed, self.processors, strict=True))})

    def condition(
        self,
        text_tokens: Tensor,
        whole: Tensor | None = None,
        local: Tensor | None = None,
        scale: float = 1.0,
        view: str = RELEASED_VIEW,
        local_strength: float = RELEASED_LOCAL_STRENGTH,
    ) -> Conditioning:
        """Tokens (B, 2, L) of the texts, the global and the local view (B, D) -> what ``predict`` reads.

        A view that is None is zeros. ``scale`` 0 is the text alone.
        """
        context, pooled = self.read(text_tokens)
        if scale == 0.0:
            return Conditioning(context, pooled)
        image = self.adapter.tokens(whole, local, view, local_strength).expand(len(context), -1, -1)
        return Conditioning(context, pooled, image, scale)

    def read(self, text_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Context (B, L, C) and pooled text (B, P)."""
        return self.text_encoder(text_tokens)

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Latents (B, c, h, w) in variance-preserving scale, timesteps (B,) -> what the backbone predicts."""
        for processor in self.processors:
            processor.image, processor.scale = conditioning.image, conditioning.image_scale
        return run_unet(self.unet, latents, timesteps, conditioning, self.backbone.latent.step)


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, L, C) -> (B, heads, L, C / heads)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)
