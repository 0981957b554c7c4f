"""What every test shares: where things lie, and a say-so at the end about tests that could not run."""

import os
from pathlib import Path

import pytest

# Tests that mostly wait for a browser. Another one beside it runs as well, in the process of the server's.
OF_THE_PAGE = tuple(
    f"tests/comfyui/test_{name}" for name in ("blueprints", "front_end", "loader_texts", "page_layout", "workflows")
)
ROOT = Path(__file__).resolve().parent.parent

# one thread: the tests share their machine with the ComfyUI server that they drive
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`make test` has two processes, and what a test needs is set up in one of them: a server, a server with a browser,
    a host."""
    from xdist.scheduler import LoadScopeScheduling

    class ByWhatIsShared(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            """Tests of one scope run in one process, one after the other."""
            if nodeid.startswith("tests/comfyui/"):
                return "browser" if nodeid.startswith(OF_THE_PAGE) else "server"
            if nodeid.startswith("tests/nodes/"):
                return "dynamic_vram" if "dynamic_vram" in nodeid.partition("[")[2] else "as_it_is"
            return nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # else the many quick tests go first, and the server's alone are left
    return ByWhatIsShared(config, log)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope="session")
def write_text_encoder():
    """A function that writes a small random text encoder as the miniature's is written."""
    from any2pix.loading.files import write_network_file
    from any2pix.models.text_encoder import TextEncoder, TextEncoderDims
    from any2pix.training.clip_tokenizer import train_clip_tokenizer

    def write(path, width, length, texts=("a cat in the meadow",), **options):
        tokenizer = train_clip_tokenizer(list(texts), 540)
        tokens = tokenizer.get_vocab_size()
        dims = TextEncoderDims(
            vocab_size=tokens, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
            num_attention_heads=width // 16, max_position_embeddings=length, bos_token_id=tokens - 2,
            eos_token_id=tokens - 1,
        )  # fmt: skip
        state_dict = TextEncoder(dims).state_dict()
        write_network_file(path, "text_encoder", state_dict, dims.to_dict(), tokenizer.to_str(), **options)

    return write


@pytest.fixture(scope="session")
def write_sdxl_pipeline():
    """A function that saves a small random SDXL pipeline as diffusers does, and returns it."""
    import torch
    from any2pix.models.diffusion import DiffusionDims
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    def write(folder, tokenizer, length):
        """`tokenizer`: a folder with CLIP's vocab.json and merges.txt; `length`: tokens that the encoders read."""
        torch.manual_seed(5)
        first, second = (
            CLIPTokenizer.from_pretrained(tokenizer, pad_token=padding, model_max_length=length)
            for padding in ("<|endoftext|>", "!")
        )
        sizes = {
            "vocab_size": len(first),
            "max_position_embeddings": length,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
        }
        sizes |= {"bos_token_id": len(first) - 2, "eos_token_id": len(first) - 1}
        small, large = (
            CLIPTextConfig(
                **sizes, hidden_size=width, projection_dim=width, intermediate_size=2 * width, hidden_act=act
            )
            for width, act in ((16, "quick_gelu"), (32, "gelu"))
        )
        dims = DiffusionDims((32, 64), (0, 1), 1, 16, context=16 + 32, pooled=32, sample_size=16)
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        pipeline = StableDiffusionXLPipeline(
            vae=AutoencoderKL(block_out_channels=(32,) * 4, **blocks, scaling_factor=0.13025),
            text_encoder=CLIPTextModel(small).eval(),
            text_encoder_2=CLIPTextModelWithProjection(large).eval(),
            tokenizer=first,
            tokenizer_2=second,
            unet=UNet2DConditionModel(**dims.unet_config()),
            scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            add_watermarker=False,
        )
        pipeline.save_pretrained(folder)
        return pipeline

    return write


def pytest_terminal_summary(terminalreporter) -> None:
    """Skipped tests are easy to overlook: name each reason once, in plain sight."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple)}
    if reasons:
        terminalreporter.section(f"{len(skipped)} TESTS DID NOT RUN", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)
