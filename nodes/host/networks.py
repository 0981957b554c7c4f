"""Our networks under ComfyUI's model manager: built from its operations, loaded before every run, freed when it says
so."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from .layers import Layers
from .patchers import is_dynamic, new_patcher, reloads
from .precision import DTYPES, FP8, Fp8Layers, choose_precision, half_dtype, quantize

OPERATIONS = Layers
BYTES_PER_NUMBER = 4  # activations are estimated in float32
# Widths of intermediate results alive in one transformer block: q, k, v, out, 2 x 4 in the MLP, rest.
ACTIVATIONS_PER_TOKEN = 16
MLP_RATIO = 4
TITLES = {  # class of a network -> the artist's word for it
    "MultimodalLLM": "Multimodal LLM",
    "RefinementPrior": "Refinement prior",
    "UnclipProjector": "unCLIP projector",
    "TwoViewAdapter": "Two-view IP-Adapter",
    "SDXL": "SDXL UNet",
    "SDXL_instructpix2pix": "InstructPix2Pix UNet",
    "FirstStage": "VAE",
    "AutoencoderKL": "VAE",
}
SHORT_NAMES = {str(dtype).removeprefix("torch."): name for name, dtype in DTYPES.items()}
COUNTS = ("", "thousand", "million", "billion")
BYTES = ("B", "kB", "MB", "GB")


@dataclass(frozen=True)
class Network:
    """A network and its ModelPatcher. The object lives on the loader's output and nowhere else, so /free can drop
    it."""

    module: nn.Module
    patcher: ModelPatcher

    @property
    def device(self) -> torch.device:
        """Where inputs have to be when the network runs."""
        return self.patcher.load_device

    def is_dynamic(self) -> bool:
        """Asked by ComfyUI's caches, as of its own CLIP and VAE: the weights are streamed, so that dropping them frees
        little."""
        return is_dynamic(self.patcher)

    def load(self, activations: int = 0) -> Any:
        """Bring the weights to the device, making room for them and for ``activations`` bytes; returns the network."""
        management.load_models_gpu([self.patcher], memory_required=activations)
        return self.module


def wrap_network(module: nn.Module, disable_dynamic: bool = False) -> Network:
    """Hand a network that was built with OPERATIONS on the CPU to the model manager."""
    module.eval().requires_grad_(False)
    devices = management.get_torch_device(), management.text_encoder_offload_device()
    return Network(module, new_patcher(module, *devices, disable_dynamic))


def read_network(load: Callable[..., nn.Module], path: Path, precision: str = "auto", **options: Any) -> Network:
    """The network that ``load`` (a ``load_*`` of the loading room) reads from ``path``, its weights kept in
    ``precision``.

    8-bit weights are made layer by layer out of half precision, so that there is never a second whole copy.
    """

    def read(disable_dynamic: bool = False) -> Network:
        kept = choose_precision(precision)
        if kept != FP8:
            return wrap_network(load(path, OPERATIONS, dtype=DTYPES[kept], **options), disable_dynamic)
        module = load(path, Fp8Layers, dtype=half_dtype(), **options)
        quantize(module)
        return wrap_network(module, disable_dynamic)

    network = read()
    reloads(network.patcher, lambda disable_dynamic=False: read(disable_dynamic).patcher)
    return network


def cancellable_progress() -> Callable[[int, int], None]:
    """What a loader or a stage tells its progress to, ``(done, total)``: a bar; raises when the artist presses
    cancel."""
    bar = comfy.utils.ProgressBar(1)  # each call passes the total again

    def update(done: int, total: int) -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return update


def describe(loaded: Any, path: Path, *notes: str) -> str:
    """What a loader shows on its node: kind, parameters, precision and size, file, device. ``loaded``: a Network, a
    MODEL or a VAE."""
    patcher: ModelPatcher = getattr(loaded, "patcher", loaded)
    numbers, sizes = Counter(), Counter()
    for parameter in patcher.model.parameters():
        name = str(parameter.dtype).removeprefix("torch.")
        numbers[name] += parameter.numel()
        sizes[name] += parameter.numel() * parameter.element_size()
    kind = type(patcher.model).__name__
    kept = " + ".join(f"{_rounded(size, BYTES)} in {SHORT_NAMES.get(name, name)}" for name, size in sizes.most_common())
    places = dict.fromkeys((str(patcher.load_device), str(patcher.offload_device)))
    return "\n".join(
        [
            f"{TITLES.get(kind, kind)}, {_rounded(numbers.total(), COUNTS)} parameters",
            kept,
            f"{path.parent.name}/{path.name}",
            f"on {' when used, else on '.join(places)}",
            *notes,
        ]
    )


def _rounded(number: float, units: tuple[str, ...]) -> str:
    """1234567 -> "1.23 million"."""
    for unit in units[:-1]:
        if number < 999.5:
            return f"{number:.3g} {unit}".strip()
        number /= 1000
    return f"{number:.3g} {units[-1]}"


def transformer_activations(tokens: int, width: int, layers: int = 0, vocabulary: int = 0) -> int:
    """Bytes a transformer needs to read ``tokens``: one block's intermediates, ``layers`` of key-value cache, the
    logits, and the largest weight while it is cast. Compared with full-size runs in benchmarks/results/memory.md."""
    per_token = ACTIVATIONS_PER_TOKEN * width + 2 * layers * width + vocabulary
    return BYTES_PER_NUMBER * (tokens * per_token + MLP_RATIO * width**2)
