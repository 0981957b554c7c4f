"""Adapter files -> `UnclipProjector` or `TwoViewAdapter`: ours, or the published tensors wherever they lie."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..models.adapter import UnclipDims, UnclipProjector
from ..models.two_view import TwoViewAdapter, TwoViewDims
from .files import NetworkFile, build_dims, file_error, read_network_file
from .kinds import KINDS
from .strict import EmptyWeights, load_strict

Adapter = UnclipProjector | TwoViewAdapter

PROJECTOR_ROOTS = ("projector_unclip.", "projector_unclip2.")
UNET_FILES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
ADAPTER_KINDS = ("two_view", "adapter", "unet")
REMEDY = "It is cut short, or of another release: download it again."


def load_adapter(path: str | Path, operations=torch.nn, device="cpu", dtype: torch.dtype | None = None) -> Adapter:
    """The adapter of a file, or of a diffusers UNet's folder: an unCLIP projector, alone or beside a UNet's tensors (those are
    passed over), or a two-view IP-Adapter.

    The sizes come from the file's metadata, or from the shapes where it has none. ``dtype`` None: the unCLIP projector, which
    is small, comes in float32, a two-view adapter (349 million parameters as published) as its file keeps it.
    """
    path = _weights_of(Path(path))
    file = _read(path)
    if file.kind == "two_view":
        network = _build_two_view(file, operations, path)
    else:
        network, dtype = _build_unclip(file, operations, path), dtype or torch.float32
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def projector_tensors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The projector's tensors of a state dict under their bare names; a wrapper's prefix ("module.", "unet.") is dropped."""
    found = {}
    for key, value in state_dict.items():
        for root in PROJECTOR_ROOTS:
            prefix, mark, rest = key.partition(root)
            if mark and (not prefix or prefix.endswith(".")):
                found[root + rest] = value
    return found


def unclip_dims(tensors: Mapping[str, Tensor], path: str | Path) -> UnclipDims:
    """The sizes that the shapes of the published tensors imply."""
    try:
        hidden, embed = tensors["projector_unclip.0.weight"].shape
        return UnclipDims(
            embed=embed,
            hidden=hidden,
            context=tensors["projector_unclip.2.weight"].shape[0],
            pooled=tensors["projector_unclip2.2.weight"].shape[0],
            pooled_in=tensors["projector_unclip2.0.weight"].shape[1],
        )
    except KeyError as error:
        raise file_error(path, f"lacks {error.args[0]}.", REMEDY) from error


def two_view_dims(tensors: Mapping[str, Tensor], path: str | Path) -> TwoViewDims:
    """The sizes that the shapes of the published tensors imply."""
    widths = {}
    for key, value in tensors.items():
        root, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        if root == "ip_adapter" and name == "to_k_ip.weight" and number.isdigit():
            widths[int(number)] = value.shape[0]
    try:
        context = tensors["image_proj.raw_embed"].shape[1]
        out, embed = tensors["image_proj.proj.weight"].shape
    except KeyError as error:
        raise file_error(path, f"lacks {error.args[0]}.", REMEDY) from error
    return TwoViewDims(embed, context, tuple(widths[number] for number in sorted(widths)), tokens=out // context)


def _weights_of(path: Path) -> Path:
    """The weight file of a diffusers UNet's folder; any other path as it is."""
    if not path.is_dir():
        return path
    for name in UNET_FILES:
        if (path / name).is_file():
            return path / name
    raise file_error(path, "holds no weights.", f"A UNet's folder holds {UNET_FILES[0]}. {KINDS['adapter'].source}")


def _read(path: Path) -> NetworkFile:
    """The file, as whichever adapter it is. Of a UNet's file, where the first release keeps its projector, only that is read."""
    kind = read_network_file(path, ADAPTER_KINDS, keep=lambda key: False).kind
    if kind == "two_view":
        return read_network_file(path, kind)
    return read_network_file(path, kind, keep=lambda key: any(root in key for root in PROJECTOR_ROOTS))


def _build_unclip(file: NetworkFile, operations, path: Path) -> UnclipProjector:
    tensors = projector_tensors(file.state_dict)
    ours = file.kind == "adapter" and file.dims  # a UNet's dims are the UNet's
    dims = build_dims(UnclipDims, file.dims, path) if ours else unclip_dims(tensors, path)
    network = UnclipProjector(dims, operations)
    load_strict(network, tensors, source=path)
    return network


def _build_two_view(file: NetworkFile, operations, path: Path) -> TwoViewAdapter:
    dims = build_dims(TwoViewDims, file.dims, path) if file.dims else two_view_dims(file.state_dict, path)
    with EmptyWeights():
        network = TwoViewAdapter(dims, operations)
    load_strict(network, file.state_dict, source=path)
    return network
