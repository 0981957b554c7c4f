"""What the refinement prior is given: a source, a prompt, the ids of its words."""

import torch

from . import seeded

SEED = 21
INPUT_NORM = 100.0  # the released pipeline's
PROMPT = "a cat in the rain"
START, END = 49406, 49407
WORD_IDS = {word: 1000 + 7 * index for index, word in enumerate(PROMPT.split())}
SIZES = {
    "small": dict(embed=64, width=64, layers=3, heads=4, clip_width=32, clip_layers=2, clip_heads=2),
    "wide": dict(embed=1024, width=1024, layers=2, heads=16, clip_width=1024, clip_layers=2, clip_heads=16),
}


def clip_arguments(size: dict) -> dict:
    """Arguments of CLIPTextConfig; the rest is as in CLIP ViT-H/14."""
    return {
        "vocab_size": 49408,
        "hidden_size": size["clip_width"],
        "intermediate_size": 4 * size["clip_width"],
        "num_hidden_layers": size["clip_layers"],
        "num_attention_heads": size["clip_heads"],
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
        "bos_token_id": START,
        "eos_token_id": END,
    }


def source_embedding(embed: int) -> torch.Tensor:
    """(1, embed), of length INPUT_NORM."""
    embedding = seeded.draw("prior input", (1, embed), SEED)
    return embedding / embedding.norm() * INPUT_NORM
