"""Psi-Sampler: its moves keep their law, and its weights bring it to the tilted chain."""

import math

import pytest
import torch

from bench.core.params import UserError
from bench.loops.posteriors import PosteriorChoice
from methods.particles.psi import Psi, Seen, log_acceptance, looked_at, proposed
from tests.methods.steering.test_fmrg_and_fmtt import SLOPE, ahead_problem
from tests.worlds.one_gaussian import chain_law
from tests.worlds.steered_mixtures import M, V

STRETCH = math.sqrt(V)


def test_moves_along_a_linear_reward_are_always_accepted(generator):
    """The Langevin drift of e^(g.x) N(0, I) in Crank-Nicolson's form is exact."""
    g = torch.randn(1, 5, generator=generator).double()

    def seen(x):
        return Seen(x, (x * g).sum(1), g.expand_as(x))

    now = seen(torch.randn(40, 5, generator=generator).double())
    for step in (0.1, 0.5, 3.0):
        z = torch.randn(40, 5, generator=generator).double()
        ratio = log_acceptance(now, seen(proposed(now, z, step)), step)
        assert torch.allclose(ratio, torch.zeros_like(ratio), atol=1e-12)


def founders(reward, step, moves=60, n=4000):
    problem = ahead_problem(n, reward=reward)
    method = Psi.create(particles=2, posterior="jump", moves=moves, step=step, start=1e-4)
    x, weight = method._founded(problem, torch.randn(n, 2, 1, dtype=torch.float64))
    ends = M + STRETCH * x.reshape(-1, 1)
    assert torch.allclose(-weight.flatten(), reward(ends), rtol=1e-2, atol=1e-2)
    return x.flatten()


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_the_founders_follow_the_tilted_noise(step):
    """A quadratic reward at the end of the map: N(0, 1) e^r is Gaussian, with known moments."""
    c = 4.0
    x = founders(lambda x: -0.5 * c * x[:, 0] ** 2, step)
    precision = 1 + c * V
    mean, deviation = -c * STRETCH * M / precision, 1 / math.sqrt(precision)
    n = len(x)
    assert abs(float(x.mean()) - mean) < 4 * deviation / math.sqrt(n)
    assert abs(float(x.std()) / deviation - 1) < 4 / math.sqrt(2 * n)


def test_without_metropolis_a_large_step_misses_that_law(monkeypatch):
    monkeypatch.setattr("methods.particles.psi.log_acceptance", lambda now, *_: now.reward * 0)
    x = founders(lambda x: -2.0 * x[:, 0] ** 2, 2.0)
    assert abs(float(x.std()) * math.sqrt(1 + 4 * V) - 1) > 0.1


@pytest.mark.parametrize("posterior", ["tweedie", "jump"])
def test_psi_is_weighed_to_the_tilted_chain(posterior):
    """However the founders were moved: the tilted mean of the chain, in closed form."""
    n, particles = 600, 64
    method = Psi.create(
        particles=particles, steps=12, moves=5, posterior=posterior, threshold=0.9, output="draw"
    )
    samples = method.sample(ahead_problem(n), n)
    mean, variance = chain_law(M, V, 12)
    x, deviation = samples.x[:, 0], math.sqrt(variance)
    tolerance = deviation * (3 / math.sqrt(n) + 4 / particles)
    assert abs(float(x.mean()) - mean - SLOPE * variance) < tolerance
    assert samples.log_z is None


def test_a_look_is_the_reward_at_the_end_of_the_map():
    problem = ahead_problem(7)
    x = torch.randn(7, 1).double()
    seen = looked_at(problem, PosteriorChoice("jump"), x, [0.0])
    assert torch.allclose(seen.reward, SLOPE * (M + STRETCH * x[:, 0]))
    assert torch.allclose(seen.gradient, torch.full_like(x, SLOPE * STRETCH))


def test_chance_in_the_look_is_refused():
    with pytest.raises(UserError, match="without chance"):
        Psi.create(posterior="map")
