"""The unCLIP adapter: one ImageBind embedding -> the conditioning of an SDXL UNet that has no text encoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class UnclipDims:
    """Sizes of the adapter. Every field is the width of a vector."""

    embed: int  # D, the shared ImageBind embedding
    hidden: int  # the hidden layer of both projections
    context: int  # cross attention width of the UNet
    pooled: int  # pooled vector of the UNet's text_time embedding
    pooled_in: int = 768  # the zero vector that the pooled vector is made from

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def published(cls) -> UnclipDims:
        """The unCLIP release: 1024 -> 4096 -> 2048 and 768 -> 4096 -> 1280 (SDXL's context and pooled widths)."""
        return cls(embed=1024, hidden=4096, context=2048, pooled=1280, pooled_in=768)


class UnclipProjector(nn.Module):
    """H -> one context token and a pooled vector.

    The pooled vector does not depend on H: the published adapter projects a zero vector, so it is a learned constant
    in the place of the pooled text vector that SDXL's UNet asks for.
    State dict: `projector_unclip.{0,2}.*`, `projector_unclip2.{0,2}.*`, as published.
    """

    def __init__(self, dims: UnclipDims, operations=nn):
        super().__init__()
        self.dims = dims
        self.projector_unclip = nn.Sequential(
            operations.Linear(dims.embed, dims.hidden), nn.GELU(), operations.Linear(dims.hidden, dims.context)
        )
        self.projector_unclip2 = nn.Sequential(
            operations.Linear(dims.pooled_in, dims.hidden), nn.GELU(), operations.Linear(dims.hidden, dims.pooled)
        )

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """H (B, D), at the norm the UNet was trained with -> context (B, 1, C), pooled (B, P)."""
        if embedding.ndim != 2 or embedding.shape[-1] != self.dims.embed:
            raise ValueError(
                f"The adapter takes embeddings of shape (B, {self.dims.embed}), got {tuple(embedding.shape)}. "
                "Use an adapter and an ImageBind of the same checkpoint."
            )
        context = self.projector_unclip(embedding)  # (B, C)
        pooled = self.projector_unclip2(embedding.new_zeros(embedding.shape[0], self.dims.pooled_in))  # (B, P)
        return context.unsqueeze(1), pooled
