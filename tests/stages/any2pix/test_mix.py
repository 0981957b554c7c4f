"""The mixes are arithmetic: they are checked to the bit or to float precision."""

import pytest
import torch
from any2pix.stages.any2pix.mix import mix_embeddings, mix_noise
from torch.testing import assert_close


def pair(batch=2, scale=3.0):
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(batch, 4, 8, 8, generator=generator) * scale
    return latent, torch.randn(batch, 4, 8, 8, generator=generator)


def norms(x):
    return x.flatten(1).norm(dim=1)


@pytest.mark.parametrize("mode", ["paper", "polar"])
def test_alpha_one_returns_the_latent_to_the_bit(mode):
    latent, noise = pair()
    mixed = mix_noise(latent, noise, 1.0, mode)
    assert torch.equal(mixed, latent) and mixed.data_ptr() != latent.data_ptr()


def test_alpha_zero():
    latent, noise = pair()
    assert torch.equal(mix_noise(latent, noise, 0.0, "polar"), noise)
    ratio = (norms(latent) / norms(noise)).view(-1, 1, 1, 1)
    assert_close(mix_noise(latent, noise, 0.0, "paper"), noise * ratio)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.7, 0.95])
def test_norms_per_sample(alpha):
    latent, noise = pair()
    latent[1] *= 10.0
    assert_close(norms(mix_noise(latent, noise, alpha, "paper")), norms(latent))
    assert_close(norms(mix_noise(latent, noise, alpha, "polar")), alpha * norms(latent) + (1 - alpha) * norms(noise))
    alone = mix_noise(latent[1:], noise[1:], alpha)
    assert_close(mix_noise(latent, noise, alpha)[1:], alone)


def test_the_direction_is_the_plain_blend():
    latent, noise = pair(batch=1)
    blend = 0.7 * latent + 0.3 * noise
    for mode in ("paper", "polar"):
        mixed = mix_noise(latent, noise, 0.7, mode)
        assert_close(mixed / mixed.norm(), blend / blend.norm())


def test_half_precision_keeps_its_dtype():
    latent, noise = pair()
    mixed = mix_noise(latent.half(), noise, 0.5)
    assert mixed.dtype == torch.float16
    assert_close(norms(mixed.float()), norms(latent), rtol=2e-3, atol=0.0)


def test_noise_errors():
    latent, noise = pair()
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
        mix_noise(latent, noise, 1.5)
    with pytest.raises(ValueError, match="between 0 and 1, got nan"):
        mix_noise(latent, noise, float("nan"))
    with pytest.raises(ValueError, match="paper, polar, got 'slerp'"):
        mix_noise(latent, noise, 0.5, "slerp")
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 8\) and noise \(1, 4, 8, 8\)"):
        mix_noise(latent, noise[:1], 0.5)
    with pytest.raises(ValueError, match="all zeros.*DDIM Invert"):
        mix_noise(torch.zeros_like(latent), noise, 0.5)
    latent[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        mix_noise(latent, noise, 0.5)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def three():
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(16, generator=generator) for _ in range(3)]


def test_embeddings_follow_the_released_formula():
    edit, refined, base = three()
    total = 0.3 * 20 * unit(base) + 0.4 * 20 * unit(edit) + 1.0 * 20 * unit(refined)
    mixed = mix_embeddings(edit, refined, base, base_weight=0.3)
    assert_close(mixed, 20 * unit(total))
    assert_close(mix_embeddings(edit, refined, base), 20 * unit(0.4 * unit(edit) + unit(refined)))


def test_the_papers_mix():
    edit, refined, base = three()
    mixed = mix_embeddings(edit, refined, base, edit_weight=1.0, refined_weight=1.0, base_weight=0.6, norm=1.0)
    assert_close(mixed, unit(unit(edit) + unit(refined) + 0.6 * unit(base)))


def test_only_the_edit():
    edit, _, _ = three()
    assert_close(mix_embeddings(edit), 20 * unit(edit))
    assert_close(mix_embeddings(edit, norm=7.0).norm(), torch.tensor(7.0))


def test_the_length_of_a_part_does_not_matter():
    edit, refined, base = three()
    expected = mix_embeddings(edit, refined, base, base_weight=1.0)
    assert_close(mix_embeddings(edit * 3, refined * 100, unit(base), base_weight=1.0), expected)


def test_embedding_batches_row_by_row():
    edit, refined, base = three()
    batch = torch.stack([edit, base * 50])
    mixed = mix_embeddings(batch, refined)
    assert mixed.shape == (2, 16)
    assert_close(mixed[0], mix_embeddings(edit, refined))
    assert_close(mixed[1], mix_embeddings(base, refined))


def test_embedding_errors():
    edit, refined, base = three()
    with pytest.raises(ValueError, match="Nothing to mix: edit_weight 0, refined_weight 0"):
        mix_embeddings(edit, refined, edit_weight=0.0, refined_weight=0.0)
    with pytest.raises(ValueError, match="Nothing to mix: edit_weight 0"):
        mix_embeddings(edit, edit_weight=0.0)
    with pytest.raises(ValueError, match="The base embedding is all zeros.*base_weight"):
        mix_embeddings(edit, base=torch.zeros(16), base_weight=1.0)
    assert_close(mix_embeddings(edit, base=torch.zeros(16)), 20 * unit(edit))
    with pytest.raises(ValueError, match="refined embedding has 8 numbers and the edit embedding 16"):
        mix_embeddings(edit, refined[:8])
    with pytest.raises(ValueError, match="cancel out"):
        mix_embeddings(edit, edit, edit_weight=-1.0)
    with pytest.raises(ValueError, match="must be above 0, got 0.0"):
        mix_embeddings(edit, norm=0.0)
    with pytest.raises(ValueError, match="edit_weight must be a finite number, got nan"):
        mix_embeddings(edit, edit_weight=float("nan"))
    with pytest.raises(ValueError, match="The edit embedding holds NaN"):
        mix_embeddings(edit * float("nan"))


def test_the_released_formula_keeps_the_lengths_of_predictions():
    edit, refined, base = torch.eye(3, 16) * torch.tensor([[18.0], [3.0], [22.0]])
    mixed = mix_embeddings(edit, refined, base, 0.4, 1.0, 0.5, formula="released")
    assert_close(mixed, 20 * unit(torch.tensor([0.4 * 18.0, 20.0, 0.5 * 22.0] + [0.0] * 13)))


def test_the_papers_formula_has_one_weight():
    edit, refined, base = torch.eye(3, 16) * torch.tensor([[18.0], [3.0], [1.0]])
    mixed = mix_embeddings(edit, refined, base, 0.0, 0.1, 0.25, norm=1.0, formula="paper")
    assert_close(mixed, unit(torch.tensor([1.0, 1.0, 0.25] + [0.0] * 13)))
    with pytest.raises(ValueError, match="equal, released, paper, got 'sum'"):
        mix_embeddings(edit, formula="sum")
