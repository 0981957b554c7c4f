"""Our networks under ComfyUI's model manager: built from its operations, loaded before every run, freed when it says so."""

from dataclasses import dataclass
from typing import Any

import comfy.model_management as management
import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

OPERATIONS = comfy.ops.manual_cast  # casts and moves each layer's weights where it is used, so a partial load works
BYTES_PER_NUMBER = 4  # activations are estimated in float32
ACTIVATIONS_PER_TOKEN = (
    16  # widths of intermediate results alive in one transformer block: q, k, v, out, 2 x 4 in the MLP, rest
)


@dataclass(frozen=True)
class Network:
    """A network and its ModelPatcher. The object lives on the loader's output and nowhere else, so /free can drop it."""

    module: nn.Module
    patcher: ModelPatcher

    @property
    def device(self) -> torch.device:
        """Where inputs have to be when the network runs."""
        return self.patcher.load_device

    def load(self, activations: int = 0) -> Any:
        """Bring the weights to the device, making room for them and for ``activations`` bytes; returns the network."""
        management.load_models_gpu([self.patcher], memory_required=activations)
        return self.module


def wrap_network(module: nn.Module) -> Network:
    """Hand a network that was built with OPERATIONS on the CPU to the model manager."""
    module.eval().requires_grad_(False)
    patcher = ModelPatcher(
        module, load_device=management.get_torch_device(), offload_device=management.text_encoder_offload_device()
    )
    return Network(module, patcher)


def choose_dtype(precision: str = "auto") -> torch.dtype:
    """The dtype weights are kept in. auto: fp16 where this device computes in it (finer than bf16), else bf16, else fp32."""
    names = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision in names:
        return names[precision]
    device = management.get_torch_device()
    if management.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if management.should_use_bf16(device) else torch.float32


def transformer_activations(tokens: int, width: int, layers: int = 0, vocabulary: int = 0) -> int:
    """Bytes a transformer needs to read ``tokens``: one block's intermediates, ``layers`` of key-value cache, the logits."""
    return BYTES_PER_NUMBER * tokens * (ACTIVATIONS_PER_TOKEN * width + 2 * layers * width + vocabulary)
