"""The instruction LLM from disk: our single safetensors file, or the published Hugging Face folder."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn

from ..models.mm_llm import ADDED_TOKENS, MMLLMDims, MultimodalLLM
from .files import CheckpointError, build_dims, file_error, read_network_file, read_tensors
from .kinds import KINDS
from .strict import load_strict

logger = logging.getLogger(__name__)

META_TOKENS = "any2pix.tokens"  # JSON {"pad", "bos", "eos", "unk"} of ids, for people and other programs
# In the published files, but not used by this method (its other heads, and buffers of old transformers versions).
SKIPPED = (
    "model.vision_tower.",
    "model.mm_projector.",
    "model.vae_projector_audio.",
    "model.vae_predictor_audio.",
    "model.vae.",
)
SKIPPED_SUFFIX = ".rotary_emb.inv_freq"
# Fields of the folder's config.json that shape the network.
LLAMA_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "hidden_act", "attention_bias",
)  # fmt: skip
INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SPECIALS = ("<s>", "</s>")
SPACE = "\u2581"  # SentencePiece's mark of a word's start


def load_llm(
    path: str | Path, operations: Any = nn, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> MultimodalLLM:
    """Read an LLM with its tokenizer (``.tokenizer``). ``path``: a .safetensors file of ours, or the published folder.

    ``dtype`` of the weights; None: float32.
    """
    path = Path(path)
    if path.is_dir():
        state_dict, dims, tokenizer = _read_folder(path)
    else:
        state_dict, dims, tokenizer = _read_file(path)
    _check_vocabulary(tokenizer, state_dict, path)
    with torch.device("meta"):
        llm = MultimodalLLM(dims, operations)
    load_strict(llm, state_dict, SKIPPED, path.name)
    llm.tokenizer = tokenizer
    return llm.requires_grad_(False).eval().to(device=device, dtype=dtype or torch.float32)


def _read_file(path: Path) -> tuple[dict[str, Tensor], MMLLMDims, Tokenizer]:
    file = read_network_file(path, "llm")
    if not file.dims or file.tokenizer_json is None:
        raise file_error(
            path,
            "has no sizes or no tokenizer in its metadata.",
            f"A published LLM is a folder: choose the folder. {KINDS['llm'].source}",
        )
    return file.state_dict, build_dims(MMLLMDims, file.dims, path), Tokenizer.from_str(file.tokenizer_json)


def _read_folder(folder: Path) -> tuple[dict[str, Tensor], MMLLMDims, Tokenizer]:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"The folder {folder} has no config.json. {KINDS['llm'].source}")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    state_dict: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        state_dict |= read_tensors(file, KINDS["llm"].source)[0]
    skipped = sorted(key for key in state_dict if key.startswith(SKIPPED) or key.endswith(SKIPPED_SUFFIX))
    logger.info("%s: %d tensors of parts this method does not use are skipped.", folder.name, len(skipped))
    for key in skipped:
        del state_dict[key]
    return state_dict, _dims_of(folder, config, state_dict), _read_tokenizer(folder)


def _weight_files(folder: Path) -> list[Path]:
    """The shards named by an index file, or the single weight file."""
    for name in INDEX_FILES:
        if (folder / name).is_file():
            weight_map = json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"]
            return [folder / shard for shard in sorted(set(weight_map.values()))]
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return [folder / name]
    raise CheckpointError(
        f"The folder {folder} has none of {', '.join(INDEX_FILES + WEIGHT_FILES)}. {KINDS['llm'].source}"
    )


def _dims_of(folder: Path, config: dict[str, Any], state_dict: dict[str, Tensor]) -> MMLLMDims:
    projector = state_dict.get("model.vae_projector_image.0.weight")
    if projector is None:
        raise CheckpointError(
            f"{folder} is a language model without InstructAny2Pix's projectors. {KINDS['llm'].source}"
        )
    llama = {name: config[name] for name in LLAMA_FIELDS if config.get(name) is not None}
    return MMLLMDims(embed=projector.shape[1], llama=llama, projector_hidden=projector.shape[0])


def _read_tokenizer(folder: Path) -> Tokenizer:
    """From the subfolder ``tokenizer``, or the folder itself: tokenizer.json, or LLaMA's tokenizer.model."""
    place = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    if (place / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    elif (place / "tokenizer.model").is_file():
        from transformers import AutoTokenizer  # slow to import, and only for this layout

        tokenizer = _as_trained(AutoTokenizer.from_pretrained(place, use_fast=True).backend_tokenizer)
    else:
        raise CheckpointError(f"{place} has neither tokenizer.json nor tokenizer.model. {KINDS['llm'].source}")
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*SPECIALS, *ADDED_TOKENS)]
    )
    return tokenizer


def _as_trained(converted: Tokenizer) -> Tokenizer:
    """LLaMA's tokenizer as transformers 4.34 trained the published LLM with it: a space before any text.

    Newer transformers convert to a pre-tokenizer that leaves this space out where the text starts with one itself.
    """
    data = json.loads(converted.to_str())
    data["pre_tokenizer"] = None
    steps = [{"type": "Prepend", "prepend": SPACE}, {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]
    data["normalizer"] = {"type": "Sequence", "normalizers": steps}
    for token in data["added_tokens"]:
        token["normalized"] = False
    return Tokenizer.from_str(json.dumps(data))


def _check_vocabulary(tokenizer: Tokenizer, state_dict: dict[str, Tensor], path: Path) -> None:
    """Every id must have its row in both tables, and the added tokens must stand in the published order."""
    ids = [tokenizer.token_to_id(token) for token in (*SPECIALS, *ADDED_TOKENS)]
    missing = [token for token, found in zip((*SPECIALS, *ADDED_TOKENS), ids) if found is None]
    if missing:
        raise CheckpointError(f"The tokenizer of {path.name} lacks {', '.join(missing)}. {KINDS['llm'].source}")
    added = ids[len(SPECIALS) :]
    if added != list(range(added[0], added[0] + len(added))):
        raise CheckpointError(
            f"The tokenizer of {path.name} has the added tokens in another order than the LLM was trained with. "
            f"{KINDS['llm'].source}"
        )
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = state_dict[key].shape[0] if key in state_dict else 0
        if rows < tokenizer.get_vocab_size():
            raise CheckpointError(
                f"{path.name}: {key} has {rows} rows, its tokenizer {tokenizer.get_vocab_size()} tokens. "
                f"The tokenizer belongs to another LLM. {KINDS['llm'].source}"
            )
