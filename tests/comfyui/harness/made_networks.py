"""Networks that only tests want: an LLM too slow to wait for, and LoRAs and ControlNets of the miniature UNets'
size."""

import itertools
import json
import math
from pathlib import Path

import torch
from any2pix.loading.diffusion import load_unet
from any2pix.loading.files import META_DIMS, META_TOKENIZER, read_tensors, write_network_file
from any2pix.loading.kinds import KINDS
from any2pix.loading.pix2pix import load_pix2pix_unet
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
SILU_GAIN = 1.7  # keeps the size of what goes through a SiLU
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


class RandomWeights(dict):
    """A state dict of random layers; no gain: an output of about its input's size."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def convolution(self, name: str, channels_in: int, channels_out: int, side: int, gain: float = 1.0) -> None:
        scale = gain / (side * channels_in**0.5)
        self[f"{name}.weight"] = scale * torch.randn(channels_out, channels_in, side, side, generator=self.generator)
        self[f"{name}.bias"] = torch.zeros(channels_out)

    def linear(self, name: str, channels_in: int, channels_out: int, bias: bool = True) -> None:
        self[f"{name}.weight"] = torch.randn(channels_out, channels_in, generator=self.generator) / channels_in**0.5
        if bias:
            self[f"{name}.bias"] = torch.zeros(channels_out)

    def norm(self, name: str, channels: int) -> None:
        self[f"{name}.weight"], self[f"{name}.bias"] = torch.ones(channels), torch.zeros(channels)

    def hint_block(self, width: int, gain: float) -> None:
        channels = [*HINT_CHANNELS, width]
        for place, (channels_in, channels_out) in enumerate(itertools.pairwise(channels)):
            self.convolution(f"input_hint_block.{2 * place}", channels_in, channels_out, side=3, gain=gain)

    def residual_outputs(self, widths: list[int]) -> None:
        """What a ControlNet adds to the UNet's skips and to its middle, which is as wide as the last of them."""
        for place, width in enumerate(widths):
            self.convolution(f"zero_convs.{place}.0", width, width, side=1, gain=CONTROL_SIZE)
        self.convolution("middle_block_out.0", widths[-1], widths[-1], side=1, gain=CONTROL_SIZE)

    def resnet(self, name: str, channels_in: int, channels_out: int, time: int) -> None:
        self.norm(f"{name}.in_layers.0", channels_in)
        self.convolution(f"{name}.in_layers.2", channels_in, channels_out, side=3)
        self.linear(f"{name}.emb_layers.1", time, channels_out)
        self.norm(f"{name}.out_layers.0", channels_out)
        self.convolution(f"{name}.out_layers.3", channels_out, channels_out, side=3)
        if channels_in != channels_out:
            self.convolution(f"{name}.skip_connection", channels_in, channels_out, side=1)

    def transformer(self, name: str, width: int, context: int) -> None:
        """One block with linear projections, as SDXL's."""
        block = f"{name}.transformer_blocks.0"
        self.norm(f"{name}.norm", width)
        for norm in ("norm1", "norm2", "norm3"):
            self.norm(f"{block}.{norm}", width)
        for attention, read in (("attn1", width), ("attn2", context)):
            self.linear(f"{block}.{attention}.to_q", width, width, bias=False)
            for side in ("to_k", "to_v"):
                self.linear(f"{block}.{attention}.{side}", read, width, bias=False)
            self.linear(f"{block}.{attention}.to_out.0", width, width)
        self.linear(f"{block}.ff.net.0.proj", width, 8 * width)
        self.linear(f"{block}.ff.net.2", 4 * width, width)
        for projection in ("proj_in", "proj_out"):
            self.linear(f"{name}.{projection}", width, width)


def skip_widths(config: dict) -> list[int]:
    """Channels of each skip of a UNet, from its first convolution to its last resnet."""
    widths, resnets = list(config["block_out_channels"]), config["layers_per_block"]
    skips = [widths[0]]
    for level, width in enumerate(widths):
        skips += [width] * (resnets + (level < len(widths) - 1))
    return skips


def write_control_lora(path: Path, unet: Path, load=load_unet) -> None:
    """A random ControlNet for a UNet file, as a Control-LoRA: it takes from the UNet what it does not bring itself."""
    _, config = load(unet)
    control = RandomWeights(2)
    control["lora_controlnet"] = torch.zeros(0)
    control.hint_block(config["block_out_channels"][0], CONTROL_SIZE)
    control.residual_outputs(skip_widths(config))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(control, path)


def write_controlnet(path: Path, unet: Path, load=load_pix2pix_unet) -> None:
    """A random ControlNet that brings all its weights and reads the noisy latent alone, 4 channels, whatever the UNet
    reads.

    ComfyUI finds out from the weights how a ControlNet is built, and knows only levels that are whole multiples of its
    first width. Where the UNet's are not, 64, 96 and 128, it is half as wide at the start and has one resnet more
    there; the UNet takes the residuals from the deepest on and leaves the narrow first one.
    """
    _, config = load(unet)
    widths, resnets = list(config["block_out_channels"]), config["layers_per_block"]
    first, context = math.gcd(*widths), config["cross_attention_dim"]
    time = 4 * first
    control = RandomWeights(6)
    for name, channels in (("time_embed", first), ("label_emb.0", config["projection_class_embeddings_input_dim"])):
        control.linear(f"{name}.0", channels, time)
        control.linear(f"{name}.2", time, time)
    control.hint_block(first, SILU_GAIN)
    control.convolution("input_blocks.0.0", config["out_channels"], first, side=3)
    outputs = [first]

    for level, width in enumerate(widths):
        for _ in range(resnets + (level == 0)):
            place = f"input_blocks.{len(outputs)}"
            control.resnet(f"{place}.0", outputs[-1], width, time)
            if level == len(widths) - 1:
                control.transformer(f"{place}.1", width, context)
            outputs.append(width)
        if level < len(widths) - 1:
            control.convolution(f"input_blocks.{len(outputs)}.0.op", width, width, side=3)
            outputs.append(width)
    control.resnet("middle_block.0", widths[-1], widths[-1], time)
    control.residual_outputs(outputs)
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
