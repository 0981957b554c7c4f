"""The weights of diffusers' UNet2DConditionModel as Stable Diffusion and SDXL build it, by name and shape alone.

A file is checked against this before it is read, so that the nodes do without diffusers, whose network only training
and evaluation run.
"""

from typing import Any

from torch import nn

# What ComfyUI's UNet assumes; a UNet with other values in its config is another network.
FIXED = {
    "act_fn": "silu", "attention_type": "default", "center_input_sample": False, "class_embed_type": None,
    "class_embeddings_concat": False, "conv_in_kernel": 3, "conv_out_kernel": 3, "cross_attention_norm": None,
    "downsample_padding": 1, "dual_cross_attention": False, "encoder_hid_dim": None, "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True, "freq_shift": 0, "mid_block_only_cross_attention": None, "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-5, "norm_num_groups": 32, "num_class_embeds": None,
    "only_cross_attention": False, "resnet_out_scale_factor": 1, "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default", "reverse_transformer_layers_per_block": None, "time_cond_proj_dim": None,
    "time_embedding_act_fn": None, "time_embedding_dim": None, "time_embedding_type": "positional",
    "timestep_post_act": None,
}  # fmt: skip
BLOCKS = {"DownBlock2D": False, "CrossAttnDownBlock2D": True, "UpBlock2D": False, "CrossAttnUpBlock2D": True}


def is_usual(config: dict[str, Any]) -> bool:
    """Whether the UNet of a config.json is of the build that is laid out here, and that ComfyUI can compute."""
    blocks = (*config["down_block_types"], *config.get("up_block_types", ()))
    return (
        all(config.get(name, value) == value for name, value in FIXED.items())
        and all(kind in BLOCKS for kind in blocks)
        and config.get("addition_embed_type") in (None, "text_time")
        and isinstance(config["cross_attention_dim"], int)
    )


class UNetLayout(nn.Module):
    """Has the state dict of ``UNet2DConditionModel.from_config(config)`` and no forward. For a config that
    ``is_usual``."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        widths = list(config["block_out_channels"])
        levels, first = len(widths), widths[0]
        self.config, self.time_width = config, 4 * first
        resnets = _per_level(config.get("layers_per_block", 2), levels)
        depths = _per_level(config.get("transformer_layers_per_block", 1), levels)
        down = [BLOCKS[kind] for kind in config["down_block_types"]]
        up = [BLOCKS[kind] for kind in config.get("up_block_types", ())] or down[::-1]
        self.conv_in = nn.Conv2d(config["in_channels"], first, 3)
        self.time_embedding = self._embedding(first)
        if config.get("addition_embed_type") == "text_time":
            self.add_embedding = self._embedding(config["projection_class_embeddings_input_dim"])
        skips = [first]  # widths of what the way up is handed, the last first
        self.down_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            inputs = [skips[-1], *[width] * (resnets[level] - 1)]
            last = level == levels - 1
            sampler = {} if last else {"downsamplers": nn.ModuleList([_convolution(width)])}
            self.down_blocks.append(self._block(inputs, width, depths[level] if down[level] else 0, sampler))
            skips += [width] * (len(inputs) + (not last))
        self.mid_block = self._block([widths[-1]] * 2, widths[-1], depths[-1], {}, attentions=1)
        self.up_blocks = nn.ModuleList()
        before = widths[-1]
        for level, attends in zip(reversed(range(levels)), up, strict=True):
            width, inputs = widths[level], []
            for _ in range(resnets[level] + 1):
                inputs.append(before + skips.pop())
                before = width
            sampler = {"upsamplers": nn.ModuleList([_convolution(width)])} if level else {}
            self.up_blocks.append(self._block(inputs, width, depths[level] if attends else 0, sampler))
        self.conv_norm_out = nn.GroupNorm(FIXED["norm_num_groups"], first)
        self.conv_out = nn.Conv2d(first, config["out_channels"], 3)

    def _embedding(self, inputs: int) -> nn.ModuleDict:
        time = self.time_width
        return nn.ModuleDict({"linear_1": nn.Linear(inputs, time), "linear_2": nn.Linear(time, time)})

    def _block(
        self, inputs: list[int], width: int, depth: int, sampler: dict[str, nn.Module], attentions: int | None = None
    ) -> nn.ModuleDict:
        """A resnet for each width that comes in, and where ``depth`` is not 0 as many transformers, or
        ``attentions``."""
        parts = {"resnets": nn.ModuleList([self._resnet(given, width) for given in inputs])}
        if depth:
            count = len(inputs) if attentions is None else attentions
            parts["attentions"] = nn.ModuleList([self._transformer(width, depth) for _ in range(count)])
        return nn.ModuleDict({**parts, **sampler})

    def _resnet(self, inputs: int, width: int) -> nn.ModuleDict:
        groups = FIXED["norm_num_groups"]
        parts = {
            "norm1": nn.GroupNorm(groups, inputs),
            "conv1": nn.Conv2d(inputs, width, 3),
            "time_emb_proj": nn.Linear(self.time_width, width),
            "norm2": nn.GroupNorm(groups, width),
            "conv2": nn.Conv2d(width, width, 3),
        }
        if inputs != width:
            parts["conv_shortcut"] = nn.Conv2d(inputs, width, 1)
        return nn.ModuleDict(parts)

    def _transformer(self, width: int, depth: int) -> nn.ModuleDict:
        linear = self.config.get("use_linear_projection", False)
        make = nn.Linear if linear else lambda *sizes: nn.Conv2d(*sizes, 1)
        blocks = [_transformer_block(width, self.config["cross_attention_dim"]) for _ in range(depth)]
        return nn.ModuleDict(
            {
                "norm": nn.GroupNorm(FIXED["norm_num_groups"], width),
                "proj_in": make(width, width),
                "transformer_blocks": nn.ModuleList(blocks),
                "proj_out": make(width, width),
            }
        )


def _transformer_block(width: int, context: int) -> nn.ModuleDict:
    gated = nn.ModuleDict({"proj": nn.Linear(width, 8 * width)})
    feed = {"net": nn.ModuleList([gated, nn.Identity(), nn.Linear(4 * width, width)])}
    norms = {f"norm{number}": nn.LayerNorm(width) for number in (1, 2, 3)}
    return nn.ModuleDict(
        {**norms, "attn1": _attention(width, width), "attn2": _attention(width, context), "ff": nn.ModuleDict(feed)}
    )


def _attention(width: int, context: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "to_q": nn.Linear(width, width, bias=False),
            "to_k": nn.Linear(context, width, bias=False),
            "to_v": nn.Linear(context, width, bias=False),
            "to_out": nn.ModuleList([nn.Linear(width, width)]),
        }
    )


def _convolution(width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"conv": nn.Conv2d(width, width, 3)})


def _per_level(value: Any, levels: int) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * levels
