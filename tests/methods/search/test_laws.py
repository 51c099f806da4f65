"""Search on one Gaussian, where every law is known: winners, pruning, noise search."""

import math
from itertools import pairwise

import pytest
import torch

from bench.core.integrate import integrate, uniform_grid
from bench.core.values import ProblemSpec
from bench.models.mixture import Mixture
from methods.search.best_of_n import BestOfN, sde_step
from methods.search.pruning import PrunedBestOfN
from methods.search.reno import DIMENSION, ReNO, scaled
from methods.search.zero_order import ZeroOrder
from tests.worlds.one_gaussian import (
    MEAN,
    SLOPE,
    VARIANCE,
    gaussian_problem,
    mixture_problem,
)
from tests.worlds.search_problems import at_dimension, euler_map, order_statistic, problem_of

# -- one Gaussian, where every law is known -------------------------------------------------------

WINNERS = {
    "best-of-n": (BestOfN.create(candidates=7, steps=10), 7),
    "best-of-n-pruned": (PrunedBestOfN.create(candidates=7, steps=10), 7),
    "random search": (
        ZeroOrder.create(similarity=0.0, neighbours=3, iterations=2, steps=10, generator="ode"),
        7,
    ),
}


@pytest.mark.parametrize("name", WINNERS)
def test_the_winner_of_n_is_an_order_statistic(name):
    """Rewards of the winners have the distribution function F^N, and not F^(N - 2) or F^(N + 2)."""
    (method, count), n = WINNERS[name], 3000
    offset, slope = euler_map(10)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    assert order_statistic(x, count, offset, slope) > 0.01
    assert all(order_statistic(x, other, offset, slope) < 1e-6 for other in (count - 2, count + 2))


@pytest.mark.parametrize("integrator", ["sde", "ancestral"])
def test_stochastic_candidates_have_the_base_law(integrator):
    n, method = 4000, BestOfN.create(candidates=1, steps=400, integrator=integrator)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    assert order_statistic(x, 1, MEAN, math.sqrt(VARIANCE)) > 0.01


def test_stochastic_candidates_differ_by_the_noise_on_the_way():
    """From one initial noise the memoryless SDE forgets: candidates spread as the data do."""
    n, count = 500, 4
    problem = gaussian_problem(n)
    same = problem.x0().expand(n, count).reshape(-1, 1)
    step = sde_step(problem, "ancestral", count)
    x = integrate(step, same, uniform_grid(50)).reshape(n, count)
    assert float(x.var(1).mean()) == pytest.approx(VARIANCE, rel=0.15)
    alone = integrate(sde_step(problem, "ancestral", 1), problem.x0(), uniform_grid(50))
    assert torch.allclose(x[:, :1], alone)  # candidate 0 meets the common noise


def test_pruning_by_an_order_that_lasts_loses_nothing():
    """In 1-D the ODE keeps the order: the winner of best-of-n, for less."""
    whole, pruned = BestOfN.create(candidates=16), PrunedBestOfN.create(candidates=16)
    a, b = gaussian_problem(200), gaussian_problem(200)
    assert torch.allclose(whole.sample(a, 200).x, pruned.sample(b, 200).x, atol=1e-12)
    assert b.meter.work().cost("paper-nfe") < 0.6 * a.meter.work().cost("paper-nfe")


@pytest.mark.parametrize("look", ["tweedie", "jump", "exact"])
def test_nothing_pruned_is_best_of_n(look):
    for integrator in ("ode", "ancestral", "sde"):
        whole = BestOfN.create(candidates=5, steps=11, integrator=integrator)
        settings = {"candidates": 5, "steps": 11, "integrator": integrator, "lookahead": look}
        for same in ({"looks": 0}, {"keep": 1.0}):
            pruned = PrunedBestOfN.create(**settings, **same)
            assert pruned.needs == frozenset()
            x, y = (m.sample(problem_of(n=20), 20).x for m in (whole, pruned))
            assert torch.allclose(x, y, atol=1e-5)


def test_pruning_halves_at_the_release_times():
    """8, 4, 2, 1 candidates at steps 25, 50 and 75 of 100; the last one needs no final score."""
    method = PrunedBestOfN.create(steps=100)
    counts = method.counts()
    assert [k for k, (m, left) in enumerate(pairwise(counts)) if left < m] == [25, 50, 75]
    work = method.work(ProblemSpec((2,)))
    # A pruning step evaluates the velocity of all who are looked at.
    assert work.flow.forward == 26 * 8 + 25 * 4 + 25 * 2 + 24
    assert work.reward.forward == 8 + 4 + 2
    jumping = PrunedBestOfN.create(steps=100, lookahead="jump").work(ProblemSpec((2,)))
    assert jumping.map.forward == 14
    assert jumping.flow.forward == 25 * (8 + 4 + 2 + 1)


def test_reno_climbs_to_the_regularised_optimum():
    """r = s (A e + B), d = 1: the penalty lambda e^2 / 2 puts the optimum at e* = s A / lambda."""
    offset, slope = euler_map(4)
    n, best = 64, SLOPE * slope / 2.0
    method = ReNO.create(
        generator="ode", steps=4, momentum=0.0, clip=1e6, **at_dimension(1, rate=0.3, weight=2.0)
    )
    problem = gaussian_problem(n)
    # The iterate of highest reward is returned: the start, if it lies beyond the optimum.
    expected = offset + slope * problem.x0().clamp(min=best)
    assert torch.allclose(method.sample(problem, n).x, expected, atol=1e-6)


def test_a_clipped_step_has_a_known_length():
    """One Nesterov step: rate (1 + momentum) clip along the gradient."""
    offset, slope = euler_map(4)
    problem = gaussian_problem(64)
    method = ReNO.create(generator="ode", steps=4, iterations=2, regularisation=0.0)
    expected = offset + slope * (problem.x0() + 5.0 / 128 * 1.9 * 0.1)
    assert torch.allclose(method.sample(problem, 64).x, expected)


def test_the_path_of_reno_is_the_same_in_every_dimension():
    """In units of sqrt(d), on N(0, I), whose map is the identity; the release's own at 16,384."""

    class Identity:
        velocity = None

        def jump(self, x, s, u, condition=None):
            return x

    def path(d):
        one = torch.ones(1).double()
        data = Mixture(one, torch.zeros(1, d).double(), torch.ones(1, 1).double())
        slope = torch.zeros(d).double()
        slope[0] = 3.0
        problem = mixture_problem(data, lambda x: x @ slope, 1, flow_map=Identity())
        e = torch.zeros(1, d).double()
        e[:, :2] = math.sqrt(d) * torch.tensor([0.6, 0.8]).double()
        problem.x0 = lambda: e
        return ReNO.create(iterations=40)._optimised(problem)[0, :2] / math.sqrt(d)

    released = path(DIMENSION)
    assert float(released[0]) > 1  # it has moved
    for d in (64, 1024):
        # d - 1 for d in the penalty is all that differs.
        assert torch.allclose(path(d), released, atol=4 / d)
    assert scaled(ReNO.create().params, DIMENSION) == (5.0, 0.01)


def test_zero_order_moves_to_the_best_neighbour():
    """By hand, with the closed-form generator: the greatest of e and c e + sqrt(1 - c^2) z_j."""
    (offset, slope), c = euler_map(10), 0.95
    method = ZeroOrder.create(steps=10, iterations=3, neighbours=5, generator="ode")
    problem = gaussian_problem(50)
    e = problem.x0()
    for i in range(3):
        z = problem.noise("neighbours", i, (5, 1))[..., 0]
        e = torch.cat([e, c * e + math.sqrt(1 - c**2) * z], 1).amax(1, keepdim=True)
    assert torch.allclose(method.sample(problem, 50).x, offset + slope * e)
