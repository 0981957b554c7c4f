import pytest
import torch
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.backbone import SDXL

DIMS = AutoencoderDims(widths=(32, 32, 64), blocks=1, patch=2)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Autoencoder(DIMS)


def test_shapes_and_downscale(network):
    mean, logvar = network.encode(torch.rand(2, 3, 64, 48) * 2 - 1)
    assert mean.shape == logvar.shape == (2, 4, 8, 6)
    assert network.decode(mean).shape == (2, 3, 64, 48)
    assert DIMS.downscale == 8


def test_published_dims_are_sdxl_shaped():
    assert AutoencoderDims().downscale == 8


def test_every_parameter_gets_a_gradient(network):
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    losses = network.training_loss(pictures, torch.ones(2, 1, 32, 32), torch.randn(2, 4, 4, 4), kl_weight=1e-3)
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_latent_scale_does_not_change_the_round_trip(network):
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    before = network.decode(network.encode(pictures)[0])
    scaled = Autoencoder(DIMS)
    scaled.load_state_dict(network.state_dict())
    scaled.latent_gain.fill_(0.5)
    scaled.latent_shift.fill_(0.25)
    torch.testing.assert_close(scaled.decode(scaled.encode(pictures)[0]), before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        scaled.encode(pictures)[0], (network.encode(pictures)[0] * SDXL.latent.scale - 0.25) * 0.5 / SDXL.latent.scale
    )


def test_sides_that_do_not_fit_are_named(network):
    with pytest.raises(ValueError, match=r"multiples of 8, got \(30, 32\)"):
        network.encode(torch.zeros(1, 3, 30, 32))


def test_widths_that_do_not_group_are_named():
    with pytest.raises(ValueError, match=r"multiples of 32, got \[48\]"):
        AutoencoderDims(widths=(48, 64))
