"""What every test shares: where things lie, and a say-so at the end about tests that could not run."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# one thread: the tests share their machine with the ComfyUI server that they drive
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


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
            num_attention_heads=width // 16, max_position_embeddings=length, bos_token_id=tokens - 2, eos_token_id=tokens - 1,
        )  # fmt: skip
        state_dict = TextEncoder(dims).state_dict()
        write_network_file(path, "text_encoder", state_dict, dims.to_dict(), tokenizer.to_str(), **options)

    return write


def pytest_terminal_summary(terminalreporter) -> None:
    """Skipped tests are easy to overlook: name each reason once, in plain sight."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple)}
    if reasons:
        terminalreporter.section(f"{len(skipped)} TESTS DID NOT RUN", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)
