"""One small published file or folder of every kind, in the layouts of the release, for any test of this room."""

import json
from dataclasses import replace

import pytest
import torch
from any2pix.loading.imagebind import ImageBindDims
from any2pix.models.adapter import UnclipDims, UnclipProjector
from any2pix.models.diffusion import DiffusionDims
from any2pix.models.imagebind import ImageBind
from any2pix.models.mm_llm import MMLLMDims, MultimodalLLM
from any2pix.models.prior import PriorDims, RefinementPrior
from any2pix.models.two_view import TwoViewAdapter, TwoViewDims
from any2pix.training.llm_tokenizer import build_tokenizer
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

OTHERS = {  # of the published ImageBind, and not ours
    "modality_preprocessors.depth.cls_token": torch.zeros(1, 1, 4),
    "modality_trunks.imu.blocks.0.norm_1.weight": torch.zeros(4),
    "modality_heads.thermal.0.weight": torch.zeros(4),
    "modality_postprocessors.depth.1.log_logit_scale": torch.zeros(()),
}
IMAGEBIND = replace(
    ImageBindDims.published(),
    embed=8,
    vision_width=32,
    vision_blocks=2,
    audio_width=24,
    audio_blocks=1,
    text_width=16,
    text_blocks=1,
    text_vocab=60,
    image_size=28,
)
# Heads of 64, as every published GPT-2 and CLIP has them: their number is not in the tensors.
CLIP = {
    "vocab_size": 20,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "max_position_embeddings": 12,
    "hidden_act": "gelu",
    "bos_token_id": 18,
    "eos_token_id": 19,
}
PRIOR = PriorDims(embed=64, width=64, layers=2, heads=1, score_features=16, clip=CLIP, positions=40, vocab=5)
UNCLIP = UnclipDims(embed=8, hidden=12, context=48, pooled=32, pooled_in=7)
TWO_VIEW = TwoViewDims(embed=8, context=48, widths=(96, 96, 64))
UNET = DiffusionDims(
    widths=(64, 96), transformers=(0, 1), resnets=1, head_width=16, context=48, pooled=32, sample_size=16
)
LLAMA = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
    max_position_embeddings=64, rms_norm_eps=1e-5,
)  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer(["add a cat to the meadow in the rain", "[a cat]"] * 3, 700)


@pytest.fixture(scope="session")
def llm(tokenizer):
    torch.manual_seed(0)
    llama = dict(vocab_size=tokenizer.get_vocab_size(), **LLAMA)
    return MultimodalLLM(MMLLMDims(embed=8, llama=llama, projector_hidden=16)).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def publish():
    """A function that writes the layout of the published LLM's folder, with the parts that this method skips."""
    return write_llm


@pytest.fixture
def small_is_published(monkeypatch):
    """Heads and strides leave no trace in a published ImageBind; let its loader take those of the small one."""
    monkeypatch.setattr(ImageBindDims, "published", classmethod(lambda cls: IMAGEBIND))


@pytest.fixture(scope="session")
def networks(llm):
    """Kind -> a small random network; "unet" is diffusers' own."""
    torch.manual_seed(1)
    made = {
        "imagebind": ImageBind(IMAGEBIND),
        "llm": llm,
        "prior": RefinementPrior(PRIOR),
        "adapter": UnclipProjector(UNCLIP),
        "two_view": TwoViewAdapter(TWO_VIEW),
        "unet": UNet2DConditionModel(**UNET.unet_config()),
    }
    return {kind: network.eval().requires_grad_(False) for kind, network in made.items()}


@pytest.fixture(scope="session")
def published_files(networks, tokenizer, tmp_path_factory):
    """Kind -> the file or folder as the release has it."""
    root = tmp_path_factory.mktemp("published")
    state = {kind: network.state_dict() for kind, network in networks.items()}
    paths = {
        "imagebind": root / "imagebind_huge.pth",
        "llm": write_llm(root / "llm-retrained", networks["llm"], tokenizer),
        "prior": root / "model.bin",
        "adapter": root / "unclip.bin",
        "two_view": root / "ip_adapter_global_local_2_view.bin",
        "unet": root / "unet",
    }
    torch.save({**state["imagebind"], **OTHERS}, paths["imagebind"])
    torch.save(state["prior"], paths["prior"])
    torch.save(state["adapter"], paths["adapter"])
    torch.save(_nested(state["two_view"]), paths["two_view"])
    write_unet(paths["unet"], {**state["unet"], **state["adapter"]})
    return paths


def write_unet(folder, state_dict):
    """The first release's folder: diffusers' names, the authors' class in the config, the projectors inside."""
    folder.mkdir()
    config = {"_class_name": "UnCLipXL", "_diffusers_version": "0.26.3", **UNET.unet_config()}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {key: value.contiguous() for key, value in state_dict.items()}, folder / "diffusion_pytorch_model.safetensors"
    )


def write_llm(folder, llm, tokenizer, shards=2, kind="bin", config=None):
    folder.mkdir()
    state = {**llm.state_dict(), "model.vision_tower.x": torch.zeros(2), "model.mm_projector.0.weight": torch.zeros(2)}
    state |= {
        "model.vae_projector_audio.0.weight": torch.zeros(3),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
    }
    names, stem = sorted(state), "pytorch_model" if kind == "bin" else "model"
    weight_map = {}
    for shard in range(shards):
        file = f"{stem}-{shard + 1:05d}-of-{shards:05d}.{kind}" if shards > 1 else f"{stem}.{kind}"
        part = {name: state[name].clone() for name in names[shard::shards]}
        torch.save(part, folder / file) if kind == "bin" else save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    if shards > 1:
        (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    extra = {"model_type": "instructany2pix", "torch_dtype": "bfloat16", "rope_scaling": None, "mm_vision_tower": "x"}
    (folder / "config.json").write_text(json.dumps({**llm.dims.llama, **extra, **(config or {})}))
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    return folder


def _nested(state_dict):
    """{"image_proj": {...}, "ip_adapter": {...}}, as IP-Adapter's training script writes it."""
    nested = {"image_proj": {}, "ip_adapter": {}}
    for key, value in state_dict.items():
        root, _, rest = key.partition(".")
        nested[root][rest] = value
    return nested
