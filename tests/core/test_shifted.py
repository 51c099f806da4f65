"""Shifted contexts: posteriors are closed under quadratic tilts."""

import pytest
import torch

from bench.core.paths import Linear, Trigonometric, expand
from bench.core.shifted import Tilt, _ridge, fit_tilt
from bench.models.mixture import random_mixture

DOUBLE = torch.float64


def states(d, rows, generator):
    """Contexts, times, and a tilt for each, all at random."""
    x, c = (torch.randn(rows, d, generator=generator, dtype=DOUBLE) for _ in range(2))
    t, kappa = (torch.rand(rows, generator=generator, dtype=DOUBLE) for _ in range(2))
    return x, 0.1 + 0.8 * t, Tilt(2 * c, 3 * kappa)


@pytest.mark.parametrize("schedule", [Linear(), Trigonometric()], ids=["linear", "trigonometric"])
@pytest.mark.parametrize("d", [2, 8, 32])
def test_a_tilted_posterior_is_the_posterior_of_a_shifted_context(d, schedule, generator):
    """log p(x1|x) + c.x1 - kappa |x1|^2/2 - log p(x1|x') is the same for every x1, to 1e-10."""
    mixture = random_mixture(d, 3, seed=d)
    x, t, tilt = states(d, 9, generator)
    x1 = torch.randn(40, 9, d, generator=generator, dtype=DOUBLE)

    def log_posterior(x, t):
        alpha, beta = expand(schedule.alpha(t), x), expand(schedule.beta(t), x)
        likelihood = -0.5 * ((x - beta * x1) / alpha).square().sum(-1)
        return mixture.log_prob(x1.reshape(-1, d)).reshape(40, 9) + likelihood

    gap = log_posterior(x, t) + tilt.log(x1) - log_posterior(*tilt.context(schedule, x, t))
    assert float((gap - gap.mean(0)).abs().max()) < 1e-10


def test_a_tilt_of_zeros_is_the_context_itself(generator):
    x, t, tilt = states(3, 5, generator)
    none = Tilt(torch.zeros_like(tilt.c), torch.zeros_like(tilt.kappa))
    x_new, t_new = none.context(Linear(), x, t)
    assert torch.allclose(x_new, x, rtol=1e-12) and torch.allclose(t_new, t, rtol=1e-12)
    assert float(none.log(x).abs().max()) == 0


def test_the_fit_finds_a_quadratic_reward_and_says_how_much_it_explains(generator):
    x = torch.randn(4000, 5, generator=generator, dtype=DOUBLE)
    c = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=DOUBLE)
    found = fit_tilt(x, x @ c - 0.7 * 0.5 * x.square().sum(1) + 11)
    assert torch.allclose(found.c, c, atol=0.02) and abs(float(found.kappa) - 0.7) < 0.02
    assert found.explained > 0.999
    # A convex reward has no such tilt: kappa stays at 0.  One that is odd in x explains nothing.
    assert float(fit_tilt(x, 0.5 * x.square().sum(1)).kappa) == 0
    assert abs(fit_tilt(x, torch.sin(40 * x[:, 0])).explained) < 0.02


def test_a_pool_smaller_than_its_dimension_has_a_tilt_too():
    """The two forms of ridge regression are one: 40 draws in 200 dimensions, and in 20 of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 200, generator=generator, dtype=DOUBLE)
    r = x[:, 0] * 3
    wide, narrow = fit_tilt(x, r), fit_tilt(x[:, :20], r)
    assert 0.9 < wide.explained <= 1 and narrow.explained > 0.9
    columns = torch.randn(30, 30, generator=generator, dtype=DOUBLE)
    wider = torch.cat([columns, torch.zeros(30, 1, dtype=DOUBLE)], 1)
    a, b = _ridge(columns, columns[:, 0]), _ridge(wider, columns[:, 0])
    assert torch.allclose(a, b[:30], atol=1e-9) and abs(float(b[30])) < 1e-12
