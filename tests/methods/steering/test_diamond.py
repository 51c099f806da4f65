"""Diamond Maps on one Gaussian, where the weighted estimate tends to the exact gradient."""

import math

import pytest
import torch

from methods.steering.diamond import Diamond, Renoised, weighted_term
from methods.steering.mfm import MFMGradient
from tests.methods.steering.test_fmrg_and_fmtt import SLOPE, ahead_problem
from tests.worlds.search_problems import problem_of
from tests.worlds.steered_mixtures import M, V


def quadratic(x):
    return SLOPE * x[:, 0] - 0.8 * x[:, 0] ** 2


def exact_slope(x, t, c=1.6):
    """grad V of r = SLOPE x - c x^2 / 2: the tilted mean of the posterior N(D, v) less D."""
    v = (1 - t) ** 2 * V / ((1 - t) ** 2 + t**2 * V)
    mean = M + t * V / ((1 - t) ** 2 + t**2 * V) * (x - t * M)
    return t / (1 - t) ** 2 * ((SLOPE * v + mean) / (1 + c * v) - mean)


def estimated(n, draws, t, snr=5.0, seed=0):
    problem = ahead_problem(n, seed, reward=quadratic)
    x = torch.linspace(-1, 1.5, 5).double()[:, None].repeat_interleave(n // 5, 0)
    term = weighted_term(problem, Diamond.create(draws=draws, snr=snr).params)
    found = term(x, torch.full((n,), t).double(), 0)
    return found.gradient[:, 0].reshape(5, -1), exact_slope(x[:: n // 5, 0], t)


@pytest.mark.parametrize("t", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("snr", [3.0, 5.0, 20.0])
def test_the_weighted_estimate_tends_to_the_exact_gradient(t, snr):
    """Consistent, whatever the way back: within three standard errors and O(1/N)."""
    found, exact = estimated(100, 2000, t, snr)
    error = found.std(1) / math.sqrt(20)
    assert bool(((found.mean(1) - exact).abs() < 4 * error + 0.02 * exact.abs() + 1e-3).all())


def test_its_error_falls_as_the_root_of_the_draws():
    few, many = (
        float((found - exact[:, None]).square().mean().sqrt())
        for found, exact in (estimated(1000, n, 0.4) for n in (50, 800))
    )
    assert few / many == pytest.approx(4, rel=0.3)


def test_weights_are_needed(monkeypatch):
    """By the reward alone, as the release weighs by default, it tends to something else."""
    monkeypatch.setattr("methods.steering.diamond.log_weights", lambda fit, *_: 0 * fit)
    found, exact = estimated(100, 2000, 0.4)
    error = found.std(1) / math.sqrt(20)
    assert bool(((found.mean(1) - exact).abs() > 4 * error).any())


def test_the_way_back_divides_the_signal_to_noise_ratio():
    problem = ahead_problem(3)
    t = torch.tensor([0.2, 0.5, 0.9]).double()
    at = Renoised.of(problem.interpolant, t, 5.0)
    assert torch.allclose((at.time / (1 - at.time)) ** 2 * 5, (t / (1 - t)) ** 2)
    assert torch.allclose(at.rho * t, at.time)
    assert torch.allclose(at.s**2 + (at.rho * (1 - t)) ** 2, (1 - at.time) ** 2)


def test_the_posterior_estimate_is_that_of_mfm_g():
    same = {"draws": 3, "steps": 6}
    x = [
        m.sample(problem_of(n=32), 32).x
        for m in (Diamond.create(**same), MFMGradient.create(**same))
    ]
    assert torch.equal(*x)
