"""ImageBind from our safetensors or from the published ``imagebind_huge.pth``."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..models.imagebind import ImageBind, ImageBindDims
from .files import build_dims, file_error, open_network, open_tokenizer, require_tokens
from .kinds import KINDS, count_blocks
from .plan import Plan, Progress
from .sizes import shapes_of

# Modalities of the published file that nothing here uses, and the roots under which their tensors lie.
SKIPPED_MODALITIES = ("depth", "thermal", "imu")
ROOTS = ("modality_preprocessors", "modality_trunks", "modality_heads", "modality_postprocessors")
SKIPPED = tuple(f"{root}.{modality}." for root in ROOTS for modality in SKIPPED_MODALITIES)

TOKENS = "modality_preprocessors.text.token_embedding.weight"
SIZES = (
    "modality_preprocessors.vision.rgbt_stem.proj.1.weight",
    "modality_preprocessors.vision.pos_embedding_helper.pos_embed",
    "modality_preprocessors.audio.rgbt_stem.proj.weight",
    "modality_preprocessors.audio.pos_embedding_helper.pos_embed",
    TOKENS,
    "modality_preprocessors.text.pos_embed",
    "modality_heads.vision.2.weight",
)

NOT_WHOLE = "It is not a complete ImageBind: use imagebind_huge.pth."


def load_imagebind(
    path: str | Path,
    operations: Any = nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> ImageBind:
    """Read an ImageBind, ready to encode.

    ``dtype`` of the weights; None: float32. ``tokenizer``: our files bring their own; the published one does not, so
    give CLIP's (49408 tokens) or do without texts. Depth, thermal and IMU tensors are left aside on purpose.
    """
    plan = plan_imagebind(path)
    dims = build_dims(ImageBindDims, plan.dims, path)
    network = plan.build(lambda: ImageBind(dims, operations))
    plan.fill(network, dtype or torch.float32, progress)
    if plan.tokenizer_json is not None:
        tokenizer = open_tokenizer(plan.tokenizer_json, path, KINDS["imagebind"].source)
    require_tokens(path, tokenizer, dims.text_vocab, exact=True)
    network.tokenizer = tokenizer
    return network.requires_grad_(False).eval().to(device=device, dtype=dtype or torch.float32)


def plan_imagebind(path: str | Path) -> Plan:
    """What of the file goes into the network; the published file's other modalities do not."""
    plan = open_network(path, "imagebind")
    plan = plan.without([key for key in plan.names if key.startswith(SKIPPED)])
    return plan if plan.dims else replace(plan, dims=dims_from_shapes(plan.layout, path).to_dict())


def dims_from_shapes(state_dict: Mapping[str, Tensor], path: str | Path) -> ImageBindDims:
    """Dims of a file without ours in its metadata; head counts and strides leave no trace there: taken as published."""
    if missing := [key for key in SIZES if key not in state_dict]:
        raise file_error(path, f"lacks {', '.join(missing)}.", NOT_WHOLE)
    shapes = {key: tuple(state_dict[key].shape) for key in SIZES}
    with shapes_of(path, NOT_WHOLE):
        (
            (vision_width, _, frames, patch, _),
            (_, vision_tokens, _),
            (audio_width, _, kernel, _),
            _,
            (vocab, text_width),
            (_, context, _),
            (embed, _),
        ) = (shapes[key] for key in SIZES)
        image_size = patch * math.isqrt(vision_tokens - 1)
    published = ImageBindDims.published()
    widths = {"vision": vision_width, "audio": audio_width, "text": text_width}
    for modality, width in widths.items():
        expected = getattr(published, f"{modality}_width")
        if width != expected:
            raise file_error(
                path,
                f"has a {modality} width of {width}, the published ImageBind has {expected}.",
                "Only imagebind_huge can be read without sizes in its metadata.",
            )
    blocks = {
        f"{modality}_blocks": count_blocks(state_dict, f"modality_trunks.{modality}.blocks.") for modality in widths
    }
    return ImageBindDims(
        embed=embed,
        vision_width=vision_width,
        vision_heads=published.vision_heads,
        audio_width=audio_width,
        audio_heads=published.audio_heads,
        text_width=text_width,
        text_heads=published.text_heads,
        image_size=image_size,
        patch=patch,
        frames=frames,
        audio_kernel=kernel,
        text_context=context,
        text_vocab=vocab,
        **blocks,
    )
