import pytest
import torch

from any2pix.stages.invert import ddim_invert
from any2pix.stages.sample import sample_euler, schedule, train_sigmas


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


@pytest.mark.parametrize("name", ["normal", "karras", "ddim_uniform"])
def test_inversion_then_sampling_returns_the_source(latent, name):
    sigmas = schedule(name, 20)
    raised = ddim_invert(smooth_denoiser, latent, sigmas.flip(0), iterations=30, tolerance=1e-7)
    assert relative(sample_euler(smooth_denoiser, raised, sigmas), latent) < 1e-4


def test_fixed_point_iteration_beats_plain_ddim(latent):
    sigmas = schedule("normal", 20)
    errors = []
    for iterations in (1, 3, 10):
        raised = ddim_invert(smooth_denoiser, latent, sigmas.flip(0), iterations=iterations, tolerance=0.0)
        errors.append(relative(sample_euler(smooth_denoiser, raised, sigmas), latent))
    assert errors[0] > errors[1] > errors[2]


def test_tolerance_stops_early(latent):
    calls = []

    def counting(x, sigma):
        calls.append(float(sigma[0]))
        return smooth_denoiser(x, sigma)

    sigmas = schedule("karras", 10).flip(0)
    ddim_invert(counting, latent, sigmas, iterations=50, tolerance=1e-3)
    assert 10 <= len(calls) < 10 * 15
    assert min(calls) > 0


def test_callback_sees_each_step_and_may_stop(latent):
    seen = []

    def stop_at_third(state):
        seen.append(state["i"])
        if state["i"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        ddim_invert(smooth_denoiser, latent, schedule("normal", 8).flip(0), callback=stop_at_third)
    assert seen == [0, 1, 2]


def test_falling_sigmas_are_refused(latent):
    with pytest.raises(ValueError, match="must rise"):
        ddim_invert(smooth_denoiser, latent, schedule("normal", 4))


@pytest.mark.parametrize("options", [{"iterations": 0}, {"tolerance": -1.0}, {"tolerance": float("nan")}])
def test_bad_options_are_named(latent, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ddim_invert(smooth_denoiser, latent, schedule("normal", 4).flip(0), **options)


def test_schedules_fall_from_the_top_to_zero():
    for name in ("normal", "karras"):
        sigmas = schedule(name, 7)
        assert len(sigmas) == 8 and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all())
        assert sigmas[0] == pytest.approx(float(train_sigmas()[-1]), rel=1e-5)
    assert schedule("ddim_uniform", 25)[0] == pytest.approx(11.68, abs=0.01)
    with pytest.raises(ValueError, match='unknown schedule "spiral"'):
        schedule("spiral", 4)
    with pytest.raises(ValueError, match="steps is 0"):
        schedule("normal", 0)
