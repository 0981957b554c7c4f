"""ModelPatchers as ComfyUI's own loaders make them, with dynamic VRAM and without it."""

from collections.abc import Callable
from typing import Any

import comfy.model_management as management
import comfy.model_patcher
import torch
from torch import nn


def new_patcher(
    module: nn.Module, load_device: torch.device, offload_device: torch.device, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """A patcher of the kind this ComfyUI gives to its own models, so that ours share the card with them.

    A plain patcher beside dynamic ones evicts them each time it loads, and is never streamed. ``disable_dynamic``: a
    plain one all the same, for nodes that change weights in place (torch.compile, CLIP hooks).
    """
    if archive := getattr(management, "archive_model_dtypes", None):
        archive(module)  # the types that weights have on the card, whatever they are kept in
    plain = comfy.model_patcher.ModelPatcher
    # looked up at each call: ComfyUI exchanges it at start-up, after some nodes are imported; not there before 0.16
    kind = plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)
    return kind(module, load_device=load_device, offload_device=offload_device)


def is_dynamic(patcher: comfy.model_patcher.ModelPatcher) -> bool:
    """Whether ComfyUI streams this model's weights to the card as they are used."""
    return getattr(patcher, "is_dynamic", bool)()


def reloads(patcher: Any, load: Callable[..., Any], *args: Any) -> Any:
    """``patcher``, with what makes it again: ``load(*args, disable_dynamic=...)`` gives another with its own weights.

    ComfyUI asks for that where one model has to lie on two devices, or unstreamed: Set CLIP Hooks, torch.compile,
    MultiGPU.
    """
    patcher.cached_patcher_init = (load, args)
    return patcher
