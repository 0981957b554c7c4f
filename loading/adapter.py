"""Adapter files -> `UnclipProjector` or `TwoViewAdapter`: ours, or the published tensors wherever they lie."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..models.adapter import UnclipDims, UnclipProjector
from ..models.two_view import TwoViewAdapter, TwoViewDims
from .files import build_dims, open_network, require_kind
from .kinds import KINDS
from .plan import Plan
from .shards import WeightFolder
from .sizes import shapes_of

Adapter = UnclipProjector | TwoViewAdapter

PROJECTOR_ROOTS = ("projector_unclip.", "projector_unclip2.")
UNET_STEM = "diffusion_pytorch_model"
UNET_WEIGHTS = (
    f"{UNET_STEM}.safetensors.index.json", f"{UNET_STEM}.safetensors", f"{UNET_STEM}.safetensors.index.fp16.json",
    f"{UNET_STEM}.fp16.safetensors", f"{UNET_STEM}.bin.index.json", f"{UNET_STEM}.bin",
)  # fmt: skip
ADAPTER_KINDS = ("two_view", "adapter", "unet")
REMEDY = "It is cut short, or of another release: download it again."


def load_adapter(path: str | Path, operations=torch.nn, device="cpu", dtype: torch.dtype | None = None) -> Adapter:
    """The adapter of a file, or of a diffusers UNet's folder: an unCLIP projector, alone or beside a UNet's tensors
    (those are passed over), or a two-view IP-Adapter.

    The sizes come from the file's metadata, or from the shapes where it has none. ``dtype`` None: the unCLIP projector,
    which is small, comes in float32, a two-view adapter (349 million parameters as published) as its file keeps it.
    """
    plan = plan_adapter(path)
    if plan.kind == "two_view":
        dims, network_class = build_dims(TwoViewDims, plan.dims, path), TwoViewAdapter
    else:
        dims, network_class = build_dims(UnclipDims, plan.dims, path), UnclipProjector
        dtype = dtype or torch.float32
    network = plan.build(lambda: network_class(dims, operations))
    plan.fill(network, dtype)
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def plan_adapter(path: str | Path) -> Plan:
    """A two-view IP-Adapter, or unCLIP projectors: of their own file, or out of that of a UNet, where the first release
    keeps them."""
    path = Path(path)
    if path.is_dir():
        weights = WeightFolder(path, UNET_WEIGHTS, KINDS["adapter"].source)
        kind = require_kind(path, ADAPTER_KINDS, weights.layout, weights.metadata)
        plan = Plan(kind, weights, {name: name for name in weights.layout}, {})
    else:
        plan = open_network(path, ADAPTER_KINDS)
    if plan.kind == "two_view":
        return plan if plan.dims else replace(plan, dims=two_view_dims(plan.layout, path).to_dict())
    return plan_projectors(plan)


def plan_projectors(plan: Plan) -> Plan:
    """Of a plan's tensors only the projectors', under their bare names; a wrapper's prefix ("module.", "unet.") is
    dropped."""
    names = {}
    for key, name in plan.names.items():
        for root in PROJECTOR_ROOTS:
            prefix, mark, rest = key.partition(root)
            if mark and (not prefix or prefix.endswith(".")):
                names[root + rest] = name
    dims = plan.dims if plan.kind == "adapter" else {}  # a UNet's dims are the UNet's
    plan = replace(plan, kind="adapter", names=names, metadata={})
    return replace(plan, dims=dims or unclip_dims(plan.layout, plan.weights.path).to_dict())


def unclip_dims(tensors: Mapping[str, Tensor], path: str | Path) -> UnclipDims:
    """The sizes that the shapes of the published tensors imply."""
    with shapes_of(path, REMEDY):
        hidden, embed = tensors["projector_unclip.0.weight"].shape
        return UnclipDims(
            embed=embed,
            hidden=hidden,
            context=tensors["projector_unclip.2.weight"].shape[0],
            pooled=tensors["projector_unclip2.2.weight"].shape[0],
            pooled_in=tensors["projector_unclip2.0.weight"].shape[1],
        )


def two_view_dims(tensors: Mapping[str, Tensor], path: str | Path) -> TwoViewDims:
    """The sizes that the shapes of the published tensors imply."""
    widths = {}
    with shapes_of(path, REMEDY):
        for key, value in tensors.items():
            root, _, rest = key.partition(".")
            number, _, name = rest.partition(".")
            if root == "ip_adapter" and name == "to_k_ip.weight" and number.isdecimal():
                widths[int(number)] = value.shape[0]
        context = tensors["image_proj.raw_embed"].shape[1]
        out, embed = tensors["image_proj.proj.weight"].shape
        return TwoViewDims(embed, context, tuple(widths[number] for number in sorted(widths)), tokens=out // context)
