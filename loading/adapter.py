"""unCLIP adapter files -> `UnclipProjector`: ours, or the published tensors wherever they lie."""

from pathlib import Path

import torch
from torch import Tensor

from ..models.adapter import UnclipDims, UnclipProjector
from .files import build_dims, file_error, read_network_file
from .strict import load_strict

PROJECTOR_ROOTS = ("projector_unclip.", "projector_unclip2.")


def load_adapter(path: str | Path, operations=torch.nn, device="cpu", dtype: torch.dtype | None = None) -> UnclipProjector:
    """The adapter of a file that holds `projector_unclip*`, alone or beside a UNet's tensors (those are passed over).

    The sizes come from the file's metadata, or from the shapes where it has none. float32 unless `dtype` says otherwise.
    """
    file = read_network_file(path, "adapter")
    tensors = projector_tensors(file.state_dict)
    dims = build_dims(UnclipDims, file.dims, path) if file.dims else unclip_dims(tensors, path)
    network = UnclipProjector(dims, operations)
    load_strict(network, tensors, source=path)
    return network.to(device=device, dtype=dtype or torch.float32).eval().requires_grad_(False)


def projector_tensors(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The projector's tensors of a state dict under their bare names; a wrapper's prefix ("module.", "unet.") is dropped."""
    found = {}
    for key, value in state_dict.items():
        for root in PROJECTOR_ROOTS:
            prefix, mark, rest = key.partition(root)
            if mark and (not prefix or prefix.endswith(".")):
                found[root + rest] = value
    return found


def unclip_dims(tensors: dict[str, Tensor], path: str | Path) -> UnclipDims:
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
        raise file_error(path, f"lacks {error.args[0]}.", "It is cut short, or of another release: download it again.") from error
