"""ComfyUI in this very process, on the CPU, and small random networks in its model folders."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import workspace
from harness.coroutines import result_of

COMFYUI = workspace.comfyui_path()
IS_THERE = (COMFYUI / "main.py").is_file()
# test_comfyui_is_there.py then fails
collect_ignore_glob = [] if IS_THERE else ["test_*_nodes.py", "test_node_*.py", "fuzz/*"]


if IS_THERE:
    workspace.import_comfyui()  # before any test module imports a node
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True, params=["as_it_is", "dynamic_vram"])
def host(request):
    """Every test of this folder runs twice: on the host as it is, and with its layers and patchers as dynamic VRAM has
    them."""
    if request.param == "as_it_is":
        yield None
        return
    import folder_paths
    from harness.dynamic_vram import dynamic_vram

    shutil.rmtree(Path(folder_paths.models_dir, "any2pix"), ignore_errors=True)  # what the first run's tests wrote
    folder_paths.filename_list_cache.clear()
    with dynamic_vram() as lent:
        yield lent


def pytest_collection_modifyitems(config, items):
    """What is marked one_host has nothing to do with weights, and runs once."""
    once = [item for item in items if item.get_closest_marker("one_host") and "dynamic_vram" in item.name]
    if once:
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if item not in once]


@pytest.fixture(autouse=True)
def weights_are_given_back(host):
    """With dynamic VRAM a weight that an operation keeps stays on the card for good."""
    yield
    if host is not None:
        kept, asked = list(host.out), list(host.never_given_back)
        host.out.clear()
        host.never_given_back.clear()
        assert not kept, f"{len(kept)} weights were lent and not given back"
        assert not asked, f"cast_bias_weight(offloadable=False) lends weights for good: {asked}"


@pytest.fixture(scope="session")
def tiny(host):
    """Folder kind -> file name: one random network of each kind, in the model folders."""
    import folder_paths
    from any2pix.loading.kinds import KINDS
    from any2pix.nodes import comfy_entrypoint

    result_of(comfy_entrypoint())
    for kind, write in TINY_WRITERS.items():
        folder = Path(folder_paths.models_dir, KINDS[kind].folder)
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "tiny.safetensors")
    write_vae(Path(folder_paths.models_dir, KINDS["unet"].folder, "vae.safetensors"))
    return "tiny.safetensors"


def write_unet(path: Path) -> None:
    from any2pix.loading.files import write_network_file
    from any2pix.models.diffusion import DiffusionDims
    from diffusers import UNet2DConditionModel

    dims = DiffusionDims(
        widths=(64, 96, 96), transformers=(0, 1, 1), resnets=1, head_width=16, context=48, pooled=32, sample_size=16
    )
    torch.manual_seed(1)
    unet = UNet2DConditionModel(**dims.unet_config())
    with torch.no_grad():  # a smooth network, as a trained one is: the fixed point of the inversion then attracts
        unet.conv_out.weight.mul_(0.02)
    write_network_file(path, "unet", unet.state_dict(), dims.unet_config())


def write_vae(path: Path) -> None:
    from any2pix.loading.files import write_network_file
    from any2pix.models.autoencoder import Autoencoder, AutoencoderDims

    dims = AutoencoderDims(widths=(32, 32, 64), blocks=1, patch=2)
    torch.manual_seed(2)
    write_network_file(path, "vae", Autoencoder(dims).state_dict(), asdict(dims))


def write_adapter(path: Path) -> None:
    from any2pix.loading.files import write_network_file
    from any2pix.models.adapter import UnclipDims, UnclipProjector

    dims = UnclipDims(embed=64, hidden=32, context=48, pooled=32, pooled_in=16)
    torch.manual_seed(3)
    write_network_file(path, "adapter", UnclipProjector(dims).state_dict(), dims.to_dict())


def write_imagebind(path: Path) -> None:
    from any2pix.loading.files import write_network_file
    from any2pix.models.imagebind import ImageBind, ImageBindDims
    from any2pix.training.clip_tokenizer import train_clip_tokenizer

    tokenizer = train_clip_tokenizer(["a cat in the meadow", "a red balloon", "rain on the beach"], 540)
    dims = ImageBindDims(
        embed=64,
        vision_width=32,
        vision_blocks=1,
        vision_heads=2,
        audio_width=32,
        audio_blocks=1,
        audio_heads=2,
        text_width=32,
        text_blocks=1,
        text_heads=2,
        image_size=32,
        patch=16,
        audio_stride=16,
        text_context=16,
        text_vocab=tokenizer.get_vocab_size(),
    )
    torch.manual_seed(4)
    write_network_file(path, "imagebind", ImageBind(dims).state_dict(), dims.to_dict(), tokenizer.to_str())


def write_prior(path: Path) -> None:
    from any2pix.loading.files import write_network_file
    from any2pix.models.prior import PriorDims, RefinementPrior
    from any2pix.training.clip_tokenizer import train_clip_tokenizer

    tokenizer = train_clip_tokenizer(["a cat in the meadow"], 520)
    vocabulary = tokenizer.get_vocab_size()
    clip = {"vocab_size": vocabulary, "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    clip |= {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    dims = PriorDims(embed=64, width=32, layers=1, heads=2, clip={**clip, "max_position_embeddings": 16})
    torch.manual_seed(5)
    write_network_file(path, "prior", RefinementPrior(dims).state_dict(), dims.to_dict(), tokenizer.to_str())


def write_llm(path: Path) -> None:
    from any2pix.loading.files import write_network_file
    from any2pix.models.mm_llm import MMLLMDims, MultimodalLLM
    from any2pix.training.llm_tokenizer import build_tokenizer

    tokenizer = build_tokenizer(["add a cat to the meadow", "make it rain"] * 5, 700)
    llama = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
    }
    llama |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512}
    dims = MMLLMDims(embed=64, llama=llama, projector_hidden=32)
    torch.manual_seed(6)
    write_network_file(path, "llm", MultimodalLLM(dims).state_dict(), asdict(dims), tokenizer.to_str())


def write_pix2pix(path: Path) -> None:
    from any2pix.loading.files import write_network_file
    from harness.pix2pix_models import pix2pix_unet

    unet = pix2pix_unet("sdxl")
    write_network_file(path, "pix2pix", unet.state_dict(), dict(unet.config))


TINY_WRITERS = {
    "unet": write_unet,
    "adapter": write_adapter,
    "imagebind": write_imagebind,
    "prior": write_prior,
    "llm": write_llm,
    "pix2pix": write_pix2pix,
}


def run(node, **inputs):
    """One node as ComfyUI runs it: its outputs as a tuple."""
    import torch

    with torch.inference_mode():
        return node.execute(**inputs).result


@pytest.fixture(name="run", scope="session")
def run_fixture():
    return run


@pytest.fixture(scope="session")
def networks(tiny):
    """The outputs of all loaders, by socket."""
    import any2pix.nodes as pack

    loaders = {"imagebind": pack.LoadImageBind, "prior": pack.LoadPrior, "adapter": pack.LoadAdapter}
    loaded = {kind: run(node, name=tiny)[0] for kind, node in loaders.items()}
    loaded["llm"] = run(pack.LoadLLM, name=tiny, precision="auto")[0]
    loaded["model"], loaded["vae"] = run(pack.LoadDiffusion, name=tiny)
    return loaded


@pytest.fixture(scope="session")
def two_view_file(tiny):
    """A random two-view adapter for the tiny UNet, strong enough to be seen, in the model folder."""
    import folder_paths
    from any2pix.loading.files import write_network_file
    from any2pix.models.two_view import TwoViewAdapter, TwoViewDims

    torch.manual_seed(11)
    adapter = TwoViewAdapter(TwoViewDims(embed=64, context=48, widths=(96,) * 7))
    with torch.no_grad():
        adapter.image_proj.raw_embed.normal_()
        for layer in adapter.layers:
            layer.to_v_ip.weight.mul_(3)
    path = f"{folder_paths.models_dir}/any2pix/adapter/two_view.safetensors"
    write_network_file(path, "two_view", adapter.state_dict(), adapter.dims.to_dict())
    return path


@pytest.fixture(scope="session")
def two_view(two_view_file):
    from harness.unet_eps import load_network

    return load_network(two_view_file)


@pytest.fixture(scope="session")
def texts():
    """Positive and negative CONDITIONING of texts of 77 tokens."""
    from harness.unet_eps import seeded

    return [[[seeded(1, 77, 48, seed=seed), {"pooled_output": seeded(1, 32, seed=seed + 5)}]] for seed in (30, 31)]


@pytest.fixture(scope="session")
def model(networks):
    return networks["model"]


@pytest.fixture(scope="session")
def vectors():
    """Three embeddings."""
    from any2pix.nodes.sockets import Embedding
    from harness.unet_eps import seeded

    return [Embedding(seeded(64, seed=seed)) for seed in (20, 21, 22)]


@pytest.fixture(scope="session")
def latents():
    from harness.unet_eps import seeded

    return seeded(2, 4, 6, 9, seed=40)


@pytest.fixture(scope="session")
def apply(networks, two_view, texts):
    """Apply Embedding on the tiny model and texts with the two-view adapter -> MODEL, positive, negative."""
    from any2pix.nodes import ApplyEmbedding

    widgets = {"scale": 0.9, "start_percent": 0.0, "end_percent": 1.0, "local_strength": 0.7}

    def applied(embedding, **changes):
        inputs = {"model": networks["model"], "adapter": two_view, "positive": texts[0], "negative": texts[1]}
        return run(ApplyEmbedding, **{**inputs, "embedding": embedding, **widgets, **changes})

    return applied
