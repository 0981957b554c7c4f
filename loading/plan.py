"""What of a file or folder goes into which network: the seam between finding weights, loading them and converting
them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .errors import file_error
from .kinds import KINDS
from .reader import WeightFile, as_dtype
from .shards import WeightFolder
from .sizes import bounded_parts, check_sizes
from .strict import EmptyWeights, check_fit, load_strict

Progress = Callable[[int, int], Any]  # gets the bytes read so far and in all, after each tensor; may raise to stop


@dataclass(frozen=True)
class Plan:
    """``names``: key of the network -> name in ``weights``, in the source's order. ``dims``: plain, as in a file's
    metadata.

    ``skipped``: names in ``weights`` that are left out on purpose.
    """

    kind: str
    weights: WeightFile | WeightFolder
    names: Mapping[str, str]
    dims: Mapping[str, Any]
    tokenizer_json: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    @property
    def layout(self) -> dict[str, Tensor]:
        """Key of the network -> meta tensor, the shape and dtype it is stored in."""
        return {key: self.weights.layout[name] for key, name in self.names.items()}

    def tensor(self, key: str) -> Tensor:
        return self.weights.tensor(self.names[key])

    def read(self, dtype: torch.dtype | None, progress: Progress | None = None) -> dict[str, Tensor]:
        """The state dict, floats as ``dtype``; None: as stored, then mapped from the disk.

        A tensor that is cast is let go of before the next is read: this takes the memory of one copy.
        """
        total, done = sum(value.nbytes for value in self.layout.values()), 0
        state_dict = {}
        for key in self.names:
            value = self.tensor(key)
            state_dict[key], done = as_dtype(value, dtype), done + value.nbytes
            if progress is not None:
                progress(done, total)
        return state_dict

    def build(self, make: Callable[[], nn.Module]) -> nn.Module:
        """What ``make`` makes of the sizes, on the meta device; CheckpointError where no network has such sizes."""
        check_sizes(self.dims, len(self.names), self.weights.path, KINDS[self.kind].source)
        try:
            with EmptyWeights(), bounded_parts(len(self.names)):
                return make()
        except Exception as error:  # whatever torch, transformers and diffusers raise at sizes that cannot be
            raise file_error(
                self.weights.path,
                f"comes with sizes from which no network can be built ({error}).",
                f"Use the config or the metadata it was published with. {KINDS[self.kind].source}",
            ) from error

    def fill(self, network: nn.Module, dtype: torch.dtype | None, progress: Progress | None = None) -> None:
        """Load ``network`` strictly. It is checked by shapes alone first: what does not fit costs no reading."""
        check_fit(network, self.layout, self.weights.path)
        load_strict(network, self.read(dtype, progress), source=self.weights.path)

    def without(self, skipped: Mapping[str, Any] | set[str] | list[str]) -> "Plan":
        """The plan less the keys in ``skipped``."""
        left = {key: name for key, name in self.names.items() if key not in skipped}
        return replace(
            self, names=left, skipped=(*self.skipped, *(self.names[key] for key in self.names if key in skipped))
        )
