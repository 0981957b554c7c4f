"""ComfyUI's layers as our networks are built from them: whole, on every host."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.ops
from torch import Tensor, nn


def _whole(layer: type[nn.Module]) -> type[nn.Module]:
    """The layer with torch's own way to take a state dict.

    With dynamic VRAM comfy.ops builds layers without weights and lets them take whatever a file holds, of any shape and
    type: a strict check then has nothing to check against. It leaves layers alone that bring a loader of their own.
    Ours come up on the meta device, where a weight costs nothing either.
    """
    load = getattr(nn, layer.__name__, nn.Module)._load_from_state_dict
    return type(layer.__name__, (layer,), {"_load_from_state_dict": load, "__module__": __name__})


def _casting_layers() -> dict[str, type[nn.Module]]:
    found = ((name, getattr(comfy.ops.manual_cast, name)) for name in dir(comfy.ops.manual_cast))
    return {name: _whole(layer) for name, layer in found if isinstance(layer, type) and issubclass(layer, nn.Module)}


class Layers(comfy.ops.manual_cast):
    """comfy's layers that cast and move their weights where they are used, so that a partial load works."""


for _name, _layer in _casting_layers().items():
    setattr(Layers, _name, _layer)


@contextmanager
def cast_weights(layer: nn.Module, x: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """``with cast_weights(layer, x) as (weight, bias):`` both in the type of ``x`` and on its device.

    Afterwards they are given back: with dynamic VRAM a weight that is not stays pinned on the card for good.
    """
    weight, bias, stream = comfy.ops.cast_bias_weight(layer, x, offloadable=True)
    try:
        yield weight, bias
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)
