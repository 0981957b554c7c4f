"""Edits by words alone, with networks that answer what the test can work out."""

import pytest
import torch
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.backbone import MINIATURE, SDXL
from any2pix.models.text_encoder import TextEncoder, TextEncoderDims
from any2pix.stages.denoiser import EditDenoiser
from any2pix.stages.latents import decode_pictures, encode_pictures
from any2pix.stages.pix2pix.pipeline import SDEditOptions, TextEditOptions, edit_by_text, sdedit, tokens_of
from any2pix.stages.sample import schedule
from any2pix.training.clip_tokenizer import train_clip_tokenizer
from torch import nn

INSTRUCTIONS = ("make it snow", "add a cat")
LENGTH = 12


class Reading(nn.Module):
    """A network that believes the clean latent to be `believes(tokens, source)`, and says so at every noise level."""

    backbone = MINIATURE

    def __init__(self, believes):
        super().__init__()
        tokenizer = train_clip_tokenizer(INSTRUCTIONS, 600)
        size = tokenizer.get_vocab_size()
        self.text_encoder = TextEncoder(TextEncoderDims(size, 8, 8, 1, 1, LENGTH, "gelu", size - 2, size - 1))
        self.text_encoder.tokenizer = tokenizer
        self.believes, self.read, self.asked = believes, [], []

    def condition(self, tokens):
        self.read.append(tokens)
        return tokens

    def predict(self, latents, timesteps, tokens, source=None):
        self.asked.append(timesteps)
        alpha = SDXL.alphas()[timesteps].float().view(-1, 1, 1, 1)
        return (latents - alpha.sqrt() * self.believes(tokens, source)) / (1 - alpha).sqrt()


def length_of(tokens):
    """(B, 1, 1, 1): something that differs between the instructions and the empty prompt."""
    return (tokens > 0).sum(1).float().view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return Autoencoder(AutoencoderDims(widths=(32, 32, 32), blocks=1, patch=2)).eval()


@pytest.fixture
def pictures():
    return torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def noise():
    return torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(2))


def test_the_three_predictions_are_guided_by_the_papers_formula(noise):
    """Each prediction is told from the others by what it was shown; picture and instruction weigh as the scales say."""
    network = Reading(lambda tokens, source: source + length_of(tokens))
    tokens, empty = tokens_of(network, INSTRUCTIONS), tokens_of(network, [""])
    source = torch.full_like(noise, 10.0)
    denoised = EditDenoiser(network, tokens, empty, source, 5.0, 1.5)(noise, torch.tensor([2.0, 2.0]))
    worded, wordless = length_of(tokens), length_of(empty)
    plain, image, text = wordless, 10 + wordless, 10 + worded
    expected = (plain + 1.5 * (image - plain) + 5 * (text - image)).expand_as(noise)
    # the network is asked at the nearest of its 1000 noise levels
    torch.testing.assert_close(denoised, expected, rtol=2e-2, atol=0.1)


def test_each_picture_gets_its_own_instruction_and_the_vaes_own_scale(vae, pictures, noise):
    network = Reading(lambda tokens, source: source * SDXL.latent.scale)
    edited = edit_by_text(network, vae, pictures, INSTRUCTIONS, noise, TextEditOptions(1.0, 1.0, 4))
    torch.testing.assert_close(edited, decode_pictures(vae, encode_pictures(vae, pictures)), rtol=0, atol=0.02)
    (tokens,) = network.read  # once, not at every step
    torch.testing.assert_close(tokens[:2], tokens_of(network, INSTRUCTIONS))
    assert tokens[2:].equal(tokens_of(network, [""]).expand(4, -1))


@pytest.mark.parametrize("steps", [3, 7])
def test_edits_start_from_the_noise_and_take_the_steps(vae, pictures, noise, steps):
    network = Reading(lambda tokens, source: source * 0)
    edit_by_text(network, vae, pictures, INSTRUCTIONS, noise, TextEditOptions(steps=steps))
    assert int(network.asked[0][0]) == 999
    assert len(network.asked) == steps


def test_sdedit_paints_the_caption_from_the_noisy_picture(vae, pictures, noise):
    """A network that sees no noise at all leaves picture and noise as they were put together."""
    network = Reading(None)
    network.predict = lambda latents, timesteps, tokens: torch.zeros_like(latents)
    options = SDEditOptions(strength=0.5, steps=10, cfg=3.0)
    sigma = schedule("normal", 10, SDXL)[5]
    expected = decode_pictures(vae, encode_pictures(vae, pictures) + sigma * noise)
    torch.testing.assert_close(sdedit(network, vae, pictures, INSTRUCTIONS, noise, options), expected)


def test_sdedit_guides_from_the_empty_prompt_to_the_caption(vae, pictures, noise):
    network = Reading(lambda tokens, source: length_of(tokens).expand(-1, 4, 4, 4))
    painted = sdedit(network, vae, pictures, INSTRUCTIONS, noise, SDEditOptions(strength=1.0, cfg=3.0, steps=5))
    assert len(network.read) == 1
    empty = length_of(tokens_of(network, [""]))
    caption = length_of(tokens_of(network, INSTRUCTIONS))
    wanted = (empty + 3 * (caption - empty)).expand(-1, 4, 4, 4)
    torch.testing.assert_close(painted, decode_pictures(vae, wanted), rtol=0, atol=0.02)


@pytest.mark.parametrize(("strength", "painted"), [(0.3, 3), (0.75, 8), (1.0, 10), (0.01, 1)])
def test_strength_is_the_share_of_the_steps(strength, painted):
    sigmas = SDEditOptions(strength=strength, steps=10).sigmas(SDXL)
    assert len(sigmas) == painted + 1
    assert sigmas.equal(schedule("normal", 10, SDXL)[10 - painted :])


def test_bad_input_is_named(vae, pictures, noise):
    with pytest.raises(ValueError, match="strength is 1.5"):
        SDEditOptions(strength=1.5)
    with pytest.raises(ValueError, match="steps is 0"):
        TextEditOptions(steps=0)
    with pytest.raises(ValueError, match='unknown schedule "fast"'):
        SDEditOptions(scheduler="fast")
    with pytest.raises(ValueError, match="2 pictures were given with 1 texts"):
        edit_by_text(Reading(None), vae, pictures, ["make it snow"], noise)
