"""The layout that files are checked against is diffusers' own, name by name and shape by shape."""

import pytest
from any2pix.loading.strict import EmptyWeights
from any2pix.loading.unet_layout import FIXED, UNetLayout, is_usual
from any2pix.models.diffusion import DiffusionDims
from diffusers import UNet2DConditionModel

SDXL = DiffusionDims().unet_config()
SD1 = {
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SMALL = {"resnets": 1, "head_width": 16, "context": 48, "pooled": 32}
CONFIGS = {
    "SDXL": SDXL,
    "SD 1.5": SD1,
    "SD 2": {**SD1, "use_linear_projection": True, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20)},
    "no name for the way up": {key: value for key, value in SD1.items() if key != "up_block_types"},
    "resnets a level": {**SD1, "layers_per_block": [1, 2, 3, 1]},
    "transformers at every level": {**SDXL, "transformer_layers_per_block": (1, 2, 3)},
    "one resnet": {**SDXL, "layers_per_block": 1},
    "miniature": DiffusionDims(widths=(64, 96, 96), transformers=(0, 1, 1), **SMALL).unet_config(),
    "one level": DiffusionDims(widths=(64,), transformers=(1,), **SMALL).unet_config(),
}


def shapes(make):
    with EmptyWeights():
        return {key: tuple(value.shape) for key, value in make().state_dict().items()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_layout_is_diffusers(config):
    assert is_usual(config)
    assert shapes(lambda: UNetLayout(config)) == shapes(lambda: UNet2DConditionModel.from_config(config))


def test_what_diffusers_writes_of_a_usual_network_is_usual():
    with EmptyWeights():
        written = dict(UNet2DConditionModel.from_config(SD1).config)
    assert is_usual(written)
    assert {name: written[name] for name in FIXED} == FIXED


@pytest.mark.parametrize(
    "change",
    [
        {"conv_in_kernel": 5},
        {"down_block_types": ("AttnDownBlock2D",) * 4},
        {"addition_embed_type": "text"},
        {"cross_attention_dim": (768, 768, 1024, 1024)},
        {"norm_num_groups": 16},
    ],
)
def test_another_build_is_not_checked_against_this_one(change):
    assert not is_usual({**SD1, **change})
