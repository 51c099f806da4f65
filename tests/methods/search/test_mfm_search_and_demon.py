"""MFM-Search and Demon: independent outputs, and the temperature of every step."""

import math

import pytest
import torch

import methods.search.demon as demon
import methods.search.mfm_search as search
from bench.core import plugins
from bench.core.integrate import (
    STEP_VARIANCES,
    StepVariance,
    ancestral_moments,
    euler,
    integrate,
)
from bench.core.paths import Linear
from bench.core.timing import Timing
from bench.core.values import ProblemSpec
from methods.search.demon import RATES, Demon, composed, deviation, exchanged, sigma
from methods.search.mfm_search import MFMSearch, SearchParams, starts
from methods.steering.dps import DPS
from tests.worlds.one_gaussian import MEAN, VARIANCE, gaussian_problem
from tests.worlds.search_problems import bound_problem, order_statistic, problem_of

# -- MFM-Search: outputs are independent ----------------------------------------------------------


def test_one_step_of_mfm_search_is_best_of_all_draws():
    """At t = 0 the posterior is the prior: M particles with N draws are M N candidates."""
    method = MFMSearch(SearchParams(particles=2, draws=3, steps=1, posterior="exact"))
    x = method.sample(gaussian_problem(3000), 3000).x[:, 0]
    assert order_statistic(x, 6, MEAN, math.sqrt(VARIANCE)) > 0.01
    assert order_statistic(x, 4, MEAN, math.sqrt(VARIANCE)) < 1e-6


def repeated_outputs():
    """Share of outputs equal to their predecessor, where only the initial noises decide."""
    method = MFMSearch.create(
        particles=4, steps=8, posterior="tweedie", draws=1, transition="deterministic", follow="own"
    )
    x = method.sample(problem_of(n=128), 128).x
    return float((x[1:] == x[:-1]).all(1).double().mean())


def test_no_two_outputs_share_an_initial_noise(monkeypatch):
    """The public release hands overlapping windows of one pool to consecutive outputs."""
    x0 = starts(problem_of(n=128), 4)
    assert len(torch.unique(x0.flatten(0, 1), dim=0)) == 128 * 4
    # Also across batches: rows, not positions in a batch, decide.
    parts = [starts(problem_of(n=128).for_rows(range(k, k + 32)), 4) for k in range(0, 128, 32)]
    assert torch.equal(torch.cat(parts), x0)
    assert repeated_outputs() == 0.0

    def windows(problem, particles):
        pool = problem.noise("x0", 0, problem.event_shape)
        at = torch.arange(len(pool))[:, None] + torch.arange(particles)
        return pool[at % len(pool)]

    monkeypatch.setattr(search, "starts", windows)
    assert repeated_outputs() > 0.4


def test_outputs_of_mfm_search_are_uncorrelated():
    n = 2000
    method = MFMSearch.create(particles=4, steps=5, draws=2, posterior="exact")
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    centred = x - x.mean()
    correlation = float((centred[1:] * centred[:-1]).mean() / centred.var())
    assert abs(correlation) < 4 / math.sqrt(n)


def test_deterministic_tweedie_search_is_best_of_n_with_the_ode():
    """u D + (1 - u) (x - t D) / (1 - t) is the Euler step x + (u - t) b."""
    method = MFMSearch.create(
        particles=3, steps=9, posterior="tweedie", transition="deterministic", follow="own"
    )
    problem = problem_of(n=40)
    x0 = starts(problem, 3)
    ends = integrate(euler(problem.flow.velocity), x0.flatten(0, 1), method.grid(problem.timing))
    r = problem.reward(ends).reshape(40, 3)
    expected = ends.reshape(x0.shape)[torch.arange(40), r.argmax(1)]
    assert torch.allclose(method.sample(problem, 40).x, expected, atol=1e-4)


def test_the_grid_of_mfm_search_is_the_release_grid():
    grid = torch.tensor(MFMSearch.create(steps=250).grid(Timing()), dtype=torch.float64)
    assert torch.allclose(grid, torch.linspace(0.01, 1, 251, dtype=torch.float64) ** 2.5)
    assert MFMSearch.create(steps=250).work(ProblemSpec((2,))).cost("paper-nfe") == 2 * 8 * 4 * 250


@pytest.mark.parametrize("follow", ["best", "own"])
def test_the_last_particle_is_the_best_last_draw(follow, monkeypatch):
    """Nothing is scored again: the returned reward is the largest among those of the last step."""
    method = MFMSearch.create(steps=5, follow=follow)
    problem, seen = problem_of(n=16), []
    reward = problem.reward

    def watched(x):
        seen.append(reward(x))
        return seen[-1]

    problem.reward = watched
    x = method.sample(problem, 16).x
    last = seen[-1].reshape(4, 16, 8)
    assert torch.allclose(reward(x), last.amax((0, 2)), atol=1e-6)


def test_mfm_search_does_not_know_the_strength():
    """Greedy: a reward scaled by a power of two gives the same samples to the bit."""
    task = plugins.load("tasks", "gmm-paper").create()
    x = [
        MFMSearch.create(steps=6)
        .sample(bound_problem(task, lambda x, s=s: s * x.sum(1), 32, 0), 32)
        .x
        for s in (1.0, 8.0)
    ]
    assert torch.equal(*x)


# -- Demon: the temperature of every step ---------------------------------------------------------


def rescaled_by_step(method, factor):
    """Samples where the k-th look-ahead sees factor^k times the reward."""
    task, calls = plugins.load("tasks", "gmm-paper").create(), iter(range(1000))
    problem = bound_problem(task, lambda x: factor ** next(calls) * x.sum(1), 32, 0)
    return method.sample(problem, 32).x


def test_the_adaptive_temperature_is_that_of_the_step(monkeypatch):
    """A reward whose scale changes from step to step changes nothing; a tau kept would feel it."""
    method = Demon.create(candidates=6, steps=8)
    base = rescaled_by_step(method, 1.0)
    assert torch.equal(base, rescaled_by_step(method, 4.0))
    fixed = Demon.create(candidates=6, steps=8, adaptive=False)
    assert not torch.allclose(rescaled_by_step(fixed, 1.0), rescaled_by_step(fixed, 4.0), atol=0.01)

    first = []

    def overwritten(value):
        """The public code: the flag "adaptive" gives way to the first step's number."""
        first.append(deviation(value))
        return first[0]

    monkeypatch.setattr(demon, "deviation", overwritten)
    once = rescaled_by_step(method, 1.0)
    first.clear()
    assert not torch.allclose(once, rescaled_by_step(method, 4.0), atol=0.01)


def test_the_composed_noise_is_the_formula(generator):
    z = torch.randn(5, 7, 3, 2, generator=generator, dtype=torch.float64)
    value = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    tau = deviation(value)
    assert torch.allclose(tau[:, 0], value.std(1))
    out = composed(z, value, tau)
    assert torch.allclose(out.flatten(1).norm(dim=1), torch.tensor(math.sqrt(6.0)).double())
    for i in range(5):
        total = sum(
            math.tanh(float((value[i, k] - value[i].mean()) / value[i].std())) * z[i, k]
            for k in range(7)
        )
        assert torch.allclose(out[i] * total.norm(), total * math.sqrt(6.0))
    # A cold demon counts signs.
    signs = (value - value.mean(1, keepdim=True)).sign()
    cold = composed(z, value, torch.full((5, 1), 1e-12).double())
    total = (signs[..., None, None] * z).sum(1)
    assert torch.allclose(cold * total.flatten(1).norm(dim=1)[:, None, None], total * 6**0.5)


def test_without_a_preference_demon_is_the_base_sampler():
    """One candidate, or a constant reward (whose mean may be off by rounding)."""
    task = plugins.load("tasks", "gmm-paper").create()
    base = DPS.create(steps=9, guidance=0.0, integrator="ancestral")
    x = base.sample(problem_of(n=32), 32).x
    flat = bound_problem(task, lambda x: 0 * x[:, 0] + 0.1, 32, 0)
    chain = {"steps": 9, "noise": "memoryless", "ode_after": 1.0}
    alone = Demon.create(candidates=1, **chain)
    assert torch.allclose(alone.sample(problem_of(n=32), 32).x, x, atol=1e-4)
    assert torch.allclose(Demon.create(candidates=5, **chain).sample(flat, 32).x, x, atol=1e-4)


def test_a_demon_that_exchanges_no_noise_is_the_ode():
    """With rate 0, and after `ode_after`, a step is Euler's."""
    start = problem_of(n=32)
    grid = start.grid(9, 0.01)
    x = integrate(euler(start.flow.velocity), start.x0(), grid)
    for still in ({"beta": 0.0, "variance": "posterior"}, {"ode_after": 0.0}):
        moved = Demon.create(candidates=3, steps=9, **still).sample(problem_of(n=32), 32).x
        assert torch.allclose(moved, x, atol=1e-4)
    times = start.grid(20, 0.01)
    assert Demon.create(steps=20).chosen(times) == 18
    assert Demon.create(steps=20, ode_after=1).chosen(times) == 19


def test_exchanging_noise_at_any_rate_keeps_the_marginals():
    """On one Gaussian, where the exact spread of x1 is known: mean and variance of x_u."""
    i, v, m, t, u = Linear(), 0.6, 0.7, torch.tensor([0.4]).double(), torch.tensor([0.55]).double()
    exact = StepVariance("", lambda i, t: i.alpha(t) ** 2 * v / (i.alpha(t) ** 2 + t**2 * v))
    gain = t * v / (i.alpha(t) ** 2 + t**2 * v)

    def step(x, rho):
        return exchanged(i, x, m + gain * (x - t * m), t, u, rho, exact)

    for rate in RATES.values():
        rho = rate.kept(sigma(i, t), sigma(i, u), 0.5)
        (low, s), (high, _) = step((t * m)[None], rho), step((t * m + 1)[None], rho)
        total = (high - low) ** 2 * (i.alpha(t) ** 2 + t**2 * v) + s**2
        assert torch.allclose(low, (u * m)[None])
        assert torch.allclose(total, i.alpha(u) ** 2 + u**2 * v)
    memoryless = RATES["memoryless"].kept(sigma(i, t), sigma(i, u), 0.5)
    x = torch.randn(6, 1).double()
    each = (x, x.square(), t.expand(6), u.expand(6))
    found = exchanged(i, *each, memoryless.expand(6), STEP_VARIANCES["signal"])
    for got, wanted in zip(
        found, ancestral_moments(i, *each, STEP_VARIANCES["signal"]), strict=True
    ):
        assert torch.allclose(got, wanted)
