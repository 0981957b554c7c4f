"""Networks that only tests want: an LLM too slow to wait for."""

import json
from pathlib import Path

import torch
from any2pix.loading.files import META_DIMS, META_TOKENIZER, read_tensors, write_network_file
from any2pix.loading.kinds import KINDS
from any2pix.models.mm_llm import MMLLMDims, MultimodalLLM
from tokenizers import Tokenizer

SLOW_NAME = "slow.safetensors"
SLOW_LLAMA = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 4096,
}


def write_slow_llm(models: Path, like: Path) -> tuple[str, float]:
    """A random LLM that takes tens of milliseconds a token and never ends, with the tokenizer of the LLM file `like`.

    Returns its name for the loader and its size in memory, in megabytes.
    """
    _, metadata = read_tensors(like)
    tokenizer = Tokenizer.from_str(metadata[META_TOKENIZER])
    llama = {**SLOW_LLAMA, "vocab_size": tokenizer.get_vocab_size()}
    torch.manual_seed(0)
    llm = MultimodalLLM(MMLLMDims(json.loads(metadata[META_DIMS])["embed"], llama, projector_hidden=64))
    path = models / KINDS["llm"].folder / SLOW_NAME
    write_network_file(path, "llm", llm.state_dict(), llm.dims.to_dict(), tokenizer.to_str())
    return SLOW_NAME, sum(weight.numel() * weight.element_size() for weight in llm.parameters()) / 2**20
