"""What the UNets of the goldens share: their configurations and their inputs."""

from torch import Tensor

from . import seeded

SEED = 24
TIMESTEP = 601
SIDE = 8  # of the latents; a picture of 64 x 64
TEXT_TOKENS = 77
SIZES = {
    "small": dict(
        widths=(64, 96, 96), transformers=(0, 1, 1), resnets=1, head_width=16, context=48, pooled=32, sample_size=8
    ),
    # the real widths, heads and context of SDXL, fewer layers
    "wide": dict(
        widths=(320, 640, 1280),
        transformers=(0, 1, 1),
        resnets=1,
        head_width=64,
        context=2048,
        pooled=1280,
        sample_size=8,
    ),
}
EMBED = {"small": 64, "wide": 1024}


def config(size: str) -> dict:
    """config.json of an SDXL-shaped diffusers UNet of this size."""
    shape = SIZES[size]
    attention = [count > 0 for count in shape["transformers"]]
    return {
        "sample_size": shape["sample_size"],
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": shape["widths"],
        "down_block_types": tuple("CrossAttnDownBlock2D" if there else "DownBlock2D" for there in attention),
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": tuple("CrossAttnUpBlock2D" if there else "UpBlock2D" for there in attention[::-1]),
        "layers_per_block": shape["resnets"],
        "transformer_layers_per_block": tuple(max(1, count) for count in shape["transformers"]),
        "attention_head_dim": tuple(width // shape["head_width"] for width in shape["widths"]),
        "cross_attention_dim": shape["context"],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": shape["pooled"] + 6 * 256,
    }


def inputs(size: str) -> dict[str, Tensor]:
    """latents (1, 4, 8, 8) in VP scale, text (1, 77, C), pooled (1, P); H (1, D) of length 20: whole and local."""
    shape = {
        "latents": (1, 4, SIDE, SIDE),
        "text": (1, TEXT_TOKENS, SIZES[size]["context"]),
        "pooled": (1, SIZES[size]["pooled"]),
        "whole": (1, EMBED[size]),
        "local": (1, EMBED[size]),
    }
    found = {name: seeded.draw(f"unet input {name}", dims, SEED) for name, dims in shape.items()}
    return {name: 20 * x / x.norm() if name in ("whole", "local") else x for name, x in found.items()}


def time_ids() -> Tensor:
    """(1, 6): an uncropped picture of 8 times SIDE."""
    pixels = 8.0 * SIDE
    return Tensor([[pixels, pixels, 0, 0, pixels, pixels]])


def added(pooled: Tensor) -> dict[str, Tensor]:
    return {"text_embeds": pooled, "time_ids": time_ids()}
