"""Full-size networks on a pretended card: where every layer computes, and that the bytes counted are those of a real
run."""

import subprocess
import sys

import pytest
import torch

COUNTED = 0.15  # how far the count may lie from torch's profiler; the CPU's attention kernels have scratch of their own


@pytest.fixture
def card(tiny):
    from pretend_card import PretendCard

    return PretendCard


def vision_part():
    """ImageBind's vision at its real width, two blocks of it, on a picture of the real size."""
    from dataclasses import replace

    from any2pix.models.imagebind import ImageBind, ImageBindDims
    from any2pix.nodes.host.networks import OPERATIONS

    dims = replace(ImageBindDims.published(), vision_blocks=2, text_blocks=1, audio_blocks=1, text_vocab=64)
    return ImageBind(dims, OPERATIONS), lambda module, device: module.encode_image(
        torch.zeros(1, 3, 224, 224, device=device)
    )


def language_part():
    """The LLM at its real width, one block of it, reading 128 tokens."""
    from any2pix.models.mm_llm import MMLLMDims, MultimodalLLM
    from any2pix.nodes.host.networks import OPERATIONS

    llama = {**MMLLMDims.published().llama, "num_hidden_layers": 1, "vocab_size": 512}
    dims = MMLLMDims(embed=1024, llama=llama, projector_hidden=64)
    return MultimodalLLM(dims, OPERATIONS), lambda module, device: module(
        torch.zeros(1, 128, dtype=torch.long, device=device)
    )


PARTS = {"vision": vision_part, "language": language_part}


def profiled_peak(run) -> int:
    """The most bytes that a call has in use at once on the CPU, beyond what was there before, by torch's profiler."""
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        run()
    now = peak = 0
    for event in profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.one_host  # the tests' own dynamic VRAM lends copies, which count
@pytest.mark.parametrize("part", PARTS)
def test_the_bytes_counted_are_those_of_a_real_run(card, part):
    from any2pix.nodes.host.networks import wrap_network
    from pretend_card import CARD

    with torch.inference_mode():
        module, run = PARTS[part]()
        run(module.eval(), "cpu")  # the first call makes caches of its own
        real = profiled_peak(lambda: run(module, "cpu"))
        del module
        with card(64 * 2**30) as pretended:
            module, run = PARTS[part]()
            loaded = wrap_network(module).load()
            before = pretended.counter.reset_peak()
            run(loaded, CARD)
            counted = pretended.counter.peak - before
    assert counted == pytest.approx(real, rel=COUNTED)


def test_a_layer_that_stayed_beside_the_card_uncast_is_an_error(card):
    """What the pretended card is for: networks of plain torch layers fail on it in a partial load."""
    from any2pix.models.adapter import UnclipDims, UnclipProjector
    from any2pix.nodes.host.networks import OPERATIONS, wrap_network
    from pretend_card import CARD

    with torch.inference_mode(), card(int(1.3 * 2**30)):
        vector = torch.zeros(1, 1024, device=CARD)
        for operations in (OPERATIONS, torch.nn):
            network = wrap_network(UnclipProjector(UnclipDims.published(), operations))
            network.module.projector_unclip[0].to(CARD)
            if operations is OPERATIONS:
                assert network.module(vector)[0].device == CARD
            else:
                with pytest.raises(RuntimeError, match="two different devices"):
                    network.module(vector)


@pytest.mark.one_host
def test_the_committed_page_is_what_the_code_gives(root):
    """Runs the whole chain at full size on its pretended cards: half a minute of computing."""
    done = subprocess.run(
        [sys.executable, root / "tools" / "memory_table.py", "--check"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
