"""The ``operations`` seam for networks that Hugging Face builds with ``torch.nn`` itself.

Our own networks take an ``operations`` namespace (``torch.nn`` by default). A host that moves weights layer by layer
hands in its own classes of the same names, which cast and move a layer's weights at the moment of use. Hugging Face's
models have no such argument, so their leaves are exchanged after they are built.
"""

from typing import Any

import torch
from torch import Tensor, nn


def swap_operations(module: nn.Module, operations: Any) -> nn.Module:
    """Exchange, in place, every layer of ``module`` that has a counterpart in ``operations``; returns ``module``.

    Linear, Embedding, LayerNorm, Conv2d, every ``*RMSNorm`` and GPT-2's ``Conv1D``. The parameters are handed over, not
    copied, and the state dict keeps its keys and shapes. With ``torch.nn`` nothing changes.
    """
    if operations is torch.nn:
        return module
    for name, child in module.named_children():
        replacement = _counterpart(child, operations)
        if replacement is None:
            swap_operations(child, operations)
        else:
            setattr(module, name, replacement.train(child.training))
    return module


def _counterpart(layer: nn.Module, operations: Any) -> nn.Module | None:
    """The layer of ``operations`` that computes the same, with the same parameters; None where there is none."""
    kind = type(layer).__name__
    if type(layer) is nn.Linear:
        new = operations.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    elif type(layer) is nn.Embedding:
        new = operations.Embedding(
            layer.num_embeddings, layer.embedding_dim, padding_idx=layer.padding_idx, device="meta"
        )
    elif type(layer) is nn.LayerNorm:
        new = operations.LayerNorm(
            layer.normalized_shape, eps=layer.eps, elementwise_affine=layer.elementwise_affine, device="meta"
        )
    elif type(layer) is nn.Conv2d:
        new = _conv2d(layer, operations)
    elif kind.endswith("RMSNorm"):
        new = operations.RMSNorm(tuple(layer.weight.shape), eps=_rms_eps(layer), device="meta")
    elif kind == "Conv1D":
        return _transposed_linear(layer, operations)
    else:
        return None
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(new, name, parameter)
    return new


def _conv2d(layer: nn.Conv2d, operations: Any) -> nn.Module:
    return operations.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
        device="meta",
    )


def _rms_eps(layer: nn.Module) -> float:
    """Hugging Face calls it ``variance_epsilon`` (LLaMA, T5) or ``eps``."""
    eps = getattr(layer, "variance_epsilon", None)
    return eps if eps is not None else layer.eps


def _transposed_linear(layer: nn.Module, operations: Any) -> nn.Module:
    """GPT-2's Conv1D is a Linear whose weight is stored (in, out); two hooks keep the state dict that way."""
    inputs, outputs = layer.weight.shape
    new = operations.Linear(inputs, outputs, bias=True, device="meta")
    new.weight = nn.Parameter(layer.weight.detach().t().contiguous(), requires_grad=layer.weight.requires_grad)
    new.bias = layer.bias
    new.register_state_dict_post_hook(_transpose_saved)
    new.register_load_state_dict_pre_hook(_transpose_loaded)
    return new


def _transpose_saved(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    key = f"{prefix}weight"
    state_dict[key] = state_dict[key].t()


def _transpose_loaded(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    key = f"{prefix}weight"
    if key in state_dict:
        state_dict[key] = state_dict[key].t().contiguous()
