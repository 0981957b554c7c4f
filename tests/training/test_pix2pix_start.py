"""Training of InstructPix2Pix from files: an InstructPix2Pix is trained further, and no call takes more pictures than
the recipe says."""

import functools
from collections import defaultdict

import pytest
import torch
from any2pix.loading.files import write_network_file
from any2pix.loading.pix2pix import load_text_diffusion
from any2pix.miniature import manifest
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.diffusion import DiffusionDims
from any2pix.training import train_instructpix2pix
from any2pix.training.recipe_files import load_recipe
from diffusers import UNet2DConditionModel

BATCH, VAE_BATCH, PROBES = 3, 4, 5


@pytest.fixture(scope="module")
def start(tmp_path_factory, write_text_encoder):
    """The start section of a recipe: a small VAE, text encoder and text-conditioned UNet, with random weights."""
    place = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    dims = AutoencoderDims(widths=(32, 32, 32), blocks=1, patch=2)
    write_network_file(place / manifest.VAE, "vae", Autoencoder(dims).state_dict(), vars(dims))
    write_text_encoder(place / manifest.TEXT_ENCODER, 32, 40)
    config = DiffusionDims((32, 32), (0, 1), 1, 16, context=32, pooled=32, sample_size=16).unet_config()
    unet = UNet2DConditionModel(**config)
    write_network_file(place / manifest.TEXT_UNET, "text_unet", unet.state_dict(), config)
    files = {"unet": "text_unet", "text_encoder": "text_encoder", "vae": "vae"}
    return {name: str(place / f"{file}.safetensors") for name, file in files.items()}


@pytest.fixture
def train(start, shards, tmp_path):
    def trained(out, loop=None, **changes):
        loop = {"steps": 2, "batch_size": BATCH, "learning_rate": 1e-3, "warmup": 0, **(loop or {})}
        config = {**load_recipe("instructpix2pix"), "start": start, "data": {"shards": str(shards.folder)}}
        config |= {"loop": loop, "probes": PROBES, "vae_batch": VAE_BATCH, "weights": "fp32", **changes}
        (tmp_path / out).mkdir(exist_ok=True)
        return train_instructpix2pix.train(config, tmp_path / f"{out} work", tmp_path / out)

    return trained


def opened(out):
    return load_text_diffusion(out / manifest.PIX2PIX, out / manifest.PIX2PIX_TEXT_ENCODER, source=True)


def test_an_instructpix2pix_is_trained_further(start, train, tmp_path):
    train("first", {"steps": 3})
    before = opened(tmp_path / "first")
    assert before.unet.conv_in.weight[:, 4:].abs().sum() > 0
    places = {"unet": manifest.PIX2PIX, "text_encoder": manifest.PIX2PIX_TEXT_ENCODER}
    again = {**start, **{name: str(tmp_path / "first" / file) for name, file in places.items()}}
    train("still", {"learning_rate": 1e-12}, start=again)
    for name, value in opened(tmp_path / "still").unet.state_dict().items():
        torch.testing.assert_close(value, before.unet.state_dict()[name], atol=1e-6, rtol=1e-5)
    train("further", start=again)
    moved = opened(tmp_path / "further").unet.conv_in.weight - before.unet.conv_in.weight
    assert 1e-5 < moved[:, 4:].abs().max() < 0.1 and 1e-5 < moved[:, :4].abs().max() < 0.1


def test_no_call_of_vae_or_unet_takes_more_pictures_than_the_recipe_says(train, monkeypatch):
    sizes = defaultdict(list)

    def counted(name, plain):
        @functools.wraps(plain)
        def call(network, pictures, *more, **options):
            sizes[name].append(len(pictures))
            return plain(network, pictures, *more, **options)

        return call

    monkeypatch.setattr(Autoencoder, "encode", counted("vae", Autoencoder.encode))
    monkeypatch.setattr(UNet2DConditionModel, "forward", counted("unet", UNet2DConditionModel.forward))
    result = train("counted", {"checkpoint_every": 1})
    assert 0 < result["probe_loss"] < 10
    assert max(sizes["vae"]) == VAE_BATCH and max(sizes["unet"]) == BATCH
    steps, probes = [BATCH] * 2, [BATCH, PROBES - BATCH] * 2  # a step and a probe at each of two checkpoints
    assert sorted(sizes["unet"]) == sorted(steps + probes)


def test_toylands_pictures_are_encoded_so_many_at_once(train, monkeypatch):
    sizes, plain = [], Autoencoder.encode
    monkeypatch.setattr(
        Autoencoder, "encode", lambda vae, pictures: sizes.append(len(pictures)) or plain(vae, pictures)
    )
    train("toyland", {"steps": 1}, data={"families": 2, "seed": 4})
    assert max(sizes) == VAE_BATCH and sum(sizes) == 2 * 2 * 6  # families, mirrored or not, pictures of a family
