"""The instruction LLM from disk: our single safetensors file, or the published Hugging Face folder."""

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn

from ..models.mm_llm import ADDED_TOKENS, MMLLMDims, MultimodalLLM
from .entries import is_file
from .errors import CheckpointError, file_error
from .files import build_dims, open_network, open_tokenizer, read_tokenizer, require_kind
from .kinds import KINDS
from .llama_tokenizer import read_sentencepiece
from .plan import Plan, Progress
from .reader import read_json
from .shards import WeightFolder

logger = logging.getLogger(__name__)

META_TOKENS = "any2pix.tokens"  # JSON {"pad", "bos", "eos", "unk"} of ids, for people and other programs
ID_NAMES = {"pad": "</s>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
# In the published files, but not used by this method (its other heads, and buffers of old transformers versions).
SKIPPED = (
    "model.vision_tower.",
    "model.mm_projector.",
    "model.vae_projector_audio.",
    "model.vae_predictor_audio.",
    "model.vae.",
)
SKIPPED_SUFFIX = ".rotary_emb.inv_freq"
# Fields of the folder's config.json that shape the network. The first must be there: nothing is assumed of them.
NEEDED_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps",
    "max_position_embeddings",
)  # fmt: skip
OTHER_FIELDS = (
    "num_key_value_heads",
    "rope_theta",
    "rope_scaling",
    "hidden_act",
    "attention_bias",
    "mlp_bias",
    "head_dim",
)
WEIGHTS = ("model.safetensors.index.json", "pytorch_model.bin.index.json", "model.safetensors", "pytorch_model.bin")
SPECIALS = ("<s>", "</s>")
SOURCE = KINDS["llm"].source


def load_llm(
    path: str | Path,
    operations: Any = nn,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    merge: str | None = None,
    progress: Progress | None = None,
) -> MultimodalLLM:
    """Read an LLM with its tokenizer (``.tokenizer``). ``path``: a .safetensors file of ours, or the published folder.

    ``dtype`` of the weights; None: float32. ``merge``: how references enter, see MMLLMDims; None: as it was trained.
    """
    plan = plan_llm(path)
    dims = build_dims(MMLLMDims, plan.dims, path)
    if merge is not None:
        dims = replace(dims, merge=merge)
    llm = plan.build(lambda: MultimodalLLM(dims, operations))
    plan.fill(llm, dtype or torch.float32, progress)
    llm.tokenizer = open_tokenizer(plan.tokenizer_json, path, SOURCE)
    return llm.requires_grad_(False).eval().to(device=device, dtype=dtype or torch.float32)


def plan_llm(path: str | Path) -> Plan:
    """What of the file or folder goes into the network, with its sizes and its tokenizer."""
    path = Path(path)
    plan = _plan_folder(path) if path.is_dir() else open_network(path, "llm")
    if not plan.dims or plan.tokenizer_json is None:
        raise file_error(
            path,
            "has no sizes or no tokenizer in its metadata.",
            f"A published LLM is a folder: choose the folder. {SOURCE}",
        )
    tokenizer = open_tokenizer(plan.tokenizer_json, path, SOURCE)
    _check_vocabulary(tokenizer, plan.layout, path)
    ids = {name: tokenizer.token_to_id(token) for name, token in ID_NAMES.items()}
    return replace(plan, metadata={META_TOKENS: json.dumps(ids), **plan.metadata})


def _plan_folder(folder: Path) -> Plan:
    config = read_json(folder / "config.json", SOURCE)
    weights = WeightFolder(folder, WEIGHTS, SOURCE)
    require_kind(folder, ("llm",), weights.layout, {})
    plan = Plan("llm", weights, {name: name for name in weights.layout}, {})
    plan = plan.without([key for key in plan.names if key.startswith(SKIPPED) or key.endswith(SKIPPED_SUFFIX)])
    logger.info("%s: %d tensors of parts this method does not use are skipped.", folder.name, len(plan.skipped))
    dims = _dims_of(folder, config, plan.layout)
    return replace(plan, dims=dims.to_dict(), tokenizer_json=_read_tokenizer(folder).to_str())


def _dims_of(folder: Path, config: dict[str, Any], layout: Mapping[str, Tensor]) -> MMLLMDims:
    path, remedy = folder / "config.json", f"Use the config.json it was published with. {SOURCE}"
    if lacking := [name for name in NEEDED_FIELDS if not isinstance(config.get(name), (int, float))]:
        raise file_error(path, f"lacks {', '.join(lacking)}.", remedy)
    rope = config.get("rope_parameters")  # transformers 5 writes the rotary base here
    rope = rope if isinstance(rope, dict) else {}
    config = {**config, "rope_theta": config.get("rope_theta") or rope.get("rope_theta")}
    if config.get("rope_scaling") or rope.get("rope_type", "default") != "default":
        raise file_error(path, "asks for scaled rotary positions, which this LLM was not trained with.", remedy)
    projector = layout.get("model.vae_projector_image.0.weight")
    if projector is None or projector.dim() != 2:
        raise file_error(folder, "has no model.vae_projector_image.0.weight.", f"Its weights are incomplete. {SOURCE}")
    llama = {name: config[name] for name in NEEDED_FIELDS + OTHER_FIELDS if config.get(name) is not None}
    return MMLLMDims(embed=projector.shape[1], llama=llama, projector_hidden=projector.shape[0])


def _read_tokenizer(folder: Path) -> Tokenizer:
    """From the subfolder ``tokenizer``, or the folder itself: tokenizer.json, or LLaMA's tokenizer.model."""
    place = folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder
    if is_file(file := place / "tokenizer.json"):
        tokenizer = read_tokenizer(file, SOURCE)
    elif is_file(place / "tokenizer.model"):
        tokenizer = _convert_sentencepiece(place)
    else:
        raise file_error(place, "has neither tokenizer.json nor tokenizer.model.", SOURCE)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*SPECIALS, *ADDED_TOKENS)]
    )
    return tokenizer


def _convert_sentencepiece(place: Path) -> Tokenizer:
    try:
        return read_sentencepiece(place / "tokenizer.model")
    except ImportError as error:
        raise file_error(
            place / "tokenizer.model",
            "can only be read with the package sentencepiece, which is not there.",
            f"Install it into the Python that runs ComfyUI: {sys.executable} -m pip install sentencepiece",
        ) from error
    except CheckpointError:
        raise
    # the library raises RuntimeError only, but a damaged model can fail in any way
    except Exception as error:
        raise file_error(
            place / "tokenizer.model", f"cannot be read ({type(error).__name__}).", f"Download it again. {SOURCE}"
        ) from error


def _check_vocabulary(tokenizer: Tokenizer, layout: Mapping[str, Tensor], path: Path) -> None:
    """Every id must have its row in both tables, and the added tokens must stand in the published order."""
    ids = [tokenizer.token_to_id(token) for token in (*SPECIALS, *ADDED_TOKENS)]
    missing = [token for token, found in zip((*SPECIALS, *ADDED_TOKENS), ids, strict=True) if found is None]
    if missing:
        raise file_error(path, f"has a tokenizer that lacks {', '.join(missing)}.", SOURCE)
    added = ids[len(SPECIALS) :]
    if added != list(range(added[0], added[0] + len(added))):
        raise file_error(
            path, "has a tokenizer with the added tokens in another order than the LLM was trained with.", SOURCE
        )
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = layout[key].shape[0] if key in layout else tokenizer.get_vocab_size()
        if rows < tokenizer.get_vocab_size():
            raise file_error(
                path,
                f"has {rows} rows in {key}, its tokenizer {tokenizer.get_vocab_size()} tokens.",
                f"The tokenizer belongs to another LLM. {SOURCE}",
            )
