"""The moving average of the weights, on the device and sharded as they are, and whole weights for a file."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


class Average:
    """Exponential moving average of a module's trained parameters (diffusers' EMAModel, which averages over fewer steps
    at the start)."""

    def __init__(self, module: nn.Module, decay: float):
        self.module = module
        self.names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        self.ema = EMAModel(self.parameters(), decay=decay)

    def parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def update(self) -> None:
        """Take one step of the average; after each step of the optimiser."""
        self.ema.step(self.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self.names, self.ema.shadow_params, strict=True))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the module uses the averages. They are swapped with the weights one parameter at a time, so
        no second copy of the network is needed."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for part in self.module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()  # a forward pass without a backward pass leaves the root with gathered parameters
        for parameter, average in zip(self.parameters(), self.ema.shadow_params, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(held)


@torch.no_grad()
def whole_weights(module: nn.Module, keep: bool) -> dict[str, Tensor]:
    """The state dict on the CPU, every tensor whole. All processes call this together; those that do not `keep` it
    gather one tensor at a time and get an empty dict."""
    found = {}
    for name, value in module.state_dict().items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            found[name] = whole.detach().to("cpu", copy=True)
    return found
