"""Train the instruction LLM on Toyland, in the paper's two stages: python -m any2pix.training.train_llm.

Stage 1 trains the projector, the predictor and the input and output layers, stage 2 everything; both on cross entropy
of the answer + ||H_base - F(X_base)||^2 + ||H_gen - F(Y)||^2. ImageBind (F) is frozen and must be trained first.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from tokenizers import Tokenizer
from torch import nn

from ..datagen.instructions import sample_edit
from ..datagen.toyland import caption
from ..loading.files import write_network_file
from ..loading.imagebind import load_imagebind
from ..loading.llm import META_TOKENS, load_llm
from ..miniature import manifest
from ..models.mm_llm import LLMBatch, MMLLMDims, MultimodalLLM
from ..stages.any2pix.marks import MARK_PATTERN
from ..stages.any2pix.prompt import ADDITIONS, BOS, EOS
from .command import network_file, run_command
from .digests import fingerprint
from .llm_bank import embed_text, embedding_bank
from .llm_samples import ExampleMaker, collate
from .llm_scores import by_modality, held_out_scores
from .llm_tokenizer import UNK, build_tokenizer
from .loop import fit
from .loop_config import LoopConfig
from .recipe_files import read_section
from .recipe_types import LLMModel, LLMRecipe

logger = logging.getLogger(__name__)

STAGE_1 = ("model.vae_projector_image.", "model.vae_predictor_image.", "model.embed_tokens.", "lm_head.")


def toyland_texts(samples: int, seed: int) -> Iterator[str]:
    """Texts as the tokenizer will get them: what is between marks, captions in brackets, additions."""
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        sample = sample_edit(rng)
        yield from MARK_PATTERN.sub("\n", sample.instruction).split("\n")
        yield from (spec.label for spec in sample.references)
        yield f"[{caption(sample.target)}]"
        yield from (f"{ADDITIONS}{name}:" for name, _ in sample.subjects)


def build_llm(sizes: LLMModel, tokenizer: Tokenizer, embed: int) -> MultimodalLLM:
    llama = {**sizes.llama, "vocab_size": tokenizer.get_vocab_size()}
    dims = MMLLMDims(embed=embed, llama=llama, projector_hidden=sizes.projector_hidden, merge=sizes.merge)
    llm = MultimodalLLM(dims)
    llm.tokenizer = tokenizer
    return llm


def choose_trainable(llm: nn.Module, prefixes: tuple[str, ...] | None) -> None:
    """Train the parameters under ``prefixes`` only; None trains everything."""
    for name, parameter in llm.named_parameters():
        parameter.requires_grad_(prefixes is None or name.startswith(prefixes))


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train both stages, write ``out``/llm.safetensors and score what was written on held-out edits."""
    recipe = read_section(LLMRecipe, config)
    work, out, data = Path(work), Path(out), recipe.data
    stages = {
        "llm-stage1": (STAGE_1, read_section(LoopConfig, {**recipe.loop, **recipe.llm_stage1}, "llm-stage1")),
        "llm-stage2": (None, read_section(LoopConfig, {**recipe.loop, **recipe.llm_stage2}, "llm-stage2")),
    }
    weights = network_file(out, manifest.IMAGEBIND)
    imagebind = load_imagebind(weights)
    bank = embedding_bank(imagebind, weights, work, data.families, data.takes, data.seed)
    torch.manual_seed(data.seed)
    tokenizer = build_tokenizer(toyland_texts(data.tokenizer_samples, data.seed), recipe.model.vocab_size)
    llm = build_llm(recipe.model, tokenizer, imagebind.dims.embed)
    maker = ExampleMaker(bank, tokenizer, partial(embed_text, imagebind), recipe.wordings)

    def make_batch(size: int, step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        return vars(collate([maker.example(rng) for _ in range(size)], tokenizer.token_to_id(EOS)))

    def loss(module: MultimodalLLM, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return module.training_loss(LLMBatch(**batch), recipe.loss.embedding_loss, recipe.loss.embedding_weight)

    made_from = fingerprint(config, [weights])
    for name, (prefixes, loop) in stages.items():
        choose_trainable(llm, prefixes)
        llm = fit(name, llm, partial(make_batch, loop.batch_size), loss, loop, work, made_from).module
    if not PartialState().is_main_process:
        return {}
    names = {"pad": EOS, "bos": BOS, "eos": EOS, "unk": UNK}
    extra = {META_TOKENS: json.dumps({name: tokenizer.token_to_id(token) for name, token in names.items()})}
    write_network_file(
        out / manifest.LLM, "llm", llm.state_dict(), llm.dims.to_dict(), tokenizer.to_str(), extra, torch.float16
    )
    llm = load_llm(out / manifest.LLM, dtype=torch.float32)
    wanted = asdict(recipe.scores)
    scores = held_out_scores(llm, imagebind, **wanted) | by_modality(llm, imagebind, **wanted)
    logger.info("held out: %s", json.dumps(scores))
    return scores


if __name__ == "__main__":
    run_command(train, "llm")
