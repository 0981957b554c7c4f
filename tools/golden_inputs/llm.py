"""What the LLM is given and made to say.

A network of random weights answers nonsense, so ``lead`` adds to lm_head what makes it say ANSWER: both sides compute
that from their own hidden states, and the greedy decoding then walks through every branch of the answer's format.
"""

import torch
from torch import Tensor

from . import seeded

SEED = 22
TOKENIZER = seeded.FOLDER / "tokenizer"
EMBED = 1024
SIZES = {
    "small": dict(hidden_size=128, intermediate_size=320, num_hidden_layers=3, num_attention_heads=4, hidden=128),
    "wide": dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=1, num_attention_heads=32, hidden=4096),
}
INSTRUCTIONS = (
    "add <video> to <video>",
    "<video> in the snow, please",
    "make <video>rainy.",
    "mix <video><video>!",
    "Remove the cat (it's black) from <video>",
    "no picture at all",
)
INSTRUCTION = INSTRUCTIONS[0]
ANSWER = (
    "Here it is.<base><video><im_gen_start><im_gen>[a cat in the rain]<video>additions:cat:<video>.rain:<video>.</s>"
)
LEAD = 30.0  # added to the logit of the wanted token
FREE_TOKENS = 32  # of the greedy run on the untouched lm_head


def llama_arguments(size: dict, vocabulary: int) -> dict:
    """Arguments of LlamaConfig, as in Vicuna-7B-v1.5 where the size does not say otherwise."""
    chosen = {name: value for name, value in size.items() if name != "hidden"}
    heads = size["num_attention_heads"]
    return {"vocab_size": vocabulary, "num_key_value_heads": heads, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, **chosen}  # fmt: skip


def references() -> Tensor:
    """(2, EMBED): a picture's embedding of norm 1 and a sound's of norm 20."""
    drawn = seeded.draw("references", (2, EMBED), SEED)
    return drawn / drawn.norm(dim=1, keepdim=True) * torch.tensor([[1.0], [20.0]])


def lead(head: Tensor, states: Tensor, tokens: list[int]) -> Tensor:
    """lm_head (V, W) that gives token i the logit LEAD on top at state i of ``states`` (N, W), N <= W."""
    wanted = torch.zeros(len(tokens), len(head), dtype=torch.float64)
    wanted[torch.arange(len(tokens)), torch.tensor(tokens)] = LEAD
    return (head.double() + (torch.linalg.pinv(states.double()) @ wanted).T).float()
