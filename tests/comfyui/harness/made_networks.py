"""Networks that only tests want: an LLM too slow to wait for, and a LoRA and a ControlNet of the miniature UNet's size."""

import json
from pathlib import Path

import torch
from any2pix.loading.diffusion import load_unet
from any2pix.loading.files import META_DIMS, META_TOKENIZER, read_tensors, write_network_file
from any2pix.loading.kinds import KINDS
from any2pix.models.mm_llm import MMLLMDims, MultimodalLLM
from any2pix.models.two_view import TwoViewAdapter, TwoViewDims
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
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
LORA_RANK = 4
LORA_SIZE = 0.15  # standard deviation of its matrices: a change to be seen, not a ruin
CONTROL_SIZE = 0.05
TWO_VIEW_STRENGTH = 3.0  # times the usual size of a layer's random weights
HINT_CHANNELS = (3, 16, 16, 32, 32, 96, 96, 256)  # of a ControlNet's hint block, up to the UNet's first width


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


def write_lora(path: Path, unet: Path, load=load_unet) -> None:
    """A random LoRA on the attention of a UNet file, in kohya's format. `load`: what reads the file."""
    generator = torch.Generator().manual_seed(1)
    state_dict, _ = load(unet)
    lora = {}
    for key, weight in state_dict.items():
        if key.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")):
            name = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
            wide, high = weight.shape[1], weight.shape[0]
            lora[f"{name}.lora_down.weight"] = LORA_SIZE * torch.randn(LORA_RANK, wide, generator=generator)
            lora[f"{name}.lora_up.weight"] = LORA_SIZE * torch.randn(high, LORA_RANK, generator=generator)
            lora[f"{name}.alpha"] = torch.tensor(float(LORA_RANK))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(lora, path)


def write_controlnet(path: Path, unet: Path) -> None:
    """A random ControlNet for a UNet file, as a Control-LoRA: it takes from the UNet what it does not bring itself."""
    generator = torch.Generator().manual_seed(2)
    _, config = load_unet(unet)
    widths, resnets = list(config["block_out_channels"]), config["layers_per_block"]
    control = {"lora_controlnet": torch.zeros(0)}

    def convolution(name: str, channels_in: int, channels_out: int, side: int) -> None:
        scale = CONTROL_SIZE / (side * channels_in**0.5)
        control[f"{name}.weight"] = scale * torch.randn(channels_out, channels_in, side, side, generator=generator)
        control[f"{name}.bias"] = torch.zeros(channels_out)

    hint = [*HINT_CHANNELS, widths[0]]
    for place, (channels_in, channels_out) in enumerate(zip(hint, hint[1:])):
        convolution(f"input_hint_block.{2 * place}", channels_in, channels_out, side=3)
    outputs = [widths[0]]
    for level, width in enumerate(widths):
        outputs += [width] * (resnets + (level < len(widths) - 1))
    for place, width in enumerate(outputs):
        convolution(f"zero_convs.{place}.0", width, width, side=1)
    convolution("middle_block_out.0", widths[-1], widths[-1], side=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(control, path)


def write_two_view(path: Path, unet: Path, embed: int) -> None:
    """A random two-view adapter for a UNet file, strong enough that nobody can miss it."""
    _, config = load_unet(unet)
    with torch.device("meta"):
        network = UNet2DConditionModel(**config)
    names = [name.removesuffix(".processor") for name in list(network.attn_processors)[1::2]]
    widths = tuple(network.get_submodule(name).to_k.out_features for name in names)
    torch.manual_seed(3)
    adapter = TwoViewAdapter(TwoViewDims(embed=embed, context=config["cross_attention_dim"], widths=widths))
    with torch.no_grad():
        adapter.image_proj.raw_embed.normal_()
        for layer in adapter.layers:
            layer.to_v_ip.weight.mul_(TWO_VIEW_STRENGTH)
    write_network_file(path, "two_view", adapter.state_dict(), adapter.dims.to_dict())
