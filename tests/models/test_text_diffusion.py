import pytest
import torch
from any2pix.models.backbone import SDXL
from any2pix.models.diffusion import DiffusionDims
from any2pix.models.text_diffusion import TextDiffusion, fold_source_scale, widen_input
from any2pix.models.text_encoder import TextEncoder, TextEncoderDims
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

TEXT = TextEncoderDims(
    vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=8, hidden_act="gelu", bos_token_id=48, eos_token_id=49,
)  # fmt: skip
DIMS = DiffusionDims(
    widths=(32, 64), transformers=(0, 1), resnets=1, head_width=16, context=32, pooled=32, sample_size=8
)
TOKENS = torch.tensor([[48, 3, 9, 49, 0, 0, 0, 0], [48, 49, 0, 0, 0, 0, 0, 0]])


def text_model():
    torch.manual_seed(0)
    return TextDiffusion(UNet2DConditionModel(**DIMS.unet_config()), TextEncoder(TEXT))


@pytest.fixture(scope="module")
def network():
    return text_model().eval()


@pytest.fixture(scope="module")
def pix2pix(network):
    return TextDiffusion(widen_input(network.unet), network.text_encoder)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    z, noise, source = (torch.randn(2, 4, 8, 16, generator=generator) for _ in range(3))
    return z, noise, source, torch.tensor([30, 800])


def test_text_encoder_is_transformers(network):
    theirs = CLIPTextModelWithProjection(CLIPTextConfig(**TEXT.clip_config())).eval()
    theirs.load_state_dict(network.text_encoder.state_dict())
    with torch.no_grad():
        context, pooled = network.text_encoder(TOKENS)
        expected = theirs(TOKENS)
    torch.testing.assert_close(context, expected.last_hidden_state)
    torch.testing.assert_close(pooled, expected.text_embeds)


def test_text_reaches_the_noise(network, inputs):
    z, _, _, t = inputs
    with torch.no_grad():
        eps = network.predict(z, t, network.condition(TOKENS))
        assert eps.shape == z.shape
        assert not torch.allclose(eps, network.predict(z, t, network.condition(TOKENS.flip(0))))


@torch.no_grad()
def test_widened_network_starts_as_the_text_model_whatever_the_picture(network, pix2pix, inputs):
    z, _, source, t = inputs
    expected = network.predict(z, t, network.condition(TOKENS))
    assert pix2pix.unet.config.in_channels == 8
    for picture in (None, source, 100 * source):
        torch.testing.assert_close(pix2pix.predict(z, t, pix2pix.condition(TOKENS), picture), expected)


def test_no_picture_is_zeros_and_pictures_count_once_trained(inputs):
    z, _, source, t = inputs
    network = text_model()
    trained = TextDiffusion(widen_input(network.unet), network.text_encoder)
    with torch.no_grad():
        trained.unet.conv_in.weight[:, 4:].normal_()
        none = trained.predict(z, t, trained.condition(TOKENS))
        torch.testing.assert_close(none, trained.predict(z, t, trained.condition(TOKENS), torch.zeros_like(source)))
        assert not torch.allclose(none, trained.predict(z, t, trained.condition(TOKENS), source))


def test_what_was_trained_with_a_scaled_source_reads_the_vaes_own(inputs):
    z, _, source, t = inputs
    trained, stored = (TextDiffusion(widen_input(m.unet), m.text_encoder) for m in (text_model(), text_model()))
    with torch.no_grad():
        trained.unet.conv_in.weight[:, 4:].normal_()
        stored.unet.load_state_dict(fold_source_scale(trained.unet.state_dict(), 0.25))
        expected = trained.predict(z, t, trained.condition(TOKENS), 0.25 * source)
        torch.testing.assert_close(stored.predict(z, t, stored.condition(TOKENS), source), expected)


def test_loss_is_the_papers_and_reaches_every_part(inputs):
    z, noise, source, t = inputs
    network = text_model()
    network = TextDiffusion(widen_input(network.unet), network.text_encoder)
    losses = network.training_loss(z, TOKENS, noise, t, source)
    alpha = SDXL.alphas()[t].float().view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
    expected = (network.predict(noisy, t, network.condition(TOKENS), source) - noise).square().mean()
    torch.testing.assert_close(losses["loss"], expected)
    losses["loss"].backward()
    assert network.unet.conv_in.weight.grad[:, 4:].abs().sum() > 0
    silent = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # a bias that is the same for every key leaves the softmax as it is
    assert all(name.endswith("k_proj.bias") for name in silent), silent


def test_snr_cap_lowers_the_weight_of_faint_noise(inputs):
    z, noise, _, _ = inputs
    network = text_model()
    network.min_snr = 5.0
    t = torch.tensor([0, 0])
    losses = network.training_loss(z, TOKENS, noise, t)
    assert losses["loss"] < 0.05 * losses["mse"]


def test_snr_floor_counts_the_error_of_the_picture_under_heavy_noise(inputs):
    z, noise, _, _ = inputs
    network = text_model()
    network.min_snr, network.snr_floor = 0.3, 0.1
    t = torch.tensor([999, 999])
    alpha = network.alphas[t].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
    eps = network.predict(noisy, t, network.condition(TOKENS))
    picture = (noisy - (1 - alpha).sqrt() * eps) / alpha.sqrt()
    expected = network.snr_floor * (picture - z).square().mean()
    torch.testing.assert_close(network.training_loss(z, TOKENS, noise, t)["loss"], expected, rtol=1e-3, atol=0)


def test_what_does_not_fit_is_said(network, inputs):
    z, _, source, t = inputs
    with pytest.raises(ValueError, match="cannot take a source picture"):
        network.predict(z, t, network.condition(TOKENS), source)
    with pytest.raises(ValueError, match="32 channels.*gives 16"):
        TextDiffusion(network.unet, TextEncoder(TextEncoderDims(**{**TEXT.to_dict(), "hidden_size": 16})))
    wrong_pooled = UNet2DConditionModel(**{**DIMS.unet_config(), "projection_class_embeddings_input_dim": 16 + 6 * 256})
    with pytest.raises(ValueError, match="pooled texts of 16 channels.*gives 32"):
        TextDiffusion(wrong_pooled, network.text_encoder)
    for wrong in (
        {"min_snr": 0.0},
        {"min_snr": -1.0},
        {"min_snr": 0.3, "snr_floor": 0.4},
        {"min_snr": 0.3, "snr_floor": -0.1},
    ):
        with pytest.raises(ValueError, match="the cap must be above 0 and the floor from 0 to the cap"):
            TextDiffusion(network.unet, network.text_encoder, **wrong)
    odd = UNet2DConditionModel(**{**DIMS.unet_config(), "in_channels": 5})
    with pytest.raises(ValueError, match="5 input and 4 output"):
        TextDiffusion(odd, network.text_encoder)
