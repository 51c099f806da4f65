"""Matching spends a budget: never more, at least 90 % where the ranges allow it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core import plugins
from bench.core.params import range_of
from bench.core.values import ProblemSpec
from bench.plan.binding import bind
from bench.plan.matching import GOOD_USE, bounds, match
from sweeps.space import axes_of
from tests.worlds.planned_problems import problem_of

SPEC = ProblemSpec((2,), True, False, True, True, True)
METHODS = ["prior", "oracle", "best-of-n", "best-of-n-fewstep", "dps", "rollout", "mfm-g", "mfm-gf"]

FEW = {
    "best-of-n": {},
    "best-of-n-pruned": {},
    "code": {"candidates": 4},
    "demon": {"candidates": 4},
    "dts": {"rollouts": 8},
    "fmtt": {"particles": 4},
    "freedom": {},
    "mfm-search": {"particles": 4},
    "mpgd": {},
    "psi-sampler": {"particles": 4},
    "rbf": {},
    "svdd": {"candidates": 4},
    "tfg": {},
    "ugd": {},
}
"""Methods with a least number of steps of their own, at little effort."""


def cost(work):
    return work.cost("paper-nfe")


@pytest.mark.parametrize("name", METHODS)
@given(budget=st.integers(60, 20_000))
@settings(max_examples=25, deadline=None)
def test_budget_is_used_and_never_exceeded(name, budget):
    method = plugins.load("methods", name).create()
    found = match(method, SPEC, budget, cost, {})
    assert found.feasible
    spent = cost(method.with_params(**found.values).work(SPEC))
    assert spent <= budget * (1 + 1e-9)
    assert spent == pytest.approx(found.cost)
    at_most = all(found.values[k] == bounds(method, k)[1] for k in found.values)
    # Coarse steps may leave more than a tenth of a budget this small; otherwise only the end of the
    # declared range may.
    assert found.use >= GOOD_USE or at_most or budget < 100
    assert found.underused == (found.use < GOOD_USE)


@pytest.mark.parametrize("name", METHODS)
def test_too_small_a_budget_says_what_is_needed(name):
    method = plugins.load("methods", name).create()
    least = match(method, SPEC, 1e-3, cost, {})
    assert not least.feasible
    again = match(method, SPEC, least.needed, cost, {})
    assert again.feasible and again.use == pytest.approx(1.0)


def test_pinned_parameters_are_kept():
    method = plugins.load("methods", "mfm-g").create(draws=4)
    found = match(method, SPEC, 500, cost, {"draws": 4})
    assert "draws" not in found.values and found.values["steps"] == 500 // 17
    fixed = plugins.load("methods", "mfm-g").create(draws=4, steps=50)
    found = match(fixed, SPEC, 500, cost, {"draws": 4, "steps": 50})
    assert not found.feasible and found.needed == 50 * 17


def test_the_paper_formulas():
    """F.3.5: MFM-GF K + 2NK, MFM-G K + 4NK, DPS 4NK, Best-of-N K N + N."""

    def price(name, **params):
        return cost(plugins.load("methods", name).create(**params).work(SPEC))

    assert price("mfm-g", steps=250, draws=8) == 8250
    assert price("mfm-gf", steps=250, draws=8) == 250 + 2 * 8 * 250
    assert price("dps", steps=250) == 1000
    assert price("best-of-n", steps=250, candidates=1000) == 251_000
    assert price("rollout", steps=10, draws=3, inner_steps=4) == 10 * (1 + 3 * 3 + 3)


def test_gradient_free_methods_get_at_least_two_draws():
    for name in ("mfm-gf", "rollout"):
        method = plugins.load("methods", name).create()
        assert match(method, SPEC, 60, cost, {}).values["draws"] >= 2


def test_the_least_setting_is_found_beyond_the_settings_that_are_tried():
    """With a secondary parameter far above its least value, only the least one fits."""
    method = plugins.load("methods", "mfm-g").create(steps=2000)
    found = match(method, SPEC, 5 * 5, cost, {})
    assert found.feasible and found.values == {"draws": 1, "steps": 5}


@pytest.mark.parametrize("name", FEW)
def test_small_numbers_of_steps_are_given_and_not_chosen(name):
    """Pipelines of 4 and 8 steps exist; matching and sweeps begin where a method is itself."""
    cls = plugins.load("methods", name)
    method = cls.create(steps=4)
    least = range_of(cls.Params, "steps").least
    assert bounds(method, "steps")[0] == least > 4
    axes = {axis.name: axis for axis in axes_of(name, cls.create().params, {}, {})}
    assert axes["steps"].low == least


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_few_steps_are_predicted_too(name, steps):
    effort = {"steps": steps, **FEW[name]}
    problem, n = problem_of("gmm-paper", "quadratic"), 6
    method = plugins.load("methods", name).create(**effort)
    samples = method.sample(problem, n)
    predicted, work = method.work(bind("gmm-paper", "quadratic").spec) * n, problem.meter.work()
    assert torch.isfinite(samples.x).all()
    pairs = list(zip(work.vector, predicted.vector, strict=True))
    assert all(a <= b + 1e-9 for a, b in pairs)
    assert predicted.upper_bound or work.same_rows(predicted)
