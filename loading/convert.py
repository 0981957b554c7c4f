"""``python -m any2pix.loading.convert SRC DST``: a published file or folder as one safetensors file that brings its
sizes and, where it reads text, its tokenizer.

An interrupted run is continued by the same command. The result is compared with the source before it gets its name.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from ..models.adapter import UnclipDims, UnclipProjector
from ..models.imagebind import ImageBind, ImageBindDims
from ..models.mm_llm import MMLLMDims, MultimodalLLM
from ..models.prior import PriorDims, RefinementPrior
from ..models.two_view import TwoViewAdapter, TwoViewDims
from .adapter import PROJECTOR_ROOTS, UNET_WEIGHTS, plan_adapter, plan_projectors
from .diffusion import check_unet, plan_unet
from .entries import is_file, read_text
from .errors import CheckpointError, file_error
from .files import META_DIMS, META_KIND, META_TOKENIZER, TOKENIZER_LIMIT, build_dims, find_kind, open_tokenizer
from .imagebind import TOKENS as IMAGEBIND_TOKENS
from .imagebind import plan_imagebind
from .kinds import KINDS
from .llm import plan_llm
from .plan import Plan
from .prior import TOKENS as PRIOR_TOKENS
from .prior import plan_prior
from .reader import WeightFile
from .stream import PART, Stream, write_stream
from .strict import check_fit

logger = logging.getLogger(__name__)

DTYPES = {"keep": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NETWORKS: dict[str, tuple[type, type[nn.Module]]] = {
    "imagebind": (ImageBindDims, ImageBind),
    "llm": (MMLLMDims, MultimodalLLM),
    "prior": (PriorDims, RefinementPrior),
    "adapter": (UnclipDims, UnclipProjector),
    "two_view": (TwoViewDims, TwoViewAdapter),
}
FILE_NAMES = {
    "imagebind": "imagebind_huge", "llm": "llm-retrained", "prior": "prior", "adapter": "projector_unclip",
    "two_view": "ip_adapter_global_local_2_view", "unet": "unet",
}  # fmt: skip
READ_CLIP = ("imagebind", "prior")  # published without the tokenizer of the texts they read
OUR_PREFIX = "any2pix."
SEPARATORS = tuple(filter(None, ("/", os.sep, os.altsep)))
CANCELLED = 130  # exit status of a program that was interrupted


def convert(
    source: str | Path,
    target: str | Path,
    dtype: torch.dtype | None = None,
    tokenizer: str | Path | None = None,
    kind: str | None = None,
    quiet: bool = False,
) -> Path:
    """Write ``source`` as one safetensors file; returns where: ``target``, or a file of a usual name in the folder
    ``target``, which is made where it is not there. A ``target`` without an ending, or that ends in a slash, is a
    folder.

    ``dtype``: floats are cast to it, None: kept. ``tokenizer``: CLIP's tokenizer.json for an ImageBind or a prior.
    ``kind`` "adapter": only the projectors of a UNet that carries them. CheckpointError where anything does not fit.
    """
    plan = plan_source(source, kind)
    check_plan(plan)
    if tokenizer is not None:
        plan = _with_tokenizer(plan, Path(tokenizer))
    target = _target_file(target, plan)
    metadata = {name: value for name, value in plan.metadata.items() if name.startswith(OUR_PREFIX)}
    metadata |= {META_KIND: "adapter" if plan.kind == "two_view" else plan.kind, META_DIMS: json.dumps(dict(plan.dims))}
    if plan.tokenizer_json is not None:
        metadata[META_TOKENIZER] = plan.tokenizer_json
    stream = Stream(plan.layout, plan.tensor, metadata, dtype)
    options = {"total": stream.bytes, "unit": "B", "unit_scale": True, "disable": quiet}
    with tqdm(desc="writing", **options) as writing, tqdm(desc="checking", **options) as checking:
        write_stream(target, stream, writing.update, checking.update)
    return target


def plan_source(source: str | Path, kind: str | None = None) -> Plan:
    """What ``source`` is, and what of it is converted. ``kind``: a key of KINDS that it has to be."""
    source = Path(source)
    if kind == "adapter":
        return plan_adapter(source)
    found = _kind_of(source)
    planners: dict[str, Callable[[Path], Plan]] = {
        "imagebind": plan_imagebind, "llm": plan_llm, "prior": plan_prior, "unet": plan_unet,
        "adapter": plan_adapter, "two_view": plan_adapter,
    }  # fmt: skip
    if found in planners and kind in (None, found):
        return planners[found](source)
    title = KINDS[found].title if found in KINDS else "of no kind that is known here"
    wanted = KINDS[kind].title if kind else ", ".join(KINDS[name].title for name in planners)
    raise file_error(source, f"is {title}.", f"What can be converted here: {wanted}.")


def check_plan(plan: Plan) -> None:
    """CheckpointError unless the keys, shapes and types are exactly those of the network that the sizes describe."""
    path = plan.weights.path
    if plan.kind == "unet":
        check_unet(plan)
        if any(key.startswith(PROJECTOR_ROOTS) for key in plan.names):
            check_plan(plan_projectors(plan))
        return
    dims, network = NETWORKS[plan.kind]
    check_fit(plan.build(lambda: network(build_dims(dims, plan.dims, path))), plan.layout, path)


def _kind_of(source: Path) -> str | None:
    """The kind by a file's keys, or by a folder's file names."""
    if source.is_dir():
        return "unet" if any(is_file(source / name) for name in UNET_WEIGHTS) else "llm"
    file = WeightFile(source)
    return find_kind(file.layout, file.metadata)


def _with_tokenizer(plan: Plan, path: Path) -> Plan:
    if plan.kind not in READ_CLIP:
        raise CheckpointError(
            f"--tokenizer is for an ImageBind or a prior. This is {KINDS[plan.kind].title}: leave it out."
        )
    text = read_text(
        path, TOKENIZER_LIMIT, "Give CLIP's tokenizer.json, or leave --tokenizer out: the nodes provide it."
    )
    size = open_tokenizer(text, path, "Give CLIP's tokenizer.json.").get_vocab_size()
    rows = plan.layout[IMAGEBIND_TOKENS if plan.kind == "imagebind" else PRIOR_TOKENS].shape[0]
    if size != rows:
        raise file_error(path, f"has {size} tokens, the network {rows}.", "Give the tokenizer it was trained with.")
    return replace(plan, tokenizer_json=text)


def _target_file(given: str | Path, plan: Plan) -> Path:
    target = Path(given)
    if target.is_dir() or not target.suffix or str(given).endswith(SEPARATORS):
        target = target / f"{FILE_NAMES[plan.kind]}.safetensors"
    if target.suffix != ".safetensors":
        raise file_error(
            target, f"has the ending {target.suffix!r}.", "The result is a .safetensors file: use that ending."
        )
    if os.path.lexists(target):
        raise file_error(target, "is there already.", "Delete it, or write elsewhere.")
    return target


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m any2pix.loading.convert", description=__doc__)
    parser.add_argument("source", type=Path, help="a published weight file, or the folder of an LLM or a UNet")
    parser.add_argument("target", help="the .safetensors file to write, or a folder for it, which is created if needed")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="keep", help="type that floats are cast to (default: unchanged)"
    )
    parser.add_argument("--tokenizer", type=Path, help="CLIP's tokenizer.json, to store in an ImageBind or a prior")
    parser.add_argument(
        "--kind",
        choices=FILE_NAMES,
        help="require a kind; adapter extracts the projectors from the first release's UNet",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        target = convert(options.source, options.target, DTYPES[options.dtype], options.tokenizer, options.kind)
    except CheckpointError as error:
        logger.error("%s", error)
        return 1
    except KeyboardInterrupt:
        logger.error("Interrupted. The part written so far is kept in a %s file: the same command resumes there.", PART)
        return CANCELLED
    logger.info("%s is written and equals its source. It belongs in models/%s.", target, _folder_of(target))
    return 0


def _folder_of(target: Path) -> str:
    file = WeightFile(target)
    return KINDS[find_kind(file.layout, file.metadata)].folder


if __name__ == "__main__":
    sys.exit(main())
