"""ImageBind: pictures, sounds and words in one embedding space (Girdhar et al. 2023, arXiv 2305.05665).

Our own network with the state-dict layout of the published ``imagebind_huge.pth``, vision, audio and text only.
Every sum is done in the dtype of what comes in; parameters that do not belong to a layer of ``operations`` are cast
where they are used, so that the network may lie in half precision or partly on another device.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRUNK_EPS = 1e-6  # LayerNorms of trunks and heads; the audio stem has torch's 1e-5
MLP_RATIO = 4
AUDIO_SCALE = 20.0  # norm of a published sound embedding, a constant of the checkpoint
TEXT_SCALE_START = 1 / 0.07  # where the learned text scale starts (CLIP)
TEXT_SCALE_MAX = 100.0


@dataclass(frozen=True)
class ImageBindDims:
    """Sizes of an ImageBind.

    Pictures are ``image_size`` square, sounds ``mel_bins`` x ``mel_frames``, texts ``text_context`` tokens.
    """

    embed: int
    vision_width: int
    vision_blocks: int
    vision_heads: int
    audio_width: int
    audio_blocks: int
    audio_heads: int
    text_width: int
    text_blocks: int
    text_heads: int
    image_size: int = 224
    patch: int = 14
    frames: int = 2  # a picture is shown as a film of this many equal frames
    mel_bins: int = 128
    mel_frames: int = 204
    audio_kernel: int = 16
    audio_stride: int = 10
    audio_drop_path: float = 0.1
    text_context: int = 77
    text_vocab: int = 49408

    @classmethod
    def published(cls) -> "ImageBindDims":
        """imagebind_huge."""
        return cls(
            embed=1024,
            vision_width=1280,
            vision_blocks=32,
            vision_heads=16,
            audio_width=768,
            audio_blocks=12,
            audio_heads=12,
            text_width=1024,
            text_blocks=24,
            text_heads=16,
        )

    @classmethod
    def miniature(cls, text_vocab: int = 1024) -> "ImageBindDims":
        """The bundled network for Toyland, 1.4 M parameters."""
        return cls(
            embed=64,
            vision_width=128,
            vision_blocks=4,
            vision_heads=4,
            audio_width=64,
            audio_blocks=3,
            audio_heads=4,
            text_width=64,
            text_blocks=3,
            text_heads=4,
            image_size=128,
            patch=16,
            audio_stride=16,
            audio_drop_path=0.0,
            text_context=40,
            text_vocab=text_vocab,
        )

    @property
    def image_patches(self) -> int:
        return (self.image_size // self.patch) ** 2

    @property
    def audio_patches(self) -> int:
        rows, columns = (
            (size - self.audio_kernel) // self.audio_stride + 1 for size in (self.mel_bins, self.mel_frames)
        )
        return rows * columns

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def contrastive_loss(a: Tensor, b: Tensor, temperature: float | Tensor, targets: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of paired embeddings a, b (B, D), of any norm (ImageBind eq. 1).

    ``targets`` >= 0 says how far a_i and b_j belong together where more than the pair (i, i) does (a and b may then
    differ in number); rows and columns are normalised here, and one without any positive is left out.
    """
    logits = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature
    if targets is None:
        targets = torch.eye(len(a), device=a.device)
    return (_soft_cross_entropy(logits, targets) + _soft_cross_entropy(logits.T, targets.T)) / 2


def _soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    mass = targets.sum(dim=-1, keepdim=True)
    has_positive = (mass > 0).to(logits)
    losses = -(targets / mass.clamp_min(1e-8) * F.log_softmax(logits, dim=-1)).sum(dim=-1, keepdim=True)
    return (losses * has_positive).sum() / has_positive.sum().clamp_min(1)


class ImageBind(nn.Module):
    """``tokenizer`` is set by the loader: a ``tokenizers.Tokenizer`` for ``encode_text``'s tokens."""

    def __init__(self, dims: ImageBindDims, operations: Any = nn) -> None:
        super().__init__()
        self.dims = dims
        self.tokenizer = None
        self.modality_preprocessors = nn.ModuleDict(
            {
                "vision": VisionStem(dims, operations),
                "text": TextStem(dims, operations),
                "audio": AudioStem(dims, operations),
            }
        )
        self.modality_trunks = nn.ModuleDict(
            {
                "vision": Trunk(dims.vision_width, dims.vision_blocks, dims.vision_heads, operations, pre_norm=True),
                "text": Trunk(dims.text_width, dims.text_blocks, dims.text_heads, operations),
                "audio": Trunk(
                    dims.audio_width,
                    dims.audio_blocks,
                    dims.audio_heads,
                    operations,
                    bias_kv=True,
                    drop_path=dims.audio_drop_path,
                ),
            }
        )
        self.modality_heads = nn.ModuleDict(
            {
                "vision": _class_token_head(dims.vision_width, dims.embed, operations),
                "text": nn.ModuleDict(
                    {
                        "proj": nn.Sequential(
                            operations.LayerNorm(dims.text_width, eps=TRUNK_EPS),
                            operations.Linear(dims.text_width, dims.embed, bias=False),
                        )
                    }
                ),
                "audio": _class_token_head(dims.audio_width, dims.embed, operations),
            }
        )
        self.modality_postprocessors = nn.ModuleDict(
            {
                "vision": UnitNorm(),
                "text": nn.Sequential(UnitNorm(), LogitScale(TEXT_SCALE_START, learned=True)),
                "audio": nn.Sequential(UnitNorm(), LogitScale(AUDIO_SCALE, learned=False)),
            }
        )

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S), CLIP-normalised -> (B, D) float32, L2 norm 1."""
        return self.modality_postprocessors["vision"](self.modality_heads["vision"](self._vision_tokens(pixels)))

    def image_patches(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S), CLIP-normalised -> (B, P, W): what the last layer says of each patch, row by row."""
        return self._vision_tokens(pixels)[:, 1:]  # the first is the class token

    def _vision_tokens(self, pixels: Tensor) -> Tensor:
        return self.modality_trunks["vision"](self.modality_preprocessors["vision"](pixels))

    def encode_audio(self, clips: Tensor) -> Tensor:
        """(B, K, 1, mel_bins, mel_frames) -> (B, D) float32: mean over the K clips, each of norm 20 (so at most 20)."""
        tokens = self.modality_trunks["audio"](self.modality_preprocessors["audio"](clips.flatten(0, 1)))
        embeddings = self.modality_postprocessors["audio"](self.modality_heads["audio"](tokens))
        return embeddings.unflatten(0, clips.shape[:2]).mean(dim=1)

    def encode_text(self, tokens: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(B, L) token ids, end-of-text being the highest -> (B, D) float32, norm min(exp(scale), 100).

        L is text_context, or less: nothing after the end of a text reaches it, so padding may be cut.
        ``dtype`` to compute in; None: that of the token table. (Pictures and sounds bring theirs.)
        """
        stem = self.modality_preprocessors["text"]
        hidden = stem(tokens, dtype)
        length = tokens.shape[1]
        hidden = self.modality_trunks["text"](hidden, stem.mask[:length, :length].to(hidden))
        ends = hidden[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]  # (B, W)
        return self.modality_postprocessors["text"](self.modality_heads["text"]["proj"](ends))


class VisionStem(nn.Module):
    """(B, 3, S, S) -> (B, 1 + patches, W): class token and patches, positions added."""

    def __init__(self, dims: ImageBindDims, operations: Any) -> None:
        super().__init__()
        self.frames = dims.frames
        kernel = (dims.frames, dims.patch, dims.patch)
        convolution = operations.Conv3d(3, dims.vision_width, kernel_size=kernel, stride=kernel, bias=False)
        self.rgbt_stem = nn.ModuleDict({"proj": nn.Sequential(nn.Identity(), convolution)})  # index 1, as published
        self.cls_token = _random_parameter(1, 1, dims.vision_width, std=dims.vision_width**-0.5)
        self.pos_embedding_helper = Positions(1 + dims.image_patches, dims.vision_width)

    def forward(self, pixels: Tensor) -> Tensor:
        film = pixels.unsqueeze(2).expand(-1, -1, self.frames, -1, -1)  # (B, 3, frames, S, S)
        patches = self.rgbt_stem["proj"](film).flatten(2).transpose(1, 2)  # (B, patches, W)
        return self.pos_embedding_helper(_with_class_token(self.cls_token, patches))


class AudioStem(nn.Module):
    """(B, 1, mel_bins, mel_frames) -> (B, 1 + patches, W)."""

    def __init__(self, dims: ImageBindDims, operations: Any) -> None:
        super().__init__()
        self.rgbt_stem = nn.ModuleDict(
            {
                "proj": operations.Conv2d(1, dims.audio_width, dims.audio_kernel, stride=dims.audio_stride, bias=False),
                "norm_layer": operations.LayerNorm(dims.audio_width),
            }
        )
        self.cls_token = _random_parameter(1, 1, dims.audio_width, std=dims.audio_width**-0.5)
        self.pos_embedding_helper = Positions(1 + dims.audio_patches, dims.audio_width)

    def forward(self, mel: Tensor) -> Tensor:
        patches = self.rgbt_stem["proj"](mel).flatten(2).transpose(1, 2)
        return self.pos_embedding_helper(_with_class_token(self.cls_token, self.rgbt_stem["norm_layer"](patches)))


class TextStem(nn.Module):
    """(B, L) token ids -> (B, L, W). ``mask`` is the causal mask, additive, a buffer of the published file."""

    def __init__(self, dims: ImageBindDims, operations: Any) -> None:
        super().__init__()
        self.token_embedding = operations.Embedding(dims.text_vocab, dims.text_width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.pos_embed = _random_parameter(1, dims.text_context, dims.text_width, std=0.01)
        future = torch.full((dims.text_context, dims.text_context), float("-inf"), device="cpu").triu(1)
        self.register_buffer("mask", future)

    def forward(self, tokens: Tensor, dtype: torch.dtype | None) -> Tensor:
        embedded = self.token_embedding(tokens)
        embedded = embedded.to(dtype or embedded.dtype)
        return embedded + self.pos_embed[:, : tokens.shape[1]].to(embedded)


class Positions(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.pos_embed = _random_parameter(1, tokens, width, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.pos_embed.to(tokens)


class Trunk(nn.Module):
    """Pre-norm transformer, (B, L, W) -> (B, L, W). Drop path rises from 0 at the first block to its rate."""

    def __init__(
        self,
        width: int,
        blocks: int,
        heads: int,
        operations: Any,
        pre_norm: bool = False,
        bias_kv: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        norm = operations.LayerNorm(width, eps=TRUNK_EPS) if pre_norm else nn.Identity()
        self.pre_transformer_layer = nn.Sequential(norm)
        rates = [drop_path * index / max(blocks - 1, 1) for index in range(blocks)]
        self.blocks = nn.ModuleList(Block(width, heads, operations, bias_kv, rate) for rate in rates)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = self.pre_transformer_layer(tokens)
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens


class Block(nn.Module):
    def __init__(self, width: int, heads: int, operations: Any, bias_kv: bool, drop_path: float) -> None:
        super().__init__()
        self.attn = Attention(width, heads, operations, bias_kv)
        self.norm_1 = operations.LayerNorm(width, eps=TRUNK_EPS)
        self.mlp = nn.ModuleDict(
            {
                "fc1": operations.Linear(width, MLP_RATIO * width),
                "fc2": operations.Linear(MLP_RATIO * width, width),
            }
        )
        self.norm_2 = operations.LayerNorm(width, eps=TRUNK_EPS)
        self.drop_path = drop_path

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        tokens = tokens + self._drop(self.attn(self.norm_1(tokens), mask))
        return tokens + self._drop(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm_2(tokens)))))

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth: whole samples lose the branch while training."""
        if not self.training or self.drop_path == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.drop_path
        return branch * kept.to(branch) / (1 - self.drop_path)


class Attention(nn.Module):
    """Self-attention under the keys of ``torch.nn.MultiheadAttention``, computed through layers of ``operations``.

    ``bias_kv``: one learned key and value that every token can attend to besides the others.
    """

    def __init__(self, width: int, heads: int, operations: Any, bias_kv: bool) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = operations.Linear(width, 3 * width)
        self.out_proj = operations.Linear(width, width)
        self.bias_k = _random_parameter(1, 1, width, std=width**-0.5) if bias_kv else None
        self.bias_v = _random_parameter(1, 1, width, std=width**-0.5) if bias_kv else None
        self.register_state_dict_post_hook(_publish_in_proj)
        self.register_load_state_dict_pre_hook(_adopt_in_proj)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = self.in_proj(tokens).chunk(3, dim=-1)  # each (B, L, W)
        if self.bias_k is not None:
            key = torch.cat([key, self.bias_k.to(key).expand(len(key), -1, -1)], dim=1)
            value = torch.cat([value, self.bias_v.to(value).expand(len(value), -1, -1)], dim=1)
        split = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
        )  # (B, heads, L, W/heads)
        mixed = F.scaled_dot_product_attention(*split, attn_mask=None if mask is None else mask.to(query))
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


def _publish_in_proj(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """``in_proj_weight`` as published; ours is ``in_proj.weight``, a layer that a memory manager can move and cast."""
    for part in ("weight", "bias"):
        state_dict[f"{prefix}in_proj_{part}"] = state_dict.pop(f"{prefix}in_proj.{part}")


def _adopt_in_proj(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for part in ("weight", "bias"):
        if f"{prefix}in_proj_{part}" in state_dict:
            state_dict[f"{prefix}in_proj.{part}"] = state_dict.pop(f"{prefix}in_proj_{part}")


class FirstToken(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


class UnitNorm(nn.Module):
    """In float32: half precision loses the small components."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x.float(), dim=-1)


class LogitScale(nn.Module):
    def __init__(self, start: float, learned: bool) -> None:
        super().__init__()
        value = torch.tensor(math.log(start))
        if learned:
            self.log_logit_scale = nn.Parameter(value)
        else:
            self.register_buffer("log_logit_scale", value)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.log_logit_scale.to(x).exp().clamp(max=TEXT_SCALE_MAX)


def _class_token_head(width: int, embed: int, operations: Any) -> nn.Sequential:
    return nn.Sequential(
        operations.LayerNorm(width, eps=TRUNK_EPS), FirstToken(), operations.Linear(width, embed, bias=False)
    )


def _with_class_token(token: Tensor, patches: Tensor) -> Tensor:
    return torch.cat([token.to(patches).expand(len(patches), -1, -1), patches], dim=1)


def _random_parameter(*shape: int, std: float) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=std))
