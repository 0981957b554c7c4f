"""Nodes that skip calls of the network: EasyCache, LazyCache, TeaCache and their kind.

They hang on the MODEL and give back what an earlier call gave, changed a little. A sampler bears that; an inversion
does not: it walks up along what the network really says, and asks it several times at one noise level, as the edit
mask does. So both nodes take off the wrappers that say what they are, and look whether the network, block by block, ran
in each of their calls.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from comfy.patcher_extension import WrappersMP

logger = logging.getLogger(__name__)
SKIPS = (
    "cache"  # in the key or the name of the function: easycache, LazyCache, teacache_wrapper, ApplyFBCacheOnModel.patch
)
# Around one call of the network; those around all of the sampling set up what these use.
PER_CALL = (WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)
FUNCTIONS = ("model_function_wrapper", "sampler_calc_cond_batch_function")  # one of each on a MODEL
INVERT = "DDIM Invert"
COMPILED = "torch.compile"  # ComfyUI's key of the wrapper that TorchCompileModel adds


def without_skips(model: Any, node: str = INVERT) -> Any:
    """A clone of the MODEL without the wrappers that are named as caches. ``node``: which runs it, for the log."""
    model = model.clone()
    dropped: set[str] = set()
    for wrappers in (model.wrappers, model.model_options["transformer_options"].get("wrappers", {})):
        for kind in wrappers.values():
            for key in [key for key in kind if SKIPS in str(key).lower()]:
                dropped.add(str(key))
                del kind[key]
            for key, functions in kind.items():
                dropped.update(_name(function) for function in functions if SKIPS in _name(function).lower())
                kind[key] = [function for function in functions if SKIPS not in _name(function).lower()]
    if dropped:
        logger.info("%s runs without %s: it needs every call of the network.", node, ", ".join(sorted(dropped)))
    return model


class Witness:
    """Looks at what of the network runs in a call: the network as a whole, and the blocks of a UNet.

    The first call of a run has nothing to repeat; every later one has to run just what that one ran. ``node``: which
    asks, for messages.
    """

    def __init__(self, node: str = INVERT) -> None:
        self.node = node
        self.ran: set[tuple] = set()
        self.first: set[tuple] | None = None

    def __deepcopy__(self, memo: dict) -> "Witness":
        return self  # clone() deep-copies what hangs on a MODEL before ComfyUI 0.13

    def attach(self, model: Any) -> Any:
        """A clone of the MODEL that is watched, inside of all wrappers that are on it. A compiled one is left alone: it
        would be compiled again for this."""
        self.suspects = ", ".join(_suspects(model)) or "no wrapper, so a patch"
        if COMPILED in model.wrappers.get(WrappersMP.APPLY_MODEL, {}):
            return model
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, __name__, self._see_network)
        model.set_model_input_block_patch(self._see_input_block)
        model.set_model_output_block_patch(self._see_output_block)
        return model

    def watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call(x, sigma, ...)`` of the model, which raises ValueError where the network did not run for it."""

        def watched(x: Any, sigma: Any, *args: Any, **kwargs: Any) -> Any:
            self.ran = set()
            result = call(x, sigma, *args, **kwargs)
            if self.first is None:
                self.first = self.ran
            if self.first != self.ran:
                raise ValueError(
                    f"At noise level {float(sigma.max()):.4g} a node before {self.node} skipped the network, or a "
                    f"part of it, and reused the result of an earlier call; {self.node} needs every call. Connect "
                    f"{self.node}'s model from before that node. On the model: {self.suspects}."
                )
            return result

        return watched

    @property
    def saw(self) -> bool:
        """Whether there was anything to see: not in a compiled network, nor where another pack has put one in its
        place."""
        return bool(self.first)

    def _see_network(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        self.ran.add(("network",))
        return executor(*args, **kwargs)

    def _see_input_block(self, h: Any, options: dict[str, Any]) -> Any:
        self.ran.add(tuple(options["block"]))
        return h

    def _see_output_block(self, h: Any, skipped: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        self.ran.add(tuple(options["block"]))
        return h, skipped


def _suspects(model: Any) -> Iterator[str]:
    """What other nodes have put around the calls of the network, as an artist may know it: their keys and names."""
    for kind in PER_CALL:
        for key, functions in model.wrappers.get(kind, {}).items():
            if not str(key).startswith("any2pix"):
                yield from (f"{key or _name(function)} ({kind})" for function in functions)
    for kind in FUNCTIONS:
        if kind in model.model_options:
            yield f"{_name(model.model_options[kind])} ({kind})"


def _name(function: Any) -> str:
    """ApplyFBCache.patch.<locals>.wrapper; of an object that is called, its class."""
    return getattr(function, "__qualname__", type(function).__qualname__)
