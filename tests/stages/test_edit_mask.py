"""The edit mask: tight for a local difference, whole for an even one, the same for a seed, each row on its own."""

import pytest
import torch
from any2pix.models.backbone import MINIATURE
from any2pix.stages.edit_mask import (
    LEAST_DIFFERENCE,
    MOST_PIXELS,
    MaskOptions,
    cut_mask,
    edit_difference,
    find_mask,
    pair_of,
    sigma_of_level,
    within,
)

STEP = 8
SIDE = 16
BOX = slice(4, 12)  # places of the latent
HARD = MaskOptions(softness=0, grow=0)


def differences(inside: float = 1.0, outside: float = 0.05, noise: float = 0.2, seed: int = 0) -> torch.Tensor:
    """(1, SIDE, SIDE): a box that differs in front of a background that differs less, both uneven."""
    found = torch.full((1, SIDE, SIDE), outside)
    found[:, BOX, BOX] = inside
    return found * (1 + noise * torch.rand(found.shape, generator=torch.Generator().manual_seed(seed)))


def truth() -> torch.Tensor:
    mask = torch.zeros(1, SIDE * STEP, SIDE * STEP)
    mask[:, BOX.start * STEP : BOX.stop * STEP, BOX.start * STEP : BOX.stop * STEP] = 1
    return mask


def overlap(mask: torch.Tensor, other: torch.Tensor) -> float:
    a, b = mask > 0.5, other > 0.5
    return float((a & b).sum() / (a | b).sum())


def test_a_local_difference_gets_a_tight_mask():
    mask = cut_mask(differences(), STEP, HARD)
    assert mask.shape == (1, SIDE * STEP, SIDE * STEP) and overlap(mask, truth()) > 0.55
    assert mask[truth() > 0].mean() > 0.98, "what differs is within"
    far = torch.ones_like(mask, dtype=torch.bool)
    far[:, (BOX.start - 2) * STEP : (BOX.stop + 2) * STEP, (BOX.start - 2) * STEP : (BOX.stop + 2) * STEP] = False
    assert mask[far].max() == 0


@pytest.mark.parametrize("outside", [1.0, 0.5, 0.25])
def test_a_difference_everywhere_gets_the_whole_picture(outside):
    assert torch.equal(
        cut_mask(differences(outside=outside), STEP, MaskOptions()), torch.ones(1, SIDE * STEP, SIDE * STEP)
    )


def test_what_is_faint_and_apart_stays_outside_and_what_is_faint_and_joined_is_within():
    found = differences(noise=0.0)
    found[:, 4:8, 12:14] = 0.35  # beside the box
    found[:, 14:, 14:] = 0.35  # apart from it
    mask = cut_mask(found, STEP, HARD)
    assert mask[0, 6 * STEP, 13 * STEP + 4] == 1 and mask[:, 14 * STEP :, 14 * STEP :].max() == 0


def test_scale_does_not_matter_and_nothing_gives_nothing():
    one, other = (cut_mask(factor * differences(), STEP, MaskOptions()) for factor in (1.0, 7.0))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
    for nothing in (torch.zeros(1, SIDE, SIDE), 0.5 * LEAST_DIFFERENCE * torch.ones(1, SIDE, SIDE)):
        assert cut_mask(nothing, STEP, MaskOptions()).max() == 0


def test_strength_opens_from_nothing_to_everything():
    shares = [float(cut_mask(differences(), STEP, MaskOptions(strength=s)).mean()) for s in (0, 0.3, 0.6, 0.9, 1)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1 and shares[1] > 0


def test_softness_is_the_edges_width_and_growth_is_in_pixels():
    hard = cut_mask(differences(), STEP, HARD)
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    grown = cut_mask(differences(), STEP, MaskOptions(softness=0, grow=5))
    row = int(truth()[0].sum(1).nonzero().float().median())
    assert int(grown[0, row].sum() - hard[0, row].sum()) == 10
    widths = [float(((m > 0.05) & (m < 0.95)).sum()) for m in soft_masks(2.0, 8.0)]
    assert 0 < widths[0] < widths[1]


def soft_masks(*widths: float) -> list[torch.Tensor]:
    return [cut_mask(differences(), STEP, MaskOptions(softness=width)) for width in widths]


def test_growth_beyond_the_picture_fills_it():
    assert cut_mask(differences(), STEP, MaskOptions(grow=MOST_PIXELS, softness=0))[0, 60, 0] == 1


def test_rows_of_a_batch_do_not_depend_on_each_other():
    rows = [differences(seed=1), differences(outside=0.5, seed=2), torch.zeros(1, SIDE, SIDE)]
    together = cut_mask(torch.cat(rows), STEP, MaskOptions())
    alone = torch.cat([cut_mask(row, STEP, MaskOptions()) for row in rows])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)


class Painter:
    """A denoiser that adds a colour in the box, and a trace of the noise it sees."""

    def __init__(self, colour: float):
        self.colour, self.calls = colour, []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.calls.append((x.clone(), sigma.clone()))
        out = 0.1 * self.colour * torch.tanh(x)
        out[..., BOX, BOX] += self.colour
        return out


def test_both_networks_see_the_same_noises_at_the_level_and_the_cost_is_as_stated():
    clean, source, edit = torch.zeros(3, 4, SIDE, SIDE), Painter(0.0), Painter(1.0)
    options = MaskOptions(noises=5, level=0.5)
    mask = find_mask(pair_of(source, edit), clean, MINIATURE, options, seed=4)
    assert mask.shape == (3, SIDE * STEP, SIDE * STEP) and overlap(mask[:1], truth()) > 0.5
    assert len(source.calls) == len(edit.calls) == 5
    for (x, sigma), (same, _) in zip(source.calls, edit.calls, strict=True):
        assert torch.equal(x, same) and torch.equal(x[0], x[2])
        torch.testing.assert_close(sigma, sigma_of_level(0.5, MINIATURE).expand(3))
        assert abs(float(x.std() / sigma[0]) - 1) < 0.1


def test_a_seed_gives_one_mask():
    def found(seed):
        return find_mask(pair_of(Painter(0.0), Painter(1.0)), torch.zeros(1, 4, 16, 16), MINIATURE, MaskOptions(), seed)

    assert torch.equal(found(1), found(1)) and not torch.equal(found(1), found(2))


def test_the_level_is_a_share_of_the_sampling():
    levels = [float(sigma_of_level(level, MINIATURE)) for level in (0.1, 0.32, 0.5, 0.9)]
    assert levels == sorted(levels, reverse=True) and abs(levels[1] - 3.07) < 0.01
    assert levels[0] < MINIATURE.sigma_max


def test_a_mask_within_another():
    mask, limit = torch.full((16, 24), 0.5), torch.zeros(8, 12)
    limit[:, 6:] = 1
    assert within(mask, None) is mask
    limited = within(mask, limit)
    assert limited.shape == mask.shape and limited[:, :10].max() == 0 and limited[:, 14:].min() == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": 1.5}, "strength .* 1.5; it must be between 0 and 1"),
        ({"softness": -1}, "softness .* -1; it must be 0 to 64 pixels"),
        ({"grow": 65}, "grow .* 65; it must be 0 to 64 pixels"),
        ({"level": 0.0}, "level .* 0.0; it must be between 0 and 1"),
        ({"noises": 0}, "noises .* 0; it must be at least 1"),
        ({"strength": float("nan")}, "strength .* nan"),
    ],
)
def test_bad_options_name_the_value(change, message):
    with pytest.raises(ValueError, match=message):
        MaskOptions(**change)


def test_numbers_that_are_none_are_named():
    broken = Painter(float("nan"))
    clean = torch.zeros(1, 4, 8, 8)
    with pytest.raises(ValueError, match="NaN or infinite"):
        edit_difference(pair_of(Painter(0.0), broken), clean, torch.tensor([3.0]), [torch.ones(4, 8, 8)])
    with pytest.raises(ValueError, match="at least one noise"):
        edit_difference(pair_of(Painter(0.0), broken), clean, torch.tensor([3.0]), [])
