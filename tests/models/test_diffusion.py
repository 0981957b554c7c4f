import pytest
import torch
from any2pix.models.adapter import UnclipDims, UnclipProjector
from any2pix.models.backbone import SDXL
from any2pix.models.diffusion import DiffusionDims, EmbeddingDiffusion
from diffusers import UNet2DConditionModel

DIMS = DiffusionDims(
    widths=(32, 64, 64), transformers=(0, 1, 1), resnets=1, head_width=32, context=24, pooled=16, sample_size=8
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    adapter = UnclipProjector(UnclipDims(embed=12, hidden=20, context=24, pooled=16, pooled_in=8))
    return EmbeddingDiffusion(UNet2DConditionModel(**DIMS.unet_config()), adapter)


def test_predicts_noise_in_the_shape_of_the_latent(network):
    eps = network.predict(torch.randn(3, 4, 8, 16), torch.tensor([0, 500, 999]), network.condition(torch.randn(3, 12)))
    assert eps.shape == (3, 4, 8, 16)


def test_the_embedding_reaches_the_noise(network):
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([400])
    one, other = (network.predict(z, t, network.condition(sign * torch.ones(1, 12))) for sign in (1, -1))
    assert not torch.allclose(one, other)


def test_loss_reaches_unet_and_projector(network):
    loss = network.training_loss(
        torch.randn(2, 4, 8, 8), torch.randn(2, 12), torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    )
    loss["loss"].backward()
    silent = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # one context token: the softmax over it is 1 whatever query and key say; the pooled vector comes from zeros
    constant = {
        name
        for name in silent
        if ".attn2.to_q." in name or ".attn2.to_k." in name or name == "projector.projector_unclip2.0.weight"
    }
    norms = {name for name in silent if ".norm2." in name}
    assert silent == constant | norms


def test_loss_is_the_weighted_square_error(network):
    z, noise, H = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 12)
    t = torch.tensor([100, 800])
    alpha = SDXL.alphas()[t].float().view(-1, 1, 1, 1)
    error = (
        (network.predict(alpha.sqrt() * z + (1 - alpha).sqrt() * noise, t, network.condition(H)) - noise)
        .square()
        .mean(dim=(1, 2, 3))
    )
    snr = (alpha / (1 - alpha)).flatten()
    losses = network.training_loss(z, H, noise, t)
    torch.testing.assert_close(losses["mse"], error.mean())
    torch.testing.assert_close(losses["loss"], (error * snr.clamp_max(5) / snr).mean())


def test_schedule_is_sdxls():
    sigmas = ((1 - SDXL.alphas()) / SDXL.alphas()).sqrt()
    assert len(sigmas) == SDXL.timesteps
    assert sigmas[0] == pytest.approx(0.0292, abs=1e-4) and sigmas[-1] == pytest.approx(14.6146, abs=1e-3)


def test_published_dims_give_the_config_of_sdxl():
    config = DiffusionDims().unet_config()
    assert config["attention_head_dim"] == (5, 10, 20)
    assert config["projection_class_embeddings_input_dim"] == 2816
    assert config["down_block_types"] == ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    assert config["transformer_layers_per_block"] == (1, 2, 10)
