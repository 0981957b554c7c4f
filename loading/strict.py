"""Loading a state dict where every key and every shape must fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import Self  # a dependency of torch; in typing from Python 3.11

from .errors import CheckpointError

DRAWS = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
REMEDY = "Check that it is the right file and version, download it again, or choose the miniature."
SHOWN = 6  # keys listed per kind of trouble before "and N more"


class EmptyWeights(TorchFunctionMode):
    """``with EmptyWeights():`` modules come up on the meta device, and nothing is drawn for weights about to be
    replaced.

    The meta device alone would run the random initialisation through Python kernels, whose import takes seconds.
    """

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function in DRAWS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)

    def __enter__(self) -> Self:
        self.device = torch.device("meta")
        self.device.__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.device.__exit__(*error)


def load_strict(
    module: nn.Module, state_dict: Mapping[str, Tensor], skip: Sequence[str] = (), source: str | Path = "the file"
) -> None:
    """Load ``state_dict`` into ``module``; CheckpointError names what is missing, unexpected, or of another shape or
    type.

    ``skip``: prefixes of keys that are there on purpose and not ours. A module built on the meta device takes the
    tensors over as they are (their dtype too); any other module copies them into its own.
    """
    given = {key: value for key, value in state_dict.items() if not key.startswith(tuple(skip))}
    expected = check_fit(module, given, source)
    on_meta = any(value.is_meta for value in expected.values())
    module.load_state_dict(given, strict=True, assign=on_meta)


def fill_constants(module: nn.Module) -> None:
    """Fill the constant buffers of transformers' modules, which no file holds and which ``EmptyWeights`` leaves
    empty."""
    make = {
        "position_ids": lambda like: torch.arange(like.shape[-1]).expand(like.shape),
        "bias": lambda like: torch.ones(like.shape, dtype=torch.bool).tril(),  # GPT-2's causal mask, transformers 4
        "masked_bias": lambda like: torch.tensor(-1e4),
    }
    for part in module.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            if buffer.is_meta:
                part.register_buffer(name, make[name](buffer), persistent=False)


def check_fit(module: nn.Module, given: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """The state dict of ``module``, where ``given`` (meta tensors will do) fits it key by key; else CheckpointError.

    Any floating point type fits: loaders convert. Whole numbers do not: a quantised file needs code that is not here.
    """
    expected = module.state_dict()
    troubles = [
        _listing("missing", [key for key in expected if key not in given]),
        _listing("not expected", [key for key in given if key not in expected]),
        _listing("of another shape", _other_shapes(expected, given)),
        _listing("of another type", _other_types(expected, given)),
    ]
    if any(troubles):
        found = "; ".join(filter(None, troubles))
        raise CheckpointError(f"{_place(source)} does not fit {type(module).__name__}. {found}. {REMEDY}")
    return expected


def _place(source: str | Path) -> str:
    path = Path(source)
    return f"{path.name} (in {path.parent})" if len(path.parts) > 1 else str(source)


def _other_shapes(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{key} is {tuple(given[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in given and given[key].shape != value.shape
    ]


def _other_types(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{key} is {given[key].dtype}, not {value.dtype}"
        for key, value in expected.items()
        if key in given and given[key].is_floating_point() != value.is_floating_point()
    ]


def _listing(title: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{title}: {', '.join(names[:SHOWN])}{more}"
