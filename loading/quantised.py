"""Weights stored as 8-bit whole numbers with one scale a row: a quarter of float32 on disk, floats again when they are
read."""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE_SUFFIX = ".row_scale"  # beside each stored weight: (rows,) float32
LARGEST = 127  # the same either side of zero
SMALLEST_WEIGHT = 8192  # numbers; below that the rows are few and their scales would eat the gain


def quantise_rows(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every float weight of two dimensions or more and SMALLEST_WEIGHT numbers as int8 and ``<key>.row_scale``; the
    rest (biases, norms, small weights) as float16.

    Each number is then off by at most 1/254 of the largest of its row (one output channel).
    """
    stored = {}
    for key, value in state_dict.items():
        if not value.is_floating_point():
            stored[key] = value
        elif value.dim() < 2 or value.numel() < SMALLEST_WEIGHT:
            stored[key] = value.detach().half()
        else:
            rows = value.detach().float().flatten(1)
            scale = rows.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
            stored[key] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape)
            stored[key + SCALE_SUFFIX] = scale
    return stored


def dequantise(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``quantise_rows`` stored as float16, whose rounding is a tenth of the 8 bits' own; any other file as it
    is."""
    return {key: dequantise_tensor(stored, key) for key in stored if not _is_scale(key, stored)}


def dequantise_tensor(stored: Mapping[str, Tensor], key: str) -> Tensor:
    """``dequantise``, of one tensor."""
    value, scale = stored[key], stored.get(key + SCALE_SUFFIX)
    if scale is None or value.dtype != torch.int8:
        return value
    return (value.flatten(1).float() * scale[:, None]).half().view(value.shape)


def misfits(stored: Mapping[str, Tensor]) -> str | None:
    """The first weight whose scales are not one float a row; None: all fit."""
    for key, value in stored.items():
        scale = stored.get(key + SCALE_SUFFIX)
        if scale is None or value.dtype != torch.int8:
            continue
        if value.dim() < 2 or scale.shape != value.shape[:1] or not scale.is_floating_point():
            return key
    return None


def _is_scale(key: str, stored: Mapping[str, Tensor]) -> bool:
    weight = stored.get(key.removesuffix(SCALE_SUFFIX))
    return key.endswith(SCALE_SUFFIX) and weight is not None and weight.dtype == torch.int8
