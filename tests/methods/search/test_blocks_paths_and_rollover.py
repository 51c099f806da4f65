"""CoDe, search over paths and rollover budget forcing on one Gaussian: limits in closed form."""

import math

import pytest
import torch

from bench.core.values import ProblemSpec
from methods.particles.svdd import SVDD
from methods.search.blockwise import CoDe
from methods.search.paths import SoP
from methods.search.rollover import RBF
from methods.steering.dps import DPS
from tests.worlds.one_gaussian import MEAN, SLOPE, VARIANCE, chain_law, gaussian_problem
from tests.worlds.search_problems import order_statistic, problem_of

FINE = {"steps": 200}

# -- CoDe -----------------------------------------------------------------------------------------


def test_code_with_blocks_of_one_step_is_svdd():
    choice = {"candidates": 5, "steps": 8, "alpha": 0.7}
    x = [
        m.sample(problem_of(n=32), 32).x
        for m in (CoDe.create(block=1, **choice), SVDD.create(**choice))
    ]
    assert torch.equal(*x)


def test_code_with_one_block_is_best_of_n():
    """Paths that forget their common start: rewards of the winners follow F^N."""
    n, method = 3000, CoDe.create(candidates=7, steps=20, block=20)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    mean, variance = chain_law(MEAN, VARIANCE, 20)
    assert order_statistic(x, 7, mean, math.sqrt(variance)) > 0.01
    assert all(order_statistic(x, other, mean, math.sqrt(variance)) < 1e-6 for other in (5, 9))


def test_code_looks_at_the_ends_of_blocks():
    design = CoDe.create(steps=20, block=5).design()
    assert set(design.tempers) == {5, 10, 15, 19}
    work = CoDe.create(steps=20, block=5, candidates=8).work(ProblemSpec((2,)))
    assert (work.flow.forward, work.reward.forward) == (1 + 8 * 19, 8 * 4)


# -- search over paths ----------------------------------------------------------------------------


def test_a_single_path_keeps_the_base_law():
    """Noising back and the ODE both keep the marginals, whatever the reward."""
    n, method = 4000, SoP.create(candidates=1, paths=1, **FINE)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    assert order_statistic(x, 1, MEAN, math.sqrt(VARIANCE)) > 0.01


def test_paths_that_are_noised_back_to_the_start_are_best_of_n():
    """One round, from (nearly) nothing: M N independent samples of the base model."""
    n = 3000
    method = SoP.create(candidates=4, paths=2, first=0.5, back=0.49, forth=0.99, **FINE)
    assert method.legs() == [(pytest.approx(0.01), 1.0)]
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    assert order_statistic(x, 8, MEAN, math.sqrt(VARIANCE)) > 0.01
    assert all(order_statistic(x, c, MEAN, math.sqrt(VARIANCE)) < 1e-6 for c in (6, 10))


def test_the_legs_of_the_release():
    legs = SoP.create().legs()
    assert legs == [
        (pytest.approx(0.10), pytest.approx(0.91)),
        (pytest.approx(0.13), pytest.approx(0.94)),
        (pytest.approx(0.16), pytest.approx(0.97)),
        (pytest.approx(0.19), 1.0),
    ]


# -- rollover budget forcing ----------------------------------------------------------------------


def test_a_quota_of_one_is_the_base_chain():
    """Whatever the reward, every step takes its only candidate."""
    n, method = 4000, RBF.create(quota=1, initial=1, steps=12)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    mean, variance = chain_law(MEAN, VARIANCE, 12)
    assert order_statistic(x, 1, mean, math.sqrt(variance)) > 0.01
    base = DPS.create(steps=12, guidance=0.0, integrator="ancestral")
    assert torch.allclose(x[:50], base.sample(gaussian_problem(50), 50).x[:, 0])


def steps_taken(reward, quota=6, steps=8, n=40):
    """The step at which the rows stand after every tick, averaged."""
    problem, seen = gaussian_problem(n, reward=reward), []
    problem.on_log = lambda _, info: seen.append(info["at"])
    RBF.create(quota=quota, initial=1, steps=steps).sample(problem, n)
    return seen


def test_a_quota_is_spent_where_nothing_better_is_found():
    """A constant reward is never beaten: every step takes its whole quota."""
    seen = steps_taken(lambda x: 0 * x[:, 0])
    assert seen == [min((tick + 1) // 6, 6) for tick in range(42)]


def test_what_beats_all_before_is_taken_at_once():
    """A reward that grows with every call: one candidate per step, the rest goes to the last."""
    calls = iter(range(1000))
    seen = steps_taken(lambda x: 0 * x[:, 0] + next(calls))
    assert seen == [min(tick + 1, 6) for tick in range(42)]


def test_the_returned_sample_has_the_reward_that_was_seen():
    """No sample of the last step was better, and what rolled over made it more."""
    method = RBF.create(quota=4, initial=5, steps=6)
    few = SLOPE * method.sample(gaussian_problem(2000), 2000).x[:, 0]
    more = SLOPE * method.with_params(quota=16).sample(gaussian_problem(2000), 2000).x[:, 0]
    error = math.hypot(float(few.std()), float(more.std())) / math.sqrt(2000)
    assert float(more.mean() - few.mean()) > 3 * error
