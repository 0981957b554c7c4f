"""A convolutional VAE; as the miniature has it, in the latent space of SDXL (Rombach et al., arXiv 2112.10752)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import MINIATURE, Latent

GROUPS = 32
NORM_EPS = 1e-6
LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class AutoencoderDims:
    """`patch` pixels a side are folded into channels first; every later entry of `widths` halves the side once more.
    `scale`: that of the latents, see ``Latent``."""

    widths: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    patch: int = 1
    channels: int = 3
    latent: int = 4
    scale: float = MINIATURE.latent.scale

    def __post_init__(self):
        object.__setattr__(self, "widths", tuple(self.widths))
        odd = [w for w in self.widths if w % GROUPS]
        if odd:
            raise ValueError(f"autoencoder widths must be multiples of {GROUPS}, got {odd}.")

    @property
    def downscale(self) -> int:
        return self.patch * 2 ** (len(self.widths) - 1)


class ResBlock(nn.Module):
    def __init__(self, width_in: int, width: int, operations=nn):
        super().__init__()
        self.norm1 = operations.GroupNorm(GROUPS, width_in, eps=NORM_EPS)
        self.conv1 = operations.Conv2d(width_in, width, 3, padding=1)
        self.norm2 = operations.GroupNorm(GROUPS, width, eps=NORM_EPS)
        self.conv2 = operations.Conv2d(width, width, 3, padding=1)
        self.skip = operations.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class SelfAttention(nn.Module):
    """One head over all places, at the lowest resolution."""

    def __init__(self, width: int, operations=nn):
        super().__init__()
        self.norm = operations.GroupNorm(GROUPS, width, eps=NORM_EPS)
        self.qkv = operations.Conv2d(width, 3 * width, 1)
        self.out = operations.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)  # (B, HW, C) each
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(b, c, h, w))


class Encoder(nn.Module):
    def __init__(self, dims: AutoencoderDims, operations=nn):
        super().__init__()
        widths = dims.widths
        self.stem = operations.Conv2d(dims.channels * dims.patch**2, widths[0], 3, padding=1)
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            layers += [ResBlock(width, width, operations) for _ in range(dims.blocks)]
            if i + 1 < len(widths):
                layers.append(operations.Conv2d(width, widths[i + 1], 3, stride=2, padding=1))
        layers += [SelfAttention(widths[-1], operations), ResBlock(widths[-1], widths[-1], operations)]
        self.body = nn.Sequential(*layers)
        self.norm = operations.GroupNorm(GROUPS, widths[-1], eps=NORM_EPS)
        self.head = operations.Conv2d(widths[-1], 2 * dims.latent, 3, padding=1)
        self.patch = dims.patch

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(self.stem(F.pixel_unshuffle(x, self.patch)))
        return self.head(F.silu(self.norm(h)))


class Upsample(nn.Module):
    def __init__(self, width_in: int, width: int, operations=nn):
        super().__init__()
        self.conv = operations.Conv2d(width_in, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Decoder(nn.Module):
    def __init__(self, dims: AutoencoderDims, operations=nn):
        super().__init__()
        widths = dims.widths[::-1]
        self.stem = operations.Conv2d(dims.latent, widths[0], 3, padding=1)
        layers: list[nn.Module] = [ResBlock(widths[0], widths[0], operations), SelfAttention(widths[0], operations)]
        for i, width in enumerate(widths):
            layers += [ResBlock(width, width, operations) for _ in range(dims.blocks)]
            if i + 1 < len(widths):
                layers.append(Upsample(width, widths[i + 1], operations))
        self.body = nn.Sequential(*layers)
        self.norm = operations.GroupNorm(GROUPS, widths[-1], eps=NORM_EPS)
        self.head = operations.Conv2d(widths[-1], dims.channels * dims.patch**2, 3, padding=1)
        self.patch = dims.patch

    def forward(self, z: Tensor) -> Tensor:
        h = self.body(self.stem(z))
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)


class Autoencoder(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] <-> latents (B, c, h, w) of standard deviation 1 / dims.scale.

    Inside, the networks work on unit-variance latents; `latent_shift` and `latent_gain` (one number a channel, set
    from the training set once the encoder is frozen) map those to that scale.
    """

    def __init__(self, dims: AutoencoderDims, operations=nn):
        super().__init__()
        self.dims = dims
        self.encoder = Encoder(dims, operations)
        self.decoder = Decoder(dims, operations)
        self.register_buffer("latent_shift", torch.zeros(dims.latent))
        self.register_buffer("latent_gain", torch.ones(dims.latent))

    @property
    def latent(self) -> Latent:
        """What it encodes pictures into."""
        return Latent(self.dims.latent, self.dims.scale, self.dims.downscale)

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1], H and W multiples of the step -> mean and log variance, each (B, c, h, w)."""
        step = self.latent.step
        if pictures.shape[-1] % step or pictures.shape[-2] % step:
            raise ValueError(f"picture sides must be multiples of {step}, got {tuple(pictures.shape[-2:])}.")
        mean, logvar = self.encoder(pictures).chunk(2, dim=1)
        gain, shift = self._per_channel(mean)
        scale = self.dims.scale
        return (mean - shift) * gain / scale, logvar.clamp(*LOGVAR_RANGE) + 2 * (gain.abs() / scale).log()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) -> pictures (B, 3, H, W), about [-1, 1] (not clamped)."""
        gain, shift = self._per_channel(latents)
        return self.decoder(latents * self.dims.scale / gain + shift)

    def _per_channel(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self.latent_gain.to(like).view(1, -1, 1, 1), self.latent_shift.to(like).view(1, -1, 1, 1)

    def training_loss(self, pictures: Tensor, weight: Tensor, noise: Tensor, kl_weight: float) -> dict[str, Tensor]:
        """Weighted L1 on the picture, on its edges and on its half-size copy, plus KL to the standard normal.

        `pictures` (B, 3, H, W) in [-1, 1]; `weight` (B, 1, H, W), 1 where nothing is special; `noise` standard normal
        in the shape of the latents.
        """
        mean, logvar = self.encoder(pictures).chunk(2, dim=1)
        logvar = logvar.clamp(*LOGVAR_RANGE)
        decoded = self.decoder(mean + (0.5 * logvar).exp() * noise)
        losses = reconstruction_losses(decoded, pictures, weight)
        losses["kl"] = 0.5 * (mean.float() ** 2 + logvar.float().exp() - 1 - logvar.float()).mean()
        losses["loss"] = losses["loss"] + kl_weight * losses["kl"]
        return losses


def reconstruction_losses(decoded: Tensor, pictures: Tensor, weight: Tensor) -> dict[str, Tensor]:
    error = (decoded.float() - pictures) * weight
    half = F.avg_pool2d(error, 2)
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    losses = {"l1": error.abs().mean(), "l2": error.square().mean(), "edges": edges, "half": half.abs().mean()}
    losses["loss"] = losses["l1"] + 2.0 * losses["l2"] + 0.5 * losses["edges"] + 0.5 * losses["half"]
    return losses
