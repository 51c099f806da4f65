"""Looking ahead by the flow map: FMRG and FMTT on one Gaussian, in closed form."""

import math
from itertools import pairwise

import pytest
import torch

from bench.core.posterior import Remembered
from bench.core.values import ProblemSpec
from bench.loops.particles import evolve
from bench.loops.populations import OUTPUTS, sample_populations
from bench.loops.posteriors import PosteriorChoice
from bench.plan.matching import match
from methods.particles.fmtt import FMTT
from methods.steering.fmrg import FMRG
from tests.worlds.one_gaussian import chain_law, mixture_problem
from tests.worlds.steered_mixtures import M, V, gaussian, states


class GaussianMap:
    """X_{s,u} of N(mean, variance I) on the linear interpolant, times `error` to be wrong."""

    def __init__(self, mean, variance, error=1.0):
        self.mean, self.variance, self.error = mean, variance, error

    def jump(self, x, s, u, condition=None):
        deviation = ((1 - u) ** 2 + u**2 * self.variance).sqrt()
        ratio = deviation / ((1 - s) ** 2 + s**2 * self.variance).sqrt()
        return self.error * (u[:, None] * self.mean + ratio[:, None] * (x - s[:, None] * self.mean))

    velocity = None


# -- looking ahead by the flow map ----------------------------------------------------------------

SLOPE = 1.2


def ahead_problem(n, seed=0, error=1.0, reward=lambda x: SLOPE * x[:, 0]):
    world = gaussian(torch.tensor([M]), torch.tensor([[V]]))
    return mixture_problem(world, reward, n, seed, GaussianMap(M, V, error))


def test_the_look_ahead_is_the_end_of_the_trajectory():
    problem = ahead_problem(5)
    x, t = states(5, 1, 0.4)
    x.requires_grad_()
    stretch = math.sqrt(V / (0.36 + 0.16 * V))
    for choice, slope, rows in (
        (PosteriorChoice("jump"), stretch, 1),
        (PosteriorChoice("jump", inner_steps=3), stretch, 3),
        (PosteriorChoice("jump", jacobian=False), 1.0, 1),
    ):
        before = problem.meter.work()
        draws = choice.build(problem, Remembered(problem.flow)).draw(x, t, 2, problem.noise_at(0))
        assert torch.allclose(draws[1], M + stretch * (x - 0.4 * M))
        (gradient,) = torch.autograd.grad(draws[0].sum(), x)
        assert torch.allclose(gradient, torch.full_like(x, slope))
        spent = problem.meter.work().map
        assert spent.forward - before.map.forward == 5 * rows
        assert spent.backward - before.map.backward == (5 * rows if choice.jacobian else 0)


@pytest.mark.parametrize("scale", ["exact", "rescale", "clip"])
@pytest.mark.parametrize("jacobian", [True, False])
def test_fmrg_is_its_alternation_in_closed_form(jacobian, scale):
    """On a Gaussian: a jump, then a known push, until guidance stops; then the map alone."""
    p = {"steps": 5, "stop": 0.6, "tail": 2, "guidance": 0.8, "growth": 0.0}
    method = FMRG.create(**p, jacobian=jacobian, scale=scale)
    problem = ahead_problem(9)

    def deviation(t):
        return math.sqrt((1 - t) ** 2 + t**2 * V)

    x = problem.x0()
    for t, u in pairwise([0.12 * k for k in range(6)]):
        carried = u * M + deviation(u) / deviation(t) * (x - t * M)
        b = (carried - x).abs() / (u - t)
        g = torch.full_like(x, SLOPE * (deviation(1) / deviation(u) if jacobian else 1.0))
        g = {"exact": 0.8 * g, "rescale": 0.8 * b, "clip": torch.minimum(g, 0.8 * b)}[scale]
        x = carried + (u - t) * g
    x = M + deviation(1) / deviation(0.6) * (x - 0.6 * M)
    assert torch.allclose(method.sample(problem, 9).x, x, rtol=1e-9)


def test_fmrg_counts_what_its_paper_counts():
    """2 K + 1 forward rows of the map for K guided steps and one jump; J passes back through K."""
    for jacobian in (True, False):
        problem = ahead_problem(4)
        FMRG.create(steps=6, tail=1, jacobian=jacobian).sample(problem, 4)
        spent = problem.meter.work()
        assert (spent.map.forward, spent.map.backward) == (4 * 13, 4 * 6 * jacobian)
        assert spent.flow.total == 0


def test_fmrg_scales_as_its_release_does():
    """The least squares slope of log push in log K, and the length of the warm-up."""
    steps = torch.tensor([4.0, 5, 8, 12, 10, 14, 26, 26]).log()
    push = torch.tensor([2 / 4, 3 / 4, 3 / 4, 3 / 4, 3 / 8, 3 / 8, 5 / 4, 5 / 8]).log()
    centred = steps - steps.mean()
    slope = float((centred * push).sum() / centred.square().sum())
    assert FMRG.create().params.growth == pytest.approx(slope, abs=0.1)
    assert FMRG.create(steps=4).weight == 2
    assert FMRG.create(steps=16, growth=0.5).weight == 4
    assert FMRG.create(steps=400).weight == FMRG.create(steps=26).weight
    warmed = [FMRG.create(particles=3, steps=k).shared for k in (5, 8, 12, 14, 26)]
    assert all(abs(w - r) <= 1 for w, r in zip(warmed, (2, 4, 6, 7, 11), strict=True))


def test_the_warm_up_of_fmrg_keeps_the_best_of_its_particles():
    """Increasing maps of the start: the best of P is the largest start, which then goes alone."""
    method = FMRG.create(particles=7, steps=4, scale="exact", guidance=0.3)
    problem = ahead_problem(50)
    more = problem.noise("particles", 0, (6, 1))
    largest = torch.cat([problem.x0()[:, None], more], 1).amax(1)
    stretch = math.sqrt(V)
    x = method.sample(problem, 50).x
    # The push on a linear reward is the same for every particle.
    alone = FMRG.create(particles=1, steps=4, scale="exact", guidance=0.3)
    push = alone.sample(ahead_problem(50), 50).x - stretch * problem.x0()
    assert torch.allclose(push, push[:1].expand_as(push), rtol=1e-9)
    assert torch.allclose(x, stretch * largest + push, rtol=1e-9)


def test_more_compute_is_more_reward_for_fmrg():
    """What the release scales: by more than three standard errors from 57 to 957 evaluations."""
    method, rewards, n = FMRG.create(), [], 2000
    for budget in (57, 237, 957):
        found = match(method, ProblemSpec((1,)), budget, lambda work: work.cost("paper-nfe"), {})
        x = method.with_params(**found.values).sample(ahead_problem(n), n).x[:, 0]
        assert found.use > 0.9
        rewards.append(SLOPE * x)
    for low, high in pairwise(rewards):
        error = math.hypot(float(low.std()), float(high.std())) / math.sqrt(n)
        assert float(high.mean() - low.mean()) > 3 * error


@pytest.mark.parametrize("error", [1.0, 0.7])
@pytest.mark.parametrize("jacobian", [True, False])
def test_fmtt_is_weighed_to_the_tilted_chain(jacobian, error):
    """Unbiased Z and the tilted mean and variance in closed form, even with a map that is wrong."""
    n, particles = 600, 64
    method = FMTT.create(particles=particles, steps=12, jacobian=jacobian, threshold=0.9)
    samples, log_z = sample_populations(
        ahead_problem(n, error=error), method.design(), OUTPUTS["draw"]
    )
    mean, variance = chain_law(M, V, 12)
    ratio = (log_z - SLOPE * mean - SLOPE**2 * variance / 2).exp()
    assert abs(float(ratio.mean()) - 1) < 3 * float(ratio.std()) / math.sqrt(n)
    x, deviation = samples.x[:, 0], math.sqrt(variance)
    tolerance = deviation * (3 / math.sqrt(n) + 2 / particles)
    assert abs(float(x.mean()) - mean - SLOPE * variance) < tolerance
    assert abs(float(x.std()) / deviation - 1) < 0.15


def test_fmtt_steers_by_the_look_ahead_and_weighs_by_it():
    """Its proposals alone, without weights, overshoot or fall short: the weights do the rest."""
    n, method = 4000, FMTT.create(particles=2, steps=12, threshold=0.0, output="population")
    samples = method.sample(ahead_problem(n), n)
    mean, variance = chain_law(M, V, 12)
    target = mean + SLOPE * variance
    x, weight = samples.x[:, 0], samples.log_weight.softmax(0)
    error = 3 * math.sqrt(float((weight**2 * (x - target) ** 2).sum()))
    assert abs(float(weight @ x) - target) < error
    assert abs(float(x.mean()) - target) > 3 * float(x.std()) / math.sqrt(n)
    assert abs(float(x.mean()) - mean) > 10 * float(x.std()) / math.sqrt(n)


def test_fmtt_tilts_by_time_times_the_reward_at_the_end():
    """Every look sees t r(X_{t,1}(x)); the last, of x1 itself, sees r(x1) whole."""
    problem, method = ahead_problem(3), FMTT.create(particles=2, steps=12, threshold=0.0)
    cloud, _ = evolve(problem, method.design())
    start = torch.cat([problem.x0()[:, None], problem.noise("particles", 0, (1, 1))], 1)
    stretch = math.sqrt(V / (0.99**2 + 0.01**2 * V))
    first = 0.01 * SLOPE * (M + stretch * (start - 0.01 * M))
    assert torch.allclose(cloud.path[0], first[..., 0])
    assert torch.allclose(cloud.path[-1], SLOPE * cloud.denoised[..., 0])
    tempers = method.design().on(problem.grid(12, 0.01)).tempers
    times = torch.tensor([tempers[k] for k in range(12)])
    assert torch.allclose(times[:-1], 0.01 + 0.99 * torch.arange(11) / 12)
    assert times[-1] == 1
