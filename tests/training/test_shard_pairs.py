"""Pairs out of shards: each once an epoch, the same after a stop, encoded as the VAE does, and of one size that
fits."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from any2pix.datagen.pairs.shards import ShardFolder
from any2pix.loading.files import write_network_file
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.backbone import SDXL, Latent
from any2pix.training import shard_pairs
from any2pix.training.shard_pairs import ShardPairs, load_vae
from diffusers import AutoencoderKL
from PIL import Image

SHARDS, PAIRS, COUNT = 3, 7, 5


def picture(number, size=(32, 32)):
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def write_shards(folder, size_of=lambda number: (32, 32)):
    """21 pairs whose instruction is their number."""

    def make(index, counts):
        for number in range(index * PAIRS, (index + 1) * PAIRS):
            pictures = {
                "source.png": picture(number, size_of(number)),
                "edited.png": picture(1000 + number, size_of(number)),
            }
            yield {"__key__": f"{number:09d}_000", **pictures, "json": {"instruction": str(number)}}

    shards = ShardFolder(folder, "filter", ".tar")
    shards.begin({})
    shards.run(range(SHARDS), make)


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    torch.manual_seed(0)
    dims, path = (
        AutoencoderDims(widths=(32, 32, 32), blocks=1, patch=2),
        tmp_path_factory.mktemp("vae") / "vae.safetensors",
    )
    write_network_file(path, "vae", Autoencoder(dims).state_dict(), vars(dims))
    return load_vae(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("shards")
    write_shards(place)
    return place


@pytest.fixture
def open_pairs(folder, vae, tmp_path):
    def opened(place=folder, **options):
        return ShardPairs(place, vae, 16, tmp_path / "work", **options)

    return opened


def batch(pairs, step):
    return pairs.encode(pairs.draw(step, torch.Generator().manual_seed(step), COUNT))


def test_each_pair_comes_once_an_epoch_in_an_order_of_its_own(open_pairs):
    pairs = open_pairs(seed=3)
    numbers = [text for step in range(9) for text in batch(pairs, step).texts][: 2 * pairs.total]
    epochs = numbers[: pairs.total], numbers[pairs.total :]
    for epoch in epochs:
        assert sorted(map(int, epoch)) == list(range(SHARDS * PAIRS))
    assert epochs[0] != epochs[1] and epochs[0] != sorted(epochs[0], key=int)
    assert batch(open_pairs(seed=4), 0).texts != numbers[:COUNT]


def test_a_run_that_goes_on_gets_the_same_batches(open_pairs):
    whole = open_pairs(seed=3)
    expected = [batch(whole, step) for step in range(7)]
    resumed = open_pairs(seed=3)
    for step in (5, 6, 2):  # into the second epoch, then back
        found = batch(resumed, step)
        assert found.texts == expected[step].texts
        torch.testing.assert_close(found.source, expected[step].source, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(found.target, expected[step].target, atol=2e-3, rtol=2e-3)


def test_latents_are_those_of_the_pictures_mirrored_or_not(open_pairs, vae):
    for flip in (0.0, 1.0):
        found = batch(open_pairs(flip=flip), 0)
        assert found.weight is None
        for row, text in enumerate(found.texts):
            pixels = [np.array(picture(offset + int(text))) / 127.5 - 1 for offset in (0, 1000)]
            shown = torch.tensor(np.stack([p[:, ::-1] if flip else p for p in pixels]), dtype=torch.float32).movedim(
                -1, 1
            )
            source, target = vae.encode(shown)
            torch.testing.assert_close(found.source[row], source, atol=2e-3, rtol=2e-3)
            torch.testing.assert_close(found.target[row], target * SDXL.latent.scale, atol=2e-3, rtol=2e-3)


def test_what_memory_does_not_hold_is_encoded_again(open_pairs, monkeypatch):
    held = batch(open_pairs(), 0)
    monkeypatch.setattr(shard_pairs, "HELD_BYTES", 0)
    pairs = open_pairs()
    assert torch.equal(batch(pairs, 0).target, held.target) and not pairs.held


def test_the_probe_is_the_first_pairs(open_pairs):
    pairs = open_pairs()
    assert pairs.probe(1, 4, 9).texts == ["1", "2", "3"]
    assert len(pairs.probe(0, 100, 100).texts) == SHARDS * PAIRS


def test_pictures_that_do_not_fit_are_named(open_pairs, tmp_path):
    write_shards(tmp_path / "mixed", lambda number: (48, 32) if number == 4 else (32, 32))
    with pytest.raises(ValueError, match="000000004_000 in .* 48 x 32 pixels, another one is 32 x 32"):
        open_pairs(tmp_path / "mixed").probe(0, 9, 9)
    write_shards(tmp_path / "odd", lambda number: (32, 40))
    with pytest.raises(ValueError, match="32 x 40 pixels; this UNet takes sides that are multiples of 16"):
        open_pairs(tmp_path / "odd").probe(0, 1, 1)
    with pytest.raises(FileNotFoundError, match="holds no finished filter shards"):
        open_pairs(tmp_path / "nothing")


@pytest.mark.parametrize("flip", (-0.1, 1.5, float("nan")))
def test_a_share_that_is_none_is_named(open_pairs, flip):
    with pytest.raises(ValueError, match="flip is .*from 0 to 1"):
        open_pairs(flip=flip)


def test_a_vae_that_diffusers_wrote(tmp_path):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    kl = AutoencoderKL(block_out_channels=(32, 32), **blocks, scaling_factor=0.5)
    kl.save_pretrained(tmp_path)
    found, pictures = load_vae(tmp_path), torch.rand(1, 3, 16, 16)
    assert found.latent == Latent(4, 0.5, 2)
    torch.testing.assert_close(found.encode(pictures), kl.encode(pictures).latent_dist.mean)


def test_a_call_of_the_vae_takes_so_many_pictures_and_no_more(open_pairs, vae):
    whole, sizes = batch(open_pairs(), 0), []

    def encode(pictures):
        sizes.append(len(pictures))
        return vae.encode(pictures)

    pairs = open_pairs(at_once=3)
    pairs.vae = replace(vae, encode=encode)
    torch.testing.assert_close(batch(pairs, 0).target, whole.target, atol=2e-3, rtol=2e-3)
    assert sizes == [3, 3, 3, 1]


def test_shards_that_are_written_again_are_read_again(vae, tmp_path):
    work = tmp_path / "work"
    write_shards(tmp_path / "pairs")
    ShardPairs(tmp_path / "pairs", vae, 16, work)
    for file in (tmp_path / "pairs").iterdir():
        file.unlink()
    write_shards(tmp_path / "pairs", lambda number: (64, 64))
    found = ShardPairs(tmp_path / "pairs", vae, 16, work).probe(0, 21, 21)
    assert found.pixels.shape == (21, 2, 3, 64, 64) and found.texts == [str(number) for number in range(21)]


def test_a_pair_that_lacks_a_part_is_named(vae, tmp_path):
    write_shards(tmp_path / "pairs")
    place = next((tmp_path / "pairs").glob("*-00001.tar"))
    with tarfile.open(place, "w") as tar:
        tar.addfile(tarfile.TarInfo("000000007_000.source.png"))
    with pytest.raises(ValueError, match="Pair 000000007_000 in .*-00001.tar lacks edited.png, json"):
        ShardPairs(tmp_path / "pairs", vae, 16, tmp_path / "work")
