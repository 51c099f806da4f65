"""Pools of which half is shifted: the tilted denoiser at any tilt, and none without a reward."""

import pytest
import torch

from bench.core.estimators import denoiser_shift
from bench.core.integrate import filled
from bench.core.shifted import Tilt, fit_tilt
from bench.loops.shifted_draws import local_tilt, shifted_pool
from bench.metrics.two_sample import sliced_w2
from methods.finetuning.mfm_ft import FIT_ESTIMATORS, Points
from methods.steering.mfm import MFMGradientFree
from tests.worlds.planned_problems import problem_of, reference_of

TASK, STEEP = "gmm:dimension=16", "linear:strength=6.534"  # 30 nats
WELL = "quadratic:strength=0.7682"


def context(reward, time, n=64):
    """A problem, states of the base flow's marginal at `time`, and what is known there."""
    problem = problem_of(TASK, reward, n=n)
    x1 = reference_of(TASK, "linear:strength=1e-6", n)
    t = filled(time, x1)
    x = problem.interpolant.noised(x1, problem.x0(), t)
    b = problem.flow.velocity(x, t)
    return problem, x, t, b, problem.interpolant.denoiser(b, x, t)


def relative(found, exact):
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("reward", [STEEP, WELL])
def test_sixteen_draws_find_the_shift_that_plain_ones_miss(reward, time):
    problem, x, t, _, point = context(reward, time)
    exact = problem.oracle.shift(x, t)
    noise, posterior = problem.noise_at(3), problem.posterior
    tilt = local_tilt(problem, point, t, noise)
    found = shifted_pool(problem, posterior, x, t, 16, noise, tilt).shift
    x1 = posterior.draw(x, t, 16, noise)
    r = problem.reward(x1.flatten(0, 1)).reshape(16, -1)
    plain = denoiser_shift(r, x1)
    assert relative(found, exact) < (0.7 if time < 0.2 else 0.35)
    assert relative(found, exact) < 0.7 * relative(plain, exact)


def test_a_reward_of_zero_shifts_nothing():
    problem, x, t, _, point = context("linear:strength=1e-9", 0.4)
    noise = problem.noise_at(0)
    tilt = local_tilt(problem, point, t, noise)
    found = shifted_pool(problem, problem.posterior, x, t, 8, noise, tilt)
    assert float(found.shift.abs().max()) < 1e-6
    assert torch.allclose(found.ess, torch.full_like(found.ess, 4.0), rtol=1e-4)


def test_the_expansion_of_a_quadratic_reward_is_the_reward():
    """Constant weights at any point: e^(r - c.x + kappa |x|^2/2) is one number."""
    problem, x, t, _, point = context(WELL, 0.4)
    tilt = local_tilt(problem, point, t, problem.noise_at(0))
    other = torch.randn(5, *x.shape, generator=torch.Generator().manual_seed(0))
    left = problem.reward(other.flatten(0, 1)).reshape(5, -1) - tilt.log(other)
    assert float((left - left.mean(0)).abs().max()) < 2e-3 * float(problem.reward(other[0]).std())


@pytest.mark.parametrize(("name", "most"), [("GF", 0.1), ("shifted", 0.1)])
def test_targets_of_a_fit_are_the_tilted_velocity(name, most):
    """At b_theta = b^r the residual averages to zero: here over 4,000 draws, beside the push."""
    problem, x, t, b, point = context("quadratic:strength=0.3", 0.4, n=16)
    i = problem.interpolant
    push = i.tilt(problem.oracle.shift(x, t), t)

    def scale(point):
        return problem.oracle.value(x, t)

    data = torch.randn(500, x.shape[1], generator=torch.Generator().manual_seed(0))
    tilt = fit_tilt(data, problem.reward(data))
    points = Points(problem, x, t, b, point, problem.posterior, 4000, 0, scale, "schedule", tilt)
    residual = FIT_ESTIMATORS[name].residual(points, b + push)
    assert float(residual.norm()) < most * float(push.norm())


def test_steering_reaches_thirty_nats():
    n = 512
    exact = [reference_of(TASK, STEEP, n, seed) for seed in range(4)]
    floor = (sliced_w2(exact[0], exact[1]) + sliced_w2(exact[2], exact[3])) / 2

    def distance(**values):
        method = MFMGradientFree.create(posterior="exact", steps=20, draws=24, **values)
        return sliced_w2(method.sample(problem_of(TASK, STEEP, n=n), n).x, exact[0])

    assert distance(proposal="both") < 1.5 * floor
    assert distance() > 8 * floor


def test_where_no_quadratic_is_like_the_reward_every_draw_is_plain():
    """A sharp observation in the plane: a pool of n draws is what n plain draws give."""
    problem, x, t, _, _ = context("inverse", 0.5)
    noise = problem.noise_at(0)
    wrong = Tilt(torch.full_like(x, 5.0), torch.ones(len(x)))
    pool = shifted_pool(problem, problem.posterior, x, t, 16, noise, wrong)
    assert not bool(pool.holds.any())
    r = problem.reward(pool.x1.flatten(0, 1)).reshape(16, -1)
    assert torch.allclose(pool.shift, denoiser_shift(r, pool.x1).to(pool.shift), atol=1e-5)
    # No draw twice: the second half has noise of its own.
    assert float((pool.x1[:8] - pool.x1[8:]).abs().flatten(1).amax(1).min()) > 0


def test_contexts_of_one_pool_choose_for_themselves():
    """The tilt of one row is right and that of the other is not: only the first is shifted."""
    problem, x, t, _, point = context(STEEP, 0.5)
    noise = problem.noise_at(0)
    right = local_tilt(problem, point, t, noise)
    c = torch.cat([right.c[:1], -right.c[1:]])
    pool = shifted_pool(problem, problem.posterior, x, t, 16, noise, Tilt(c, right.kappa))
    assert bool(pool.holds[0]) and not bool(pool.holds[1:].any())


@pytest.mark.parametrize("n", [1, 2])
def test_so_few_draws_that_none_can_tell_are_plain(n):
    problem, x, t, _, point = context(STEEP, 0.5)
    noise = problem.noise_at(0)
    tilt = local_tilt(problem, point, t, noise)
    pool = shifted_pool(problem, problem.posterior, x, t, n, noise, tilt)
    assert pool.x1.shape == (n, *x.shape) and not bool(pool.holds.any())
    assert bool(pool.shift.isfinite().all()) and bool(pool.ess.isfinite().all())


def test_a_slope_that_is_right_at_home_and_wrong_where_it_sends_the_draws_does_not_count():
    """A sharp observation late in a run: plain draws see a slope, shifted ones overshoot."""
    problem = problem_of("gmm:dimension=2", "inverse", n=64)
    x1 = reference_of("gmm:dimension=2", "linear:strength=1e-6", 64)
    t = filled(0.9, x1)
    x = problem.interpolant.noised(x1, problem.x0(), t)
    point = problem.interpolant.denoiser(problem.flow.velocity(x, t), x, t)
    noise = problem.noise_at(0)
    slope = local_tilt(problem, point, t, noise)
    flat = Tilt(slope.c - slope.kappa[:, None] * point, torch.zeros_like(slope.kappa))
    pool = shifted_pool(problem, problem.posterior, x, t, 8, noise, flat)
    wrong = pool.moved & ~pool.holds
    assert int(wrong.sum()) > 0
    # Where it does not count, the answer is that of the plain half alone.
    r = problem.reward(pool.x1[:4].flatten(0, 1)).reshape(4, -1)
    plain = denoiser_shift(r, pool.x1[:4])
    assert torch.allclose(pool.shift[wrong].to(plain), plain[wrong], atol=1e-4)
    assert torch.equal(pool.own[4:, wrong], torch.zeros_like(pool.own[4:, wrong]))
