"""A graphics card that is not there: ComfyUI's own model manager at work on a pretended GPU of any size.

Tensors are torch's FakeTensors. Their devices, dtypes and shapes are real, their numbers are not: networks of full size
take no memory, every byte on the card is counted, and an operation between a tensor on the card and one beside it is
the error that it would be. ComfyUI has to be importable.
"""

import weakref
from contextlib import ExitStack, nullcontext
from itertools import count
from typing import Any
from unittest import mock

import comfy.model_management as management
import torch
import torch.nn.functional as F
from comfy.model_patcher import ModelPatcher
from torch import nn
from torch._subclasses import fake_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from typing_extensions import Self

CARD = torch.device("cuda", 0)
FILLS = {torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.zero_, torch.Tensor.fill_}
HOST_BYTES = 64 * 2**30  # of the pretended computer's own memory


class ByteCounter(TorchDispatchMode):
    """Counts the bytes of every storage on the card from the operation that makes it until it is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.used = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is torch.ops.prim.device.default:  # asked at every turn
            return args[0].fake_device
        result = function(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor) and value.device.type == CARD.type:
                self._count(value.untyped_storage())
        return result

    def reset_peak(self) -> int:
        """Start a new peak; returns the bytes in use."""
        self.peak = self.used
        return self.used

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:  # a view shares what it looks at
            self.sizes[key] = storage.nbytes()
            self.used += self.sizes[key]
            self.peak = max(self.peak, self.used)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.used -= self.sizes.pop(key)


class Shortcuts(TorchFunctionMode):
    """Attention as the fused kernels of every GPU in use do it: the scores are never all in memory. Operations that
    only change or check numbers are skipped: there are no numbers, and networks of full size have thousands of
    weights."""

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if function in FILLS or (function is torch.Tensor.detach and torch.is_inference_mode_enabled()):
            return args[0]
        if function is not F.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]
        if not query.device == key.device == value.device:
            raise RuntimeError(f"attention between {query.device}, {key.device} and {value.device}")
        return query.new_empty((*query.shape[:-1], value.shape[-1]))


class PretendCard:
    """``with PretendCard(8 * 2**30) as card:`` ComfyUI takes this for its device; ``card.counter`` has the bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.counter = ByteCounter()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        pretended = {
            "get_torch_device": lambda: CARD,
            "get_free_memory": self._free,
            "get_total_memory": lambda *_: self.size,
            "soft_empty_cache": lambda *_: None,
            "should_use_fp16": lambda *_, **__: True,  # a card of the last five years
            "should_use_bf16": lambda *_, **__: True,
            "vram_state": management.VRAMState.NORMAL_VRAM,
            "current_loaded_models": [],
        }
        for name, value in pretended.items():
            self._stack.enter_context(mock.patch.object(management, name, value))
        if hasattr(management, "cuda_device_context"):  # ComfyUI from 0.16 on makes the card current around a run
            self._stack.enter_context(
                mock.patch.object(management, "cuda_device_context", lambda device: nullcontext())
            )
        self._stack.enter_context(mock.patch.object(torch.cuda, "synchronize", lambda *_: None))
        # ComfyUI loads the networks of one run in the order of a set: by their addresses, another one each time
        numbers = count()
        self._stack.enter_context(
            mock.patch.object(
                ModelPatcher, "__hash__", lambda patcher: vars(patcher).setdefault("number", next(numbers))
            )
        )
        self._stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        # a FakeTensorMode keeps single numbers real, and would send them to a real card
        self._stack.enter_context(mock.patch.object(fake_tensor, "CONSTANT_NUMEL_LIMIT", -1))
        for mode in (fake_tensor.FakeTensorMode(), Shortcuts(), self.counter):
            self._stack.enter_context(mode)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _free(self, device: torch.device | None = None, torch_free_too: bool = False) -> Any:
        on_card = device is None or device.type == CARD.type
        free = self.size - self.counter.used if on_card else HOST_BYTES
        return (free, free) if torch_free_too else free


def _apply(self: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """nn.Module._apply with new parameters in the place of the old: FakeTensors cannot be exchanged in place."""
    if recurse:
        for child in self.children():
            child._apply(change)
    for name, parameter in self._parameters.items():
        if parameter is not None and (changed := change(parameter)) is not parameter:
            self._parameters[name] = nn.Parameter(changed, requires_grad=False)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = change(buffer)
    return self
