"""Search: exact laws of winners, independent outputs, fresh temperatures, predicted work."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_gaussian import MEAN, SLOPE, VARIANCE, gaussian_problem
from scipy.stats import ks_1samp, norm

import methods.demon as demon
import methods.search as search
import methods.smc as smc
from bench.core import plugins
from bench.core.contracts import Need, ProblemSpec, Samples
from bench.core.integrate import euler, integrate, uniform_grid
from bench.core.matching import GOOD_USE, bounds, match
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.params import UserError
from bench.core.problem import MeteredFlow, MeteredMap, MeteredPosterior, Problem
from methods.best_of_n import BestOfN, BestOfNFewStep, sde_step
from methods.demon import Demon, composed, deviation
from methods.noise_search import ReNO, ZeroOrder
from methods.pruning import PrunedBestOfN
from methods.search import MFMSearch, SearchParams, starts
from methods.steering import DPS
from methods.svdd import SVDD

NEW = ["best-of-n", "best-of-n-pruned", "mfm-search", "zero-order", "reno", "demon"]


def bound_problem(task, reward, n, seed, decoder=False):
    """A metered problem of two instances; a decoder, if any, belongs to the reward."""
    meter = Meter()
    scored = meter.wrap("reward", reward)
    decode = meter.wrap("decoder", lambda x: 2 * x)
    return Problem(
        flow=MeteredFlow(task.flow, meter, None),
        reward=(lambda x: scored(decode(x))) if decoder else scored,
        meter=meter,
        source=NoiseSource(seed, "search"),
        rows=range(n),
        flow_map=MeteredMap(task.flow_map, meter, None),
        posterior=None if not task.posterior else MeteredPosterior(task.posterior, meter, None),
        decode=decode if decoder else None,
    )


def problem_of(world="gmm-paper", reward="linear", n=6, seed=0, decoder=False):
    task = plugins.load("tasks", world).create()
    wish = plugins.load("rewards", reward).create()
    wish.bind(task)
    return bound_problem(task, lambda x: wish(x, None), n, seed, decoder)


def in_batches(method, problem, size):
    rows = [problem.rows[k : k + size] for k in range(0, len(problem.rows), size)]
    return Samples.joined([method.sample(problem.for_rows(part), len(part)) for part in rows])


def mean_reward(method, n=512, reward="linear"):
    problem = problem_of(n=n, reward=reward)
    r = problem.reward(method.sample(problem, n).x)
    return float(r.mean()), float(r.std()) / math.sqrt(n)


# -- one Gaussian, where every law is known -------------------------------------------------------


def euler_map(steps):
    """Offset and slope of the Euler ODE, which is affine on a Gaussian."""
    velocity = gaussian_problem(2).flow.velocity
    ends = torch.tensor([[0.0], [1.0]]).double()
    at = integrate(euler(velocity), ends, uniform_grid(steps))[:, 0]
    return float(at[0]), float(at[1] - at[0])


def order_statistic(x, count, mean, deviation):
    """P-value of: x are maxima of `count` independent N(mean, deviation^2)."""
    return ks_1samp(x.numpy(), lambda v: norm.cdf(v, mean, deviation) ** count).pvalue


WINNERS = {
    "best-of-n": (BestOfN.create(candidates=7, steps=10), 7),
    "best-of-n-pruned": (PrunedBestOfN.create(candidates=7, steps=10), 7),
    "random search": (ZeroOrder.create(similarity=0.0, neighbours=3, iterations=2, steps=10), 7),
}


@pytest.mark.parametrize("name", WINNERS)
def test_the_winner_of_n_is_an_order_statistic(name):
    """Rewards of the winners have the distribution function F^N, and not F^(N - 2) or F^(N + 2)."""
    (method, count), n = WINNERS[name], 3000
    offset, slope = euler_map(10)
    x = method.sample(gaussian_problem(n), n).x[:, 0]
    assert order_statistic(x, count, offset, slope) > 0.01
    assert all(order_statistic(x, other, offset, slope) < 1e-6 for other in (count - 2, count + 2))


def test_one_step_of_mfm_search_is_best_of_all_draws():
    """At t = 0 the posterior is the prior: M particles with N draws are M N candidates."""
    method = MFMSearch(SearchParams(particles=2, draws=3, steps=1, posterior="exact"))
    x = method.sample(gaussian_problem(3000), 3000).x[:, 0]
    assert order_statistic(x, 6, MEAN, math.sqrt(VARIANCE)) > 0.01
    assert order_statistic(x, 4, MEAN, math.sqrt(VARIANCE)) < 1e-6


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
        generator="ode", steps=4, rate=0.3, momentum=0.0, clip=1e6, regularisation=2.0
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
    expected = offset + slope * (problem.x0() + 5.0 * 1.9 * 0.1)
    assert torch.allclose(method.sample(problem, 64).x, expected)


def test_zero_order_moves_to_the_best_neighbour():
    """By hand, with the closed-form generator: the greatest of e and c e + sqrt(1 - c^2) z_j."""
    (offset, slope), c = euler_map(10), 0.95
    method = ZeroOrder.create(steps=10, iterations=3, neighbours=5)
    problem = gaussian_problem(50)
    e = problem.x0()
    for i in range(3):
        z = problem.noise("neighbours", i, (5, 1))[..., 0]
        e = torch.cat([e, c * e + math.sqrt(1 - c**2) * z], 1).amax(1, keepdim=True)
    assert torch.allclose(method.sample(problem, 50).x, offset + slope * e)


# -- MFM-Search: outputs are independent ----------------------------------------------------------


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
    ends = integrate(euler(problem.flow.velocity), x0.flatten(0, 1), method.grid())
    r = problem.reward(ends).reshape(40, 3)
    expected = ends.reshape(x0.shape)[torch.arange(40), r.argmax(1)]
    assert torch.allclose(method.sample(problem, 40).x, expected, atol=1e-4)


def test_the_grid_of_mfm_search_is_the_release_grid():
    grid = torch.tensor(MFMSearch.create(steps=250).grid(), dtype=torch.float64)
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
    assert torch.allclose(Demon.create(candidates=1, steps=9).sample(problem_of(n=32), 32).x, x)
    assert torch.allclose(Demon.create(candidates=5, steps=9).sample(flat, 32).x, x)


# -- more effort, more reward ---------------------------------------------------------------------

LADDERS = {
    "best-of-n": [BestOfN.create(candidates=c, integrator="ancestral") for c in (1, 4, 16)],
    "best-of-n-pruned": [PrunedBestOfN.create(candidates=c) for c in (2, 8, 32)],
    "mfm-search particles": [MFMSearch.create(particles=m, steps=10) for m in (1, 3, 9)],
    "mfm-search draws": [MFMSearch.create(particles=1, draws=n, steps=10) for n in (1, 4, 16)],
    "zero-order": [ZeroOrder.create(iterations=i, steps=10) for i in (0, 4, 12)],
    "reno": [ReNO.create(iterations=i, rate=1.0, regularisation=1.0) for i in (1, 3, 9)],
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
        (ZeroOrder.create(iterations=1, steps=4), ZeroOrder.create(iterations=3, steps=4)),
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
        (ZeroOrder.create(iterations=0, steps=10), BestOfN.create(candidates=1, steps=10)),
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
    ZeroOrder.create(steps=6, iterations=2),
    ZeroOrder.create(steps=2, iterations=3, neighbours=2, generator="map"),
    ReNO.create(iterations=4),
    ReNO.create(iterations=3, steps=3, generator="ode", momentum=0.0),
    Demon.create(candidates=5, steps=6),
    Demon.create(candidates=3, steps=5, lookahead="jump", adaptive=False, tau=0.3),
    Demon.create(candidates=3, steps=5, lookahead="ode", inner_steps=4),
    Demon.create(candidates=2, steps=5, lookahead="map", draws=3),
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
    monkeypatch.setattr(smc, "ROWS", 30)
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
    assert ZeroOrder.create().needs == Demon.create().needs == frozenset()
    assert PrunedBestOfN.create().needs == BestOfN.create().needs == frozenset()
    assert MFMSearch.create().needs == ZeroOrder.create(generator="map").needs == {Need.FLOW_MAP}
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
