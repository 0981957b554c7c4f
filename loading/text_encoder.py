"""Text encoder files -> `TextEncoder`: our safetensors, or one of a diffusers pipeline's text_encoder folders."""

import json
from dataclasses import fields, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ..models.text_encoder import TextEncoder, TextEncoderDims
from .entries import is_file, read_bounded
from .files import (
    TOKENIZER_LIMIT,
    build_dims,
    file_error,
    open_network,
    open_tokenizer,
    read_tokenizer,
    require_tokens,
)
from .kinds import KINDS
from .plan import Plan, Progress
from .reader import read_json
from .shards import WeightFolder
from .strict import fill_constants

SOURCE = KINDS["text_encoder"].source
CONFIG_NAME = "config.json"
TOKENIZER_NAME, TOKENIZER_PARTS = "tokenizer.json", ("vocab.json", "merges.txt")
WEIGHTS = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin")
STORED_CONSTANT = "text_model.embeddings.position_ids"  # older transformers kept this counter beside the weights
TOKEN_NAMES = ("special_tokens_map.json", "tokenizer_config.json")  # where a tokenizer's folder names its padding
PROJECTION = "text_projection.weight"


def load_text_encoder(
    path: str | Path,
    operations=torch.nn,
    device="cpu",
    dtype: torch.dtype | None = None,
    tokenizer: str | Path | None = None,
    progress: Progress | None = None,
) -> TextEncoder:
    """The text encoder of a file of ours or of a folder with config.json; every key and shape is checked.

    ``dtype`` of the weights; None: float32. ``tokenizer``: our files bring their own, a folder does not: give that of
    its pipeline, see ``load_clip_tokenizer``.
    """
    plan = plan_text_encoder(path)
    dims = build_dims(TextEncoderDims, plan.dims, path)
    words = None
    if plan.tokenizer_json is not None:
        words = open_tokenizer(plan.tokenizer_json, path, SOURCE)
    elif tokenizer is not None:
        words = load_clip_tokenizer(tokenizer)
        padding = _padding(Path(tokenizer), words, dims.eos_token_id)
        dims, words = replace(dims, padding=padding), _without_mark(words, padding, dims.eos_token_id)
    require_tokens(path, words, dims.vocab_size)
    network = plan.build(lambda: TextEncoder(dims, operations))
    plan.fill(network, dtype or torch.float32, progress)
    fill_constants(network)
    network.tokenizer = words
    return network.to(device=device, dtype=dtype or torch.float32).eval().requires_grad_(False)


def load_clip_tokenizer(path: str | Path) -> Tokenizer:
    """A tokenizer.json, or the tokenizer folder of a diffusers pipeline, whose vocab.json and merges.txt do as well."""
    path = Path(path)
    file = path / TOKENIZER_NAME if path.is_dir() else path
    if is_file(file):
        return read_tokenizer(file, SOURCE)
    remedy = f"Give {TOKENIZER_NAME}, or the folder with it or with {' and '.join(TOKENIZER_PARTS)}."
    if not all(is_file(path / name) for name in TOKENIZER_PARTS):
        raise file_error(path, "is no tokenizer.", remedy)
    for name in TOKENIZER_PARTS:
        read_bounded(path / name, TOKENIZER_LIMIT, remedy)
    from transformers import CLIPTokenizerFast  # here: it is slow to import

    try:
        return CLIPTokenizerFast.from_pretrained(path, local_files_only=True).backend_tokenizer  # nosec B615
    except Exception as error:  # whatever transformers raises at files of noise
        raise file_error(path, f"holds a damaged tokenizer ({type(error).__name__}).", remedy) from error


def _padding(place: Path, tokenizer: Tokenizer, end: int) -> int:
    """The token that a pipeline's tokenizer fills up with; CLIP's own, the end of text, where its folder names none."""
    folder = place if place.is_dir() else place.parent
    for file in (folder / name for name in TOKEN_NAMES):
        named = read_json(file, SOURCE).get("pad_token") if is_file(file) else None
        named = named.get("content") if isinstance(named, dict) else named
        if named is None:
            continue
        found = tokenizer.token_to_id(named) if isinstance(named, str) else None
        if found is None:
            raise file_error(
                file, f"pads with {named!r}, which its tokenizer does not contain.", "Use both from the same pipeline."
            )
        return found
    return end


def _without_mark(tokenizer: Tokenizer, padding: int, end: int) -> Tokenizer:
    """The tokenizer for which ``padding`` is a word like any other, unless it is the end of text.

    SDXL's second tokenizer in diffusers' format pads with "!" and so takes each "!" of a text for padding; OpenCLIP,
    which trained the encoder, and ComfyUI read it as the word it is.
    """
    if padding == end:
        return tokenizer
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [mark for mark in content["added_tokens"] if mark["id"] != padding]
    return Tokenizer.from_str(json.dumps(content))


def plan_text_encoder(path: str | Path) -> Plan:
    """What of a file or folder goes into the network; `dims` comes from the metadata or from config.json."""
    path = Path(path)
    if not path.is_dir():
        plan = open_network(path, "text_encoder")
        if not plan.dims:
            raise file_error(path, "does not state its sizes.", f"Give the folder with its {CONFIG_NAME}. {SOURCE}")
        return plan
    weights = WeightFolder(path, WEIGHTS, SOURCE)
    config = read_json(path / CONFIG_NAME, SOURCE)
    known = {field.name for field in fields(TextEncoderDims)}
    dims = {key: value for key, value in config.items() if key in known}
    dims |= {"projected": PROJECTION in weights.layout, **_clip_end(dims)}
    # transformers 5 writes an encoder without projection without the prefix of its keys
    names = {name if name.startswith("text_") else f"text_model.{name}": name for name in weights.layout}
    plan = Plan("text_encoder", weights, names, dims)
    return plan.without([STORED_CONSTANT])


def _clip_end(dims: dict) -> dict:
    """Old configs of CLIP name token 2 as the end of text, which never was: it is the last of the vocabulary."""
    vocabulary = dims.get("vocab_size", TextEncoderDims.vocab_size)
    wrong = dims.get("eos_token_id", 2) == 2
    return {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1} if wrong else {}
