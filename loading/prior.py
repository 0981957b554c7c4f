"""Refinement prior files -> `RefinementPrior`: our safetensors, or the published `prior/model.bin`."""

import re
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ..models.prior import PriorDims, RefinementPrior
from .entries import is_file
from .files import build_dims, open_network, open_tokenizer, read_tokenizer, require_tokens
from .kinds import KINDS, count_blocks
from .plan import Plan, Progress
from .sizes import shapes_of
from .strict import fill_constants

# Older transformers stored these constants (causal masks, position counters) beside the weights.
STORED_CONSTANTS = re.compile(r"model\.h\.\d+\.attn\.(bias|masked_bias)|.*\.embeddings\.position_ids")
HEAD_WIDTH = 64  # of every published GPT-2 and of CLIP's text encoders: the number of heads is not in the tensors
TEXT = "cond_stage_models.0.model.text_model."
TOKENS = TEXT + "embeddings.token_embedding.weight"
TOKENIZER_FILE = "tokenizer.json"


def load_prior(
    path: str | Path,
    operations=torch.nn,
    device="cpu",
    dtype: torch.dtype | None = None,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> RefinementPrior:
    """The prior of a file, ready to refine. The sizes come from the metadata, or from the shapes.

    `dtype` of the weights; None: float32. `tokenizer`: our files bring their own; the published one does not, so give
    CLIP's, or put its tokenizer.json next to the file, or do without texts.
    """
    plan = plan_prior(path)
    dims = build_dims(PriorDims, plan.dims, path)
    network = plan.build(lambda: RefinementPrior(dims, operations))
    plan.fill(network, dtype or torch.float32, progress)
    fill_constants(network)
    network.tokenizer = _own_tokenizer(plan.tokenizer_json, Path(path)) or tokenizer
    require_tokens(path, network.tokenizer, plan.layout[TOKENS].shape[0])
    return network.to(device=device, dtype=dtype or torch.float32).eval().requires_grad_(False)


def plan_prior(path: str | Path) -> Plan:
    """What of the file goes into the network; the constants that old versions of transformers stored do not."""
    plan = open_network(path, "prior")
    plan = plan.without([key for key in plan.names if STORED_CONSTANTS.fullmatch(key)])
    return plan if plan.dims else replace(plan, dims=prior_dims(plan.layout, path).to_dict())


def prior_dims(tensors: dict[str, Tensor], path: str | Path) -> PriorDims:
    """The sizes that the shapes of a published state dict imply."""
    with shapes_of(path, "It is cut short, or of another release: download it again."):
        width, embed = tensors["input_sequence_embed_linear.1.weight"].shape
        vocab, positions = tensors["model.wte.weight"].shape[0], tensors["model.wpe.weight"].shape[0]
        return PriorDims(
            embed=embed,
            width=width,
            layers=count_blocks(tensors, "model.h."),
            heads=max(1, width // HEAD_WIDTH),
            score_features=tensors["input_sequence_embed_linear.3.weight"].shape[1],
            clip=_clip_dims(tensors),
            modalities=tensors["modality_embedding.weight"].shape[0],
            positions=positions,
            vocab=vocab,
        )


def _clip_dims(tensors: dict[str, Tensor]) -> dict:
    vocab, width = tensors[TOKENS].shape
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": tensors[TEXT + "encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": count_blocks(tensors, TEXT + "encoder.layers."),
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "max_position_embeddings": tensors[TEXT + "embeddings.position_embedding.weight"].shape[0],
        "hidden_act": PriorDims.published().clip["hidden_act"],
        "bos_token_id": vocab - 2,  # CLIP's vocabulary ends with its start and its end token
        "eos_token_id": vocab - 1,
    }


def _own_tokenizer(tokenizer_json: str | None, path: Path) -> Tokenizer | None:
    if tokenizer_json is not None:
        return open_tokenizer(tokenizer_json, path, KINDS["prior"].source)
    beside = path.parent / TOKENIZER_FILE
    if not is_file(beside):
        return None
    return read_tokenizer(beside, "Download CLIP's again, or remove it.")
