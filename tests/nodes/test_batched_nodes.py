"""Batches of pictures and sounds go through ImageBind together; drawn answers repeat for a seed."""

import any2pix.nodes as pack
import any2pix.nodes.embed as embed
import pytest
import torch

SECOND = 16_000


@pytest.fixture(autouse=True)
def like_a_gpu(monkeypatch):
    """On the CPU passes are small."""
    monkeypatch.setattr(embed, "items_at_once", lambda device: 16)


@pytest.fixture
def passes(networks):
    """How many items each pass through a trunk held, from now on."""
    seen = []
    hooks = [
        networks["imagebind"]
        .module.modality_trunks[kind]
        .register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
        for kind in ("vision", "audio")
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def test_a_batch_of_pictures_is_one_pass_and_gives_what_each_gives_alone(run, networks, passes):
    pictures = torch.rand(5, 40, 56, 3, generator=torch.Generator().manual_seed(1))
    (together,) = run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=pictures)
    assert passes == [5]
    for picture, reference in zip(pictures, together, strict=True):
        ((alone,),) = run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=picture[None])
        torch.testing.assert_close(reference.embedding, alone.embedding, rtol=1e-4, atol=1e-5)
        assert torch.equal(reference.image, alone.image)


def test_a_batch_of_sounds_is_one_pass(run, networks, passes):
    waveform = torch.rand(3, 1, SECOND, generator=torch.Generator().manual_seed(2)) - 0.5
    sounds = {"waveform": waveform, "sample_rate": SECOND}
    (together,) = run(pack.AudioEmbedding, imagebind=networks["imagebind"], audio=sounds)
    assert passes == [9] and len(together) == 3


def test_little_memory_makes_more_passes(run, networks, passes, monkeypatch):
    dims = networks["imagebind"].module.dims
    each = embed.transformer_activations(1 + dims.image_patches, dims.vision_width)
    room = 2 * each * embed.MEMORY_SHARE
    monkeypatch.setattr(embed.management, "get_total_memory", lambda device: room)
    (references,) = run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=torch.rand(5, 16, 16, 3))
    assert passes == [2, 2, 1] and len(references) == 5


def test_a_batch_can_be_cancelled_between_passes(run, networks, passes, monkeypatch):
    class Cancelled(Exception):
        pass

    def interrupted():
        if passes:
            raise Cancelled

    monkeypatch.setattr(embed, "items_at_once", lambda device: 2)
    monkeypatch.setattr(embed.management, "throw_exception_if_processing_interrupted", interrupted)
    with pytest.raises(Cancelled):
        run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=torch.rand(5, 16, 16, 3))
    assert passes == [2]


def answer(run, networks, references, seed):
    """The drawn answer at a high temperature, or the error with the answer in it."""
    try:
        return run(
            pack.Instruct,
            llm=networks["llm"],
            instruction="add [image1]",
            seed=seed,
            temperature=2.0,
            max_new_tokens=20,
            references=references,
        )[4]
    except ValueError as unreadable:
        return str(unreadable)


def test_the_same_seed_draws_the_same_answer(run, networks):
    picture = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(4))
    (references,) = run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=picture)
    torch.manual_seed(0)
    first = answer(run, networks, references, seed=7)
    torch.manual_seed(1)  # the global stream plays no part
    assert answer(run, networks, references, seed=7) == first
    assert len({answer(run, networks, references, seed) for seed in range(4)}) > 1
