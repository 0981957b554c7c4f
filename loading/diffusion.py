"""Diffusers-format SDXL UNets: a file of ours with its config inside, or a folder with config.json as diffusers writes
it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..models.backbone import MINIATURE, SD1, SDXL, Backbone
from ..models.diffusion import EmbeddingDiffusion
from .adapter import PROJECTOR_ROOTS, UNET_WEIGHTS, load_adapter
from .files import file_error, open_network, require_kind
from .kinds import KINDS
from .plan import Plan, Progress
from .reader import read_json
from .shards import WeightFolder
from .strict import check_fit, load_strict
from .unet_layout import UNetLayout, is_usual

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

CONFIG_NAME = "config.json"
SDXL_CONTEXT = 2048  # channels of both text encoders
SIZES = ("block_out_channels", "down_block_types", "in_channels", "out_channels", "cross_attention_dim")


def load_unet(
    path: str | Path, dtype: torch.dtype | None = None, progress: Progress | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(state dict, keyword arguments of `UNet2DConditionModel`) of a file of ours or of a diffusers folder.

    The projectors that the first release keeps in the UNet's own file are left aside; `load_adapter` reads them there.
    ``dtype`` of the weights; None: as they are stored, and then mapped from the disk.
    """
    return read_unet(plan_unet(path), dtype, progress)


def read_unet(
    plan: Plan, dtype: torch.dtype | None = None, progress: Progress | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As ``load_unet``, of what ``plan_unet`` found."""
    check_unet(plan)
    return _without_projectors(plan).read(dtype, progress), dict(plan.dims)


def plan_unet(path: str | Path, kinds: tuple[str, ...] = ("unet",)) -> Plan:
    """Everything in a UNet's file or folder, projectors included; `dims` is its config.

    ``kinds``: what the file may say it is, what is wanted first; a folder of diffusers' is a "unet".
    """
    path, source = Path(path), KINDS[kinds[0]].source
    if path.is_dir():
        config, weights = path / CONFIG_NAME, WeightFolder(path, UNET_WEIGHTS, source)
        require_kind(path, kinds, weights.layout, weights.metadata)
        plan = Plan("unet", weights, {name: name for name in weights.layout}, {})
    else:
        config, plan = path.with_name(CONFIG_NAME), open_network(path, kinds)
    if not plan.dims:
        remedy = f"A UNet in diffusers format comes with its {CONFIG_NAME}: put both in one folder. {source}"
        fields = read_json(config, remedy)
        plan = replace(plan, dims={key: value for key, value in fields.items() if not key.startswith("_")})
    if lacking := [name for name in SIZES if plan.dims.get(name) is None]:
        raise file_error(
            config, f"lacks {', '.join(lacking)}.", f"Use the {CONFIG_NAME} it was published with. {source}"
        )
    return plan


def build_unet(state_dict: dict[str, Tensor], config: dict, source: str | Path = "the UNet") -> UNet2DConditionModel:
    """The diffusers network with these weights, every key and shape checked. Needs diffusers, which the nodes do
    not."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_config(config)
    load_strict(unet, state_dict, source=source)
    return unet.eval().requires_grad_(False)


def backbone_of(config: Mapping[str, Any]) -> Backbone:
    """The family of a UNet by its config. All have the schedule of Stable Diffusion and predict the noise."""
    if config.get("addition_embed_type") != "text_time":
        return SD1
    return SDXL if config["cross_attention_dim"] == SDXL_CONTEXT else MINIATURE


def load_embedding_diffusion(
    unet: str | Path, adapter: str | Path, device="cpu", dtype=torch.float32
) -> EmbeddingDiffusion:
    """UNet and unCLIP projector together, outside ComfyUI (training, evaluation)."""
    built = build_unet(*load_unet(unet), source=unet)
    network = EmbeddingDiffusion(built, load_adapter(adapter), backbone_of(built.config))
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def check_unet(plan: Plan) -> None:
    """Keys, shapes and types against the network that the config describes, before anything is read.

    A build that is not usual is left to whoever builds the network: the nodes name what they cannot compute, training
    checks against diffusers.
    """
    config = dict(plan.dims)
    if plan.build(lambda: is_usual(config)):
        check_fit(plan.build(lambda: UNetLayout(config)), _without_projectors(plan).layout, plan.weights.path)


def _without_projectors(plan: Plan) -> Plan:
    return plan.without([key for key in plan.names if key.startswith(PROJECTOR_ROOTS)])
