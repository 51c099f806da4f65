"""Search methods: more effort is more reward, and predicted work is measured work."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bench.loops.blocks as blocks
from bench.core import plugins
from bench.core.methods import Need
from bench.core.params import UserError
from bench.core.values import ProblemSpec, Samples
from bench.plan.matching import GOOD_USE, bounds, match
from methods.particles.psi import Psi
from methods.particles.svdd import SVDD
from methods.search.best_of_n import BestOfN, BestOfNFewStep
from methods.search.blockwise import CoDe
from methods.search.demon import Demon
from methods.search.mfm_search import MFMSearch
from methods.search.paths import SoP
from methods.search.pruning import PrunedBestOfN
from methods.search.reno import ReNO
from methods.search.rollover import RBF
from methods.search.zero_order import ZeroOrder
from methods.steering.diamond import Diamond
from methods.steering.fmrg import FMRG
from tests.worlds.one_gaussian import gaussian_problem
from tests.worlds.search_problems import at_dimension, problem_of

NEW = [
    "best-of-n",
    "best-of-n-pruned",
    "mfm-search",
    "zero-order",
    "reno",
    "demon",
    "code",
    "sop",
    "rbf",
    "dts",
    "psi-sampler",
    "diamond",
    "fmrg",
]


def in_batches(method, problem, size):
    rows = [problem.rows[k : k + size] for k in range(0, len(problem.rows), size)]
    return Samples.joined([method.sample(problem.for_rows(part), len(part)) for part in rows])


def mean_reward(method, n=512, reward="linear"):
    problem = problem_of(n=n, reward=reward)
    r = problem.reward(method.sample(problem, n).x)
    return float(r.mean()), float(r.std()) / math.sqrt(n)


# -- more effort, more reward ---------------------------------------------------------------------

LADDERS = {
    "best-of-n": [BestOfN.create(candidates=c, integrator="ancestral") for c in (1, 4, 16)],
    "best-of-n-pruned": [PrunedBestOfN.create(candidates=c) for c in (2, 8, 32)],
    "mfm-search particles": [MFMSearch.create(particles=m, steps=10) for m in (1, 3, 9)],
    "mfm-search draws": [MFMSearch.create(particles=1, draws=n, steps=10) for n in (1, 4, 16)],
    "zero-order": [ZeroOrder.create(iterations=i, steps=10, generator="ode") for i in (0, 4, 12)],
    "reno": [ReNO.create(iterations=i, **at_dimension(2, rate=1.0, weight=1.0)) for i in (1, 3, 9)],
    "demon": [Demon.create(candidates=c, steps=10) for c in (2, 4, 16)],
}


@pytest.mark.parametrize("name", LADDERS)
def test_reward_grows_with_effort(name):
    """On the linear reward, each rung by more than three standard errors."""
    for (low, error), (high, other) in pairwise(mean_reward(m) for m in LADDERS[name]):
        assert high - low > 3 * math.hypot(error, other), (name, low, high)


def test_more_effort_never_lowers_the_reward_of_noise_search():
    """Both keep the best sample seen, row by row."""
    problem = problem_of("digits", "class", n=8)
    for short, long in (
        (
            ZeroOrder.create(iterations=1, steps=4, generator="ode"),
            ZeroOrder.create(iterations=3, steps=4, generator="ode"),
        ),
        (ReNO.create(iterations=3), ReNO.create(iterations=9)),
    ):
        r = [problem.reward(m.sample(problem, 8).x) for m in (short, long)]
        assert bool((r[1] >= r[0] - 1e-5).all()) and float((r[1] - r[0]).mean()) > 0


def test_one_evaluation_is_the_generator():
    """Common noise: no search is the base model of each generator."""
    cases = [
        (ReNO.create(iterations=1), BestOfNFewStep.create(candidates=1, steps=1)),
        (
            ReNO.create(iterations=1, generator="ode", steps=10),
            BestOfN.create(candidates=1, steps=10),
        ),
        (
            ZeroOrder.create(iterations=0, steps=10, generator="ode"),
            BestOfN.create(candidates=1, steps=10),
        ),
    ]
    for method, base in cases:
        assert torch.equal(*(m.sample(problem_of(n=16), 16).x for m in (method, base)))


# -- contracts ------------------------------------------------------------------------------------

EVERYWHERE = [
    BestOfN.create(candidates=3, steps=10, integrator="sde"),
    BestOfN.create(candidates=2, steps=10, integrator="ancestral"),
    BestOfN.create(candidates=2, steps=10, solver="heun"),
    BestOfNFewStep.create(candidates=3),
    PrunedBestOfN.create(candidates=5, steps=12),
    PrunedBestOfN.create(candidates=9, steps=10, looks=2, keep=0.4, integrator="ancestral"),
    PrunedBestOfN.create(candidates=4, steps=10, looks=1, lookahead="jump", inner_steps=2),
    PrunedBestOfN.create(candidates=4, steps=10, looks=99, lookahead="ode", inner_steps=3),
    PrunedBestOfN.create(candidates=4, steps=10, lookahead="map", draws=2, integrator="sde"),
    PrunedBestOfN.create(candidates=3, steps=10, lookahead="glass", draws=2, inner_steps=3),
    MFMSearch.create(steps=6),
    MFMSearch.create(steps=5, particles=3, draws=2, follow="own", transition="deterministic"),
    MFMSearch.create(steps=5, particles=2, draws=3, inner_steps=2, transition="deterministic"),
    MFMSearch.create(steps=5, particles=2, draws=3, posterior="sde", inner_steps=2),
    MFMSearch.create(steps=5, particles=2, posterior="tweedie", follow="own"),
    MFMSearch.create(steps=5, particles=2, posterior="jump", inner_steps=2),
    SVDD.create(steps=5, candidates=3, posterior="jump", draws=2, inner_steps=2),
    ZeroOrder.create(steps=6, iterations=2, generator="ode"),
    ZeroOrder.create(steps=2, iterations=3, neighbours=2, generator="map"),
    ReNO.create(iterations=4),
    ReNO.create(iterations=3, steps=3, generator="ode", momentum=0.0),
    Demon.create(candidates=5, steps=6),
    Demon.create(candidates=3, steps=5, lookahead="jump", adaptive=False, tau=0.3),
    Demon.create(candidates=3, steps=5, lookahead="ode", inner_steps=4),
    Demon.create(candidates=2, steps=5, lookahead="map", draws=3),
    Demon.create(candidates=3, steps=6, noise="memoryless", ode_after=0.5),
    CoDe.create(candidates=3, steps=7, block=3),
    CoDe.create(candidates=3, steps=5, block=2, posterior="jump", variance="map"),
    SoP.create(candidates=3),
    SoP.create(candidates=2, paths=3, steps=2, first=0.5, back=0.2, forth=0.4, lookahead="ode"),
    RBF.create(quota=3, initial=4, steps=6),
    RBF.create(quota=2, initial=1, steps=5, variance="map"),
    Psi.create(particles=2, steps=5, moves=3, output="draw"),
    Psi.create(particles=2, steps=5, moves=2, output="draw", posterior="jump"),
    Diamond.create(steps=5, draws=3),
    Diamond.create(steps=5, draws=2, estimate="weighted"),
    FMRG.create(particles=3, steps=7),
    FMRG.create(particles=2, steps=3, stop=1.0, jacobian=False),
]
WORLDS = [("gmm-paper", "linear", False), ("gmm-paper", "inverse", True), ("digits", "class", True)]


@pytest.mark.parametrize(("world", "reward", "decoder"), WORLDS)
def test_predicted_work_is_measured_work(world, reward, decoder):
    """To the row, of every role and kind, with and without a decoder."""
    for method in EVERYWHERE:
        problem = problem_of(world, reward, decoder=decoder)
        spec = ProblemSpec(problem.event_shape, has_decoder=decoder)
        samples = method.sample(problem, 6)
        measured = problem.meter.work()
        assert measured.same_rows(method.work(spec) * 6), method.params
        assert (measured.decoder == measured.reward) is decoder
        assert samples.x.shape == (6, *problem.event_shape)
        assert not samples.x.requires_grad and bool(torch.isfinite(samples.x).all())


def test_the_exact_posterior_costs_oracle_rows():
    spec = ProblemSpec((2,), has_posterior=True)
    for method in (
        MFMSearch.create(steps=5, posterior="exact"),
        PrunedBestOfN.create(lookahead="exact", draws=2),
        Demon.create(steps=5, candidates=3, lookahead="exact", draws=2),
    ):
        problem = problem_of()
        method.sample(problem, 6)
        spent = problem.meter.work()
        assert spent.same_rows(method.work(spec) * 6) and spent.oracle.forward > 0
        assert method.needs == {Need.POSTERIOR}


@pytest.mark.parametrize("method", EVERYWHERE, ids=lambda m: type(m).__name__)
def test_same_samples_whatever_the_batch(method, monkeypatch):
    """Batches of 16, and blocks of few rows, join up to the samples of one batch of 64."""
    whole = method.sample(problem_of(n=64), 64).x
    assert torch.equal(whole, method.sample(problem_of(n=64), 64).x)
    assert not torch.equal(whole, method.sample(problem_of(n=64, seed=1), 64).x)
    monkeypatch.setattr(blocks, "ROWS", 30)
    parts = in_batches(method, problem_of(n=64), 16).x
    assert torch.allclose(whole, parts, atol=1e-3), (whole - parts).abs().max()


SPEC = ProblemSpec((2,), True, False, True, True, True)


@pytest.mark.parametrize("name", NEW)
@given(budget=st.integers(100, 20_000))
@settings(max_examples=25, deadline=None)
def test_budgets_are_used(name, budget):
    method = plugins.load("methods", name).create()
    found = match(method, SPEC, budget, lambda work: work.cost("paper-nfe"), {})
    assert found.feasible and found.use <= 1 + 1e-9
    assert found.use >= GOOD_USE, found
    assert all(bounds(method, k)[0] <= v <= bounds(method, k)[1] for k, v in found.values.items())


@pytest.mark.parametrize("name", NEW)
def test_the_least_budget_is_found(name):
    method = plugins.load("methods", name).create()
    least = match(method, SPEC, 1e-3, lambda work: work.cost("paper-nfe"), {})
    again = match(method, SPEC, least.needed, lambda work: work.cost("paper-nfe"), {})
    assert not least.feasible and again.feasible and again.use == pytest.approx(1.0)


def test_needs_follow_from_the_parameters():
    assert ReNO.create().needs == {Need.REWARD_GRADIENT, Need.FLOW_MAP}
    assert ReNO.create(generator="ode").needs == {Need.REWARD_GRADIENT}
    assert ZeroOrder.create(generator="ode").needs == Demon.create().needs == frozenset()
    assert PrunedBestOfN.create().needs == BestOfN.create().needs == frozenset()
    assert MFMSearch.create().needs == ZeroOrder.create().needs == {Need.FLOW_MAP}
    assert Demon.create(lookahead="jump").needs == {Need.FLOW_MAP}
    assert MFMSearch.create(posterior="exact").needs == {Need.POSTERIOR}


def test_heun_is_for_the_ode():
    with pytest.raises(UserError, match="solver=heun is for integrator=ode, not sde"):
        BestOfN.create(solver="heun", integrator="sde")


def test_a_gradient_that_is_lost_is_an_error():
    """The gradient of sqrt at 0 is NaN here: it must stop the run, not become a zero."""
    problem = gaussian_problem(4, reward=lambda x: (0 * x[:, 0]).sqrt())
    with pytest.raises(FloatingPointError, match="gradients are not finite"):
        ReNO.create(generator="ode", steps=3).sample(problem, 4)
