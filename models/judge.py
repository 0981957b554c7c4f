"""A small classifier of pictures with one head for each attribute, such as the weather or the style.

It is trained apart from every other network, so that no embedding that it grades is one that it was trained on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class JudgeDims:
    """`heads`: (attribute, its labels in the order of the logits); `widths`: channels of each halving stage."""

    heads: tuple[tuple[str, tuple[str, ...]], ...]
    widths: tuple[int, ...] = (16, 32, 64, 96)
    groups: int = 8

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> JudgeDims:
        """Undoes JSON, which turns tuples into lists."""
        heads = tuple((name, tuple(labels)) for name, labels in values["heads"])
        return replace(
            cls(heads=heads), **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k != "heads"}
        )


class ResidualBlock(nn.Module):
    def __init__(self, width: int, groups: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(groups, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(groups, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.layers(x))


class Judge(nn.Module):
    """(B, 3, 128, 128) in [0, 1] -> logits per attribute, {name: (B, number of labels)}."""

    def __init__(self, dims: JudgeDims):
        super().__init__()
        self.dims = dims
        stem, *deeper = dims.widths
        layers: list[nn.Module] = [
            nn.Conv2d(3, stem, 5, stride=2, padding=2),
            nn.GroupNorm(dims.groups, stem),
            nn.GELU(),
        ]
        before = stem
        for width in deeper:
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1),
                nn.GroupNorm(dims.groups, width),
                nn.GELU(),
                ResidualBlock(width, dims.groups),
            ]
            before = width
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * before, len(labels)) for name, labels in dims.heads})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        maps = self.trunk(pictures * 2 - 1)  # (B, W, 8, 8)
        # The mean sees weather and style, which are everywhere; the maximum sees a subject, which is somewhere.
        pooled = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)  # (B, 2W)
        return {name: head(pooled) for name, head in self.heads.items()}

    def training_loss(self, pictures: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] and (B, number of heads) int -> mean cross entropy, and the share of right answers."""
        logits = self(pictures)
        targets = labels.unbind(dim=1)
        losses = [
            F.cross_entropy(logits[name], t, label_smoothing=0.02)
            for (name, _), t in zip(self.dims.heads, targets, strict=True)
        ]
        right = {
            name: (logits[name].argmax(1) == t).float().mean()
            for (name, _), t in zip(self.dims.heads, targets, strict=True)
        }
        return {"loss": torch.stack(losses).mean(), **right}
