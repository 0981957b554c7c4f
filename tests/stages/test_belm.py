"""O-BELM: the sampler returns to the latent that was inverted, whatever the schedule and the network."""

import itertools

import numpy as np
import pytest
import torch
from any2pix.models.backbone import SDXL
from any2pix.stages.belm import belm_invert, sample_belm
from any2pix.stages.sample import SCHEDULES, sample_euler, schedule


class Bent:
    """A denoiser that is far from linear; it counts its calls and keeps the levels that it was asked at."""

    def __init__(self, strength=0.5):
        self.strength, self.levels = strength, []

    def __call__(self, x, sigma):
        assert x.dtype == torch.float32, "the network gets its own type"
        self.levels.append(float(sigma[0]))
        level = sigma.view(-1, 1, 1, 1)
        shrunk = (0.64 * x + level**2 * 0.3) / (0.64 + level**2)
        return shrunk + self.strength * torch.sin(3 * shrunk)


@pytest.fixture
def latent():
    return 0.3 + 0.8 * torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))


def far(a, b):
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [5, 20, 50])
def test_the_latent_comes_back_at_one_call_a_step(latent, name, steps):
    sigmas, model = schedule(name, steps, SDXL), Bent()
    start, below = belm_invert(model, latent, sigmas.flip(0))
    assert len(model.levels) == len(sigmas) - 1 and start.dtype == torch.float64
    back = sample_belm(model, start.float(), sigmas, below=below.float())
    assert len(model.levels) == 2 * (len(sigmas) - 1) - 1 and back.dtype == latent.dtype
    assert far(back, latent) < 1e-3
    euler = sample_euler(model, start.float(), sigmas)
    assert far(euler, latent) > 20 * far(back, latent), "or the rule would not matter"


def test_an_inversion_up_to_a_step_comes_back(latent):
    sigmas, model = schedule("karras", 20, SDXL)[8:], Bent()
    start, below = belm_invert(model, latent, sigmas.flip(0))
    assert far(sample_belm(model, start.float(), sigmas, below=below.float()), latent) < 1e-4


def test_a_step_is_exact_for_paths_up_to_the_second_order(latent):
    """What O-BELM's coefficients are chosen for: here they are the solution of a linear system."""
    sigmas, model = torch.tensor([7.0, 4.0, 2.5, 0.0]), Bent()
    above, x = latent * 3, latent * 2
    noise = (x - model(x, torch.tensor([4.0, 4.0]))) / 4.0
    down, up = 2.5 - 4.0, 7.0 - 4.0
    # a * x(up) + b * x(0) + c * x'(0) equals x(down) for 1, t and t^2
    system = np.array([[1, 1, 0], [up, 0, 1], [up**2, 0, 0]])
    a, b, c = np.linalg.solve(system, np.array([1, down, down**2]))
    states = []
    sample_belm(model, above, sigmas, below=x, callback=states.append)
    torch.testing.assert_close(states[1]["x"], (a * above + b * x + c * noise).float(), rtol=1e-5, atol=1e-5)


def test_along_a_straight_path_every_state_is_on_it():
    """A picture known for certain, D(x) = m: every latent on its way is m + sigma * n. So nothing outside of a mask
    moves."""
    picture, noise = torch.randn((2, 1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    sigmas = schedule("normal", 10, SDXL)
    start, below = (picture + noise * sigmas[place] for place in (0, 1))
    back = sample_belm(lambda x, sigma: picture, start, sigmas, below=below)
    assert far(back, picture) < 1e-5


def test_from_noise_the_first_step_is_an_euler_step(latent):
    sigmas, model, states = schedule("karras", 6, SDXL), Bent(), []
    noise = latent * sigmas[0]
    sample_belm(model, noise, sigmas, callback=states.append)
    assert model.levels == pytest.approx(sigmas[:-1].tolist()) and [state["i"] for state in states] == list(range(6))
    expected = noise + (sigmas[1] - sigmas[0]) * (noise - states[0]["denoised"]) / sigmas[0]
    torch.testing.assert_close(states[1]["x"], expected)


def test_every_row_of_a_batch_is_inverted_as_if_it_were_alone(latent):
    sigmas = schedule("normal", 8, SDXL)
    together = belm_invert(Bent(), latent, sigmas.flip(0))
    for row, half in itertools.product(range(2), range(2)):
        alone = belm_invert(Bent(), latent[row : row + 1], sigmas.flip(0))
        torch.testing.assert_close(alone[half][0], together[half][row], rtol=1e-6, atol=1e-6)


def test_schedules_without_use_are_named(latent):
    with pytest.raises(ValueError, match="needs at least 2 steps from the start on, got 1. Raise steps"):
        belm_invert(Bent(), latent, torch.tensor([0.0, 3.0]))
    with pytest.raises(ValueError, match="noise levels that differ, got .*2.0, 2.0, 0.0"):
        sample_belm(Bent(), latent, torch.tensor([4.0, 2.0, 2.0, 0.0]))
