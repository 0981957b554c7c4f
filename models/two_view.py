"""The two-view IP-Adapter of the retrained release: ImageBind embeddings beside the text in an SDXL's cross
attentions."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

VIEWS = ("both", "global", "local")
RELEASED_VIEW = "global"  # the release edits with it; its subject consistency uses "local"
RELEASED_LOCAL_STRENGTH = 0.5  # the release's default; only "local" and "both" feel it


@dataclass(frozen=True)
class TwoViewDims:
    """Sizes of the adapter."""

    embed: int  # D, the shared ImageBind embedding
    context: int  # cross attention width of the UNet
    widths: tuple[int, ...]  # of each cross attention, in the order of diffusers' attn_processors: down, up, middle
    tokens: int = 4  # tokens of one view

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def published(cls) -> TwoViewDims:
        """ip_adapter_global_local_2_view.bin, for SDXL: 2 x 2 and 2 x 10 blocks down, 3 x 10 and 3 x 2 up, 10 in the
        middle."""
        return cls(
            embed=1024, context=2048, widths=(640,) * 4 + (1280,) * 20 + (1280,) * 30 + (640,) * 6 + (1280,) * 10
        )


class ViewProjection(nn.Module):
    """Two embeddings -> the tokens that the image attention reads. State dict: ``raw_embed``, ``proj.*``,
    ``norm.*``."""

    def __init__(self, dims: TwoViewDims, operations=nn):
        super().__init__()
        self.raw_embed = nn.Parameter(torch.zeros(2, dims.context))  # marks the global (0) and the local (1) tokens
        self.proj = operations.Linear(dims.embed, dims.tokens * dims.context)
        self.norm = operations.LayerNorm(dims.context)
        self.tokens = dims.tokens

    def forward(self, views: Tensor, view: str, local_strength: float) -> Tensor:
        """Global and local embedding (B, 2, D) -> (B, T, C), T = ``tokens`` of each view that is kept."""
        projected = self.proj(views).unflatten(-1, (self.tokens, -1))  # (B, 2, tokens, C)
        whole, local = projected.unbind(1)
        local = whole * (1 - local_strength) + local * local_strength
        marks = self.raw_embed.to(projected)
        whole, local = whole + marks[0], local + marks[1]
        kept = {"both": (whole, local), "global": (whole,), "local": (local,)}[view]
        return self.norm(torch.cat(kept, dim=1))


class ImageKeyValue(nn.Module):
    """Keys and values of one cross attention's image tokens."""

    def __init__(self, context: int, width: int, operations=nn):
        super().__init__()
        self.to_k_ip = operations.Linear(context, width, bias=False)
        self.to_v_ip = operations.Linear(context, width, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> keys and values, each (B, T, width)."""
        return self.to_k_ip(tokens), self.to_v_ip(tokens)


class TwoViewAdapter(nn.Module):
    """Every cross attention of the UNet gives attention(q, text) + scale * attention(q, image), before its output
    layer.

    State dict, as published: `image_proj.{raw_embed, proj.*, norm.*}`,
    `ip_adapter.{1,3,5,...}.{to_k_ip,to_v_ip}.weight`: the numbers are those of diffusers' attn_processors, of which
    every second one is a cross attention.
    """

    def __init__(self, dims: TwoViewDims, operations=nn):
        super().__init__()
        self.dims = dims
        self.image_proj = ViewProjection(dims, operations)
        layers = (ImageKeyValue(dims.context, width, operations) for width in dims.widths)
        self.ip_adapter = nn.ModuleDict({str(2 * place + 1): layer for place, layer in enumerate(layers)})

    @property
    def layers(self) -> list[ImageKeyValue]:
        """One for each of ``dims.widths``, in its order."""
        return list(self.ip_adapter.values())

    def tokens(
        self,
        global_view: Tensor | None,
        local_view: Tensor | None = None,
        view: str = RELEASED_VIEW,
        local_strength: float = RELEASED_LOCAL_STRENGTH,
    ) -> Tensor:
        """Embeddings (B, D), at the norm the adapter was trained with -> (B, T, C); T is 8 for "both", else 4, as
        published.

        A view that is None is zeros; two of them are the unconditional tokens (of one row), whatever
        ``local_strength``. ``local_strength`` 0..1: how far the local tokens go from the global view's to the local
        view's own.
        """
        if view not in VIEWS:
            raise ValueError(f"The view is {view!r}. Choose one of {', '.join(VIEWS)}.")
        given = [embedding for embedding in (global_view, local_view) if embedding is not None]
        for embedding in given:
            if embedding.ndim != 2 or embedding.shape[-1] != self.dims.embed:
                raise ValueError(
                    f"The adapter takes embeddings of shape (B, {self.dims.embed}), got {tuple(embedding.shape)}. "
                    "Use an adapter and an ImageBind of the same checkpoint."
                )
        absent = torch.zeros_like(given[0]) if given else self.image_proj.raw_embed.new_zeros(1, self.dims.embed)
        views = [absent if embedding is None else embedding for embedding in (global_view, local_view)]
        return self.image_proj(torch.stack(views, dim=1), view, local_strength)
