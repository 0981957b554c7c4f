"""Which network made something, identified by a few of its weights: cheap, wherever the weights are, without loading
them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import comfy.supported_models
import torch
from torch import Tensor, nn

from .networks import TITLES

SAMPLED_WEIGHTS, NUMBERS_EACH = 24, 8
# Relative distance of the sampled numbers of one file in two precisions: 0.0002 in fp16, 0.002 in bf16. Fine-tuned
# weights are farther; 8-bit floats (0.03) count as another model, and paint differently too.
SAME_WEIGHTS = 0.006


@dataclass(frozen=True)
class ModelIdentity:
    """``family``: ComfyUI's name of the architecture. ``weights`` (N,): sampled numbers, in float32, of the unpatched
    weights.
    ``patches``: a digest of what LoRAs and their kind add, "" without any."""

    family: str
    weights: Tensor
    patches: str = ""

    def difference(self, other: "ModelIdentity") -> str | None:
        """What tells ``other`` from this model, in words that go behind "made with"; None where they are the same."""
        if self.family != other.family:
            return f"a model of the family {self.family}, but this one is {other.family}"
        if self.weights.shape != other.weights.shape:
            return "a model of another size"
        if float((self.weights - other.weights).norm()) > SAME_WEIGHTS * float(self.weights.norm()):
            return "other weights, or the same in another precision (8 bits)"
        if self.patches != other.patches:
            return "other LoRAs or other LoRA strengths" if self.patches else "the model without a LoRA"
        return None


def identify(model: Any) -> ModelIdentity:
    """Of a MODEL. LoRAs that ComfyUI has added into the weights in place are looked behind."""
    originals = {**{key: kept[0] for key, kept in getattr(model, "hook_backup", {}).items()},
                 **{key: kept.weight for key, kept in getattr(model, "backup", {}).items()}}  # fmt: skip
    network, prefix = model.model.diffusion_model, "diffusion_model."
    weights = sample_weights(network, {key.removeprefix(prefix): value for key, value in originals.items()})
    return ModelIdentity(_family_of(model.model.model_config), weights, _digest_of_patches(model.patches))


def _family_of(config: Any) -> str:
    """ComfyUI's own class, where a pack has made one of its own from it, as ours does for UNets of any width."""
    classes = type(config).__mro__
    return next((kind for kind in classes if kind.__module__ == comfy.supported_models.__name__), classes[0]).__name__


def sample_weights(module: nn.Module, originals: dict[str, Tensor] | None = None) -> Tensor:
    """A few numbers of some weights, spread over the network: (N,) float32 on the CPU. ``originals`` stand for changed
    ones.

    Weights of other packs' and hosts' own quantised types are passed over: they may have no single numbers to look at.
    """
    named = sorted(
        (name, weight)
        for name, weight in module.named_parameters()
        if weight.ndim > 1 and not weight.is_meta and type(weight) is nn.Parameter
    )
    chosen = named[:: max(1, len(named) // SAMPLED_WEIGHTS)][:SAMPLED_WEIGHTS]
    parts = [_first_numbers((originals or {}).get(name, weight)) for name, weight in chosen]
    return torch.cat(parts) if parts else torch.zeros(0)


def _first_numbers(weight: Tensor) -> Tensor:
    row = weight.detach()
    while row.ndim > 1:  # and not flattened, which would copy some layouts as a whole
        row = row[0]
    return row[:NUMBERS_EACH].to("cpu", torch.float32)


def describe_origin(network: nn.Module) -> str:
    """An embedding network in words: "ImageBind, 64 numbers, 1.41 million parameters, #1a2b3c4d". The digest is of
    weights as they are kept: one file in two precisions has two."""
    kind = type(network).__name__
    millions = sum(weight.numel() for weight in network.parameters()) / 1e6
    digest = hashlib.sha256(sample_weights(network).numpy().tobytes()).hexdigest()[:8]
    return f"{TITLES.get(kind, kind)}, {network.dims.embed} numbers, {millions:.3g} million parameters, #{digest}"


def _digest_of_patches(patches: dict[str, list]) -> str:
    if not patches:
        return ""
    digest = hashlib.sha256()
    for key in sorted(patches):
        for piece in (key, *_pieces(patches[key])):
            digest.update(piece if isinstance(piece, bytes) else f"{piece};".encode())
    return digest.hexdigest()[:16]


def _pieces(value: Any) -> Iterator[str | bytes]:
    """What a patch is made of, whichever way ComfyUI and packs nest it: shapes and first numbers of tensors, plain
    values, and the names of everything else."""
    if isinstance(value, Tensor):
        yield str(tuple(value.shape))
        yield value.detach().reshape(-1)[:NUMBERS_EACH].to("cpu", torch.float32).numpy().tobytes()
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _pieces(part)
    elif isinstance(value, (str, int, float, bool, type(None))):
        yield repr(value)
    else:
        yield type(value).__name__
        yield from _pieces(getattr(value, "weights", None))
