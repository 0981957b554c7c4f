import itertools

import pytest
import torch
from any2pix.models.backbone import SDXL
from any2pix.stages.invert import InversionOptions, ddim_invert, solve_fixed_point
from any2pix.stages.sample import SCHEDULES, sample_euler, schedule


def smooth_denoiser(x, sigma):
    """A denoiser of Gaussian data with mean 0.3 and deviation 0.8, bent a little so that it is not linear."""
    level = sigma.view(-1, 1, 1, 1)
    shrunk = (0.64 * x + level**2 * 0.3) / (0.64 + level**2)
    return shrunk + 0.05 * torch.sin(shrunk)


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture
def latent():
    return 0.3 + 0.8 * torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SCHEDULES)
def test_inversion_then_sampling_returns_the_source(latent, name):
    sigmas = schedule(name, 20, SDXL)
    raised = ddim_invert(smooth_denoiser, latent, sigmas.flip(0), iterations=30, tolerance=1e-7)
    assert relative(sample_euler(smooth_denoiser, raised, sigmas), latent) < 1e-4


def test_fixed_point_iteration_beats_plain_ddim(latent):
    sigmas = schedule("normal", 20, SDXL)
    errors = []
    for iterations in (1, 3, 10):
        raised = ddim_invert(smooth_denoiser, latent, sigmas.flip(0), iterations=iterations, tolerance=0.0)
        errors.append(relative(sample_euler(smooth_denoiser, raised, sigmas), latent))
    assert errors[0] > errors[1] > errors[2]


def test_one_iteration_is_plain_ddim_as_released(latent):
    """The network is shown the latent below, in the variance-preserving scale, with the noise level above."""
    rising = schedule("normal", 6, SDXL).flip(0)
    x = latent
    for sigma, following in itertools.pairwise(rising):
        shown = x / (1 + sigma**2).sqrt() * (1 + following**2).sqrt()
        eps = (shown - smooth_denoiser(shown, following.expand(2))) / following
        x = x + (following - sigma) * eps
    torch.testing.assert_close(ddim_invert(smooth_denoiser, latent, rising, iterations=1), x, rtol=1e-5, atol=1e-5)


def steps_of(model, x, sigmas, **options):
    """What the callback is told of each step."""
    states = []
    ddim_invert(model, x, sigmas, callback=states.append, **options)
    return states


def test_a_linear_model_is_solved_by_its_first_extrapolation(latent):
    """With D(x) = x / 4 the step is x' = x + h (3/4) x' / s', which has the solution x / (1 - 3h / 4s')."""
    rising = torch.tensor([0.5, 1.0, 3.0])
    states = steps_of(lambda x, sigma: x / 4, latent, rising, tolerance=1e-5)
    expected = latent / (1 - 0.75 * 0.5 / 1.0) / (1 - 0.75 * 2.0 / 3.0)
    torch.testing.assert_close(states[-1]["x"], expected, rtol=1e-5, atol=1e-5)
    assert [state["calls"] for state in states] == [3, 3]  # two to draw the line, one to see that it was right


def test_along_a_straight_path_the_step_below_is_the_right_guess():
    """A picture known for certain, D(x) = m: every latent on its way is m + sigma * n."""
    picture, noise = torch.randn((2, 1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    rising = torch.tensor([0.5, 1.0, 2.0, 4.0])
    states = steps_of(lambda x, sigma: picture, picture + 0.5 * noise, rising, tolerance=1e-5)
    torch.testing.assert_close(states[-1]["x"], picture + 4.0 * noise, rtol=1e-4, atol=1e-4)
    assert [state["calls"] for state in states[1:]] == [1, 1]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_the_tolerance_bounds_how_far_a_sampler_step_misses(latent, tolerance):
    rising = schedule("normal", 10, SDXL).flip(0)
    before = latent
    for state in steps_of(smooth_denoiser, latent, rising, iterations=50, tolerance=tolerance):
        below = rising[state["i"]]
        back = sample_euler(smooth_denoiser, state["x"], torch.stack([state["sigma"], below]))
        misses = (back - before).flatten(1).norm(dim=1) / state["x"].flatten(1).norm(dim=1)
        assert misses.max() <= tolerance and state["change"].max() <= tolerance
        before = state["x"]


def test_tolerance_stops_early(latent):
    calls = []

    def counting(x, sigma):
        calls.append(float(sigma[0]))
        return smooth_denoiser(x, sigma)

    sigmas = schedule("karras", 10, SDXL).flip(0)
    states = steps_of(counting, latent, sigmas, iterations=50, tolerance=1e-3)
    assert sum(state["calls"] for state in states) == len(calls) < 10 * 4
    assert min(calls) > 0


def test_iterations_are_the_most_calls_of_a_step(latent):
    states = steps_of(smooth_denoiser, latent, schedule("normal", 6, SDXL).flip(0), iterations=3, tolerance=0.0)
    assert [state["calls"] for state in states] == [3] * 6


def test_a_batch_gives_what_its_samples_give_alone(latent):
    """One sample is 30 times as far from the data as the other, so it needs more iterations."""
    batch = torch.stack([latent[0], 30 * latent[1]])
    rising = schedule("normal", 8, SDXL).flip(0)
    together = ddim_invert(smooth_denoiser, batch, rising, tolerance=1e-2)
    for i in range(2):
        alone = ddim_invert(smooth_denoiser, batch[i : i + 1], rising, tolerance=1e-2)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-6)


def test_extrapolation_solves_a_stiff_step_in_fewer_calls():
    slopes = torch.linspace(0, 0.9, 64).repeat(2, 1)  # as unequal as those of the lowest steps
    start = torch.randn((2, 64), generator=torch.Generator().manual_seed(2))
    solution = 1 / (1 - slopes)
    solved = solve_fixed_point(lambda x: 1 + slopes * x, start, InversionOptions(100, 1e-3))
    assert relative(solved.x, solution) < 1e-2
    x, plain = start, 0
    while relative(1 + slopes * x, x) > 1e-3:
        x, plain = 1 + slopes * x, plain + 1
    assert solved.calls < plain / 2


def test_the_iterate_that_moved_least_is_kept():
    """A function that jumps ever farther: what its first call gave is the best that is known."""
    wobble = iter([1.0, 5.0, 9.0])
    solved = solve_fixed_point(lambda x: x + next(wobble), torch.full((1, 4), 10.0), InversionOptions(3, 0.0))
    torch.testing.assert_close(solved.x, torch.full((1, 4), 11.0))
    assert solved.calls == 3 and float(solved.change) == pytest.approx(1 / 11)


def test_a_broken_network_shows(latent):
    assert ddim_invert(lambda x, sigma: x * torch.nan, latent, schedule("normal", 3, SDXL).flip(0)).isnan().all()


def test_callback_sees_each_step_and_may_stop(latent):
    seen = []

    def stop_at_third(state):
        seen.append(state["i"])
        if state["i"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        ddim_invert(smooth_denoiser, latent, schedule("normal", 8, SDXL).flip(0), callback=stop_at_third)
    assert seen == [0, 1, 2]


def test_falling_sigmas_are_refused(latent):
    with pytest.raises(ValueError, match="must rise"):
        ddim_invert(smooth_denoiser, latent, schedule("normal", 4, SDXL))


@pytest.mark.parametrize("options", [{"iterations": 0}, {"tolerance": -1.0}, {"tolerance": float("nan")}])
def test_bad_options_are_named(latent, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ddim_invert(smooth_denoiser, latent, schedule("normal", 4, SDXL).flip(0), **options)


def test_schedules_fall_from_the_top_to_zero():
    for name in ("normal", "karras"):
        sigmas = schedule(name, 7, SDXL)
        assert len(sigmas) == 8 and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all())
        assert sigmas[0] == pytest.approx(float(SDXL.sigmas()[-1]), rel=1e-5)
    assert len(schedule("beta", 500, SDXL)) < 500, "levels that fall together count once"
    assert schedule("ddim_uniform", 25, SDXL)[0] == pytest.approx(11.68, abs=0.01)
    with pytest.raises(ValueError, match='unknown schedule "spiral"'):
        schedule("spiral", 4, SDXL)
    with pytest.raises(ValueError, match="steps is 0"):
        schedule("normal", 0, SDXL)
