"""Weights and inputs that both sides make from a seed, and the files that carry what cannot be made: the outputs.

A weight depends on its key, its shape and the seed alone, so the authors' network and ours, which share the published
key layout, are filled alike without a weight ever being stored. Only uniform and integer draws of torch's CPU generator
are used: they are the same bits on every machine.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden"
# Tables and single vectors: looked up or added, not multiplied, so their fan-in says nothing.
LOOKED_UP = (
    "embed_tokens.weight", "token_embedding.weight", "position_embedding.weight", "wte.weight", "wpe.weight",
    "modality_embedding.weight", "sequence_tokens.weight", "pos_embed", "cls_token", "bias_k", "bias_v", "raw_embed",
)  # fmt: skip
LOOKED_UP_STD = 0.5
NORM_SPREAD = 0.1  # of the gains around 1, and of every bias around 0
CONSTANTS = (".mask",)  # float buffers that are no weights
UNIT_STD = 3**0.5  # a uniform draw of this half width has deviation 1


def draw(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Uniform float32 of mean 0 and deviation 1, from a stream of its own for every (seed, key)."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.empty(shape).uniform_(-UNIT_STD, UNIT_STD, generator=generator)


def weight(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A weight on the scale of an untrained network's: a layer keeps its input's deviation or shrinks it a little."""
    value = draw(key, shape, seed)
    if key.endswith(LOOKED_UP):
        return value * LOOKED_UP_STD
    if len(shape) < 2:
        return value * NORM_SPREAD + (1.0 if key.endswith("weight") else 0.0)
    fan = max(shape[0], math.prod(shape[1:]))
    return value * fan**-0.5


class Unfilled(TorchFunctionMode):
    """``with Unfilled():`` networks are built without the random weights that ``fill`` would only overwrite."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init" or function in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def fill(module: nn.Module, seed: int) -> None:
    """Overwrite the float tensors of ``module`` in place, by their keys; scalars (logit scales) and masks stay."""
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim and not key.endswith(CONSTANTS):
                tensor.copy_(weight(key, tensor.shape, seed))


def picture(height: int, width: int, seed: int) -> Tensor:
    """(H, W, 3) uint8: patches of 16 pixels with fine noise on top, so that both survive a resize."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = -(-height // 16), -(-width // 16)
    patches = torch.randint(0, 192, (rows, columns, 3), generator=generator)
    patches = patches.repeat_interleave(16, 0)[:height].repeat_interleave(16, 1)[:, :width]
    return (patches + torch.randint(0, 64, (height, width, 3), generator=generator)).to(torch.uint8)


def sound(samples: int, seed: int) -> Tensor:
    """(1, T) int16: steps of 32 samples with noise on top."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-12000, 12000, (-(-samples // 32),), generator=generator).repeat_interleave(32)[:samples]
    return (steps + torch.randint(-2000, 2000, (samples,), generator=generator)).to(torch.int16)[None]


@dataclass(frozen=True)
class Golden:
    """Outputs of the authors' code by name, and how they were made: seed, dims, whatever the maker noted."""

    tensors: Mapping[str, Tensor]
    notes: Mapping

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def save(name: str, tensors: Mapping[str, Tensor], notes: Mapping, folder: Path = FOLDER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    metadata = {"golden": json.dumps(notes, sort_keys=True)}
    save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, path, metadata)
    return path


def load(name: str, folder: Path = FOLDER) -> Golden:
    with safe_open(folder / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        return Golden(tensors, json.loads(file.metadata()["golden"]))


def relative_error(ours: Tensor, authors: Tensor) -> float:
    """||ours - authors|| / ||authors|| over the whole tensor, in float64."""
    if ours.shape != authors.shape:
        raise ValueError(f"Ours has the shape {tuple(ours.shape)}, the authors' {tuple(authors.shape)}.")
    ours, authors = ours.detach().cpu().double(), authors.double()
    return float((ours - authors).norm() / authors.norm())
