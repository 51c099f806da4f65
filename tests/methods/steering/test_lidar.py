"""LiDAR: the pool's drift against the exact one, its rate, and where it steers no more."""

import pytest
import torch

from bench.core import quadratic
from bench.core.params import UserError
from bench.core.paths import Linear
from bench.models.mixture import paper_mixture, random_mixture
from methods.steering.lidar import LiDAR, Pool, pool_shift
from tests.worlds.one_gaussian import MEAN, SLOPE, VARIANCE, gaussian_problem, mixture_problem

REWARD = quadratic.linear(torch.tensor([0.8, -0.5]).double())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pools(mixture, reward, groups, size, seed=0):
    """Pools of exact draws of the base law."""
    x1 = mixture.sample(groups * size, seeded(seed))
    return Pool(x1.reshape(groups, size, -1), reward(x1).reshape(groups, size))


def noised(mixture, t, n, seed=9):
    """States that the flow meets at time t."""
    x1 = mixture.sample(n, seeded(seed))
    x0 = torch.randn(x1.shape, generator=seeded(seed + 1), dtype=x1.dtype)
    return (1 - t) * x0 + t * x1, torch.full((n,), t).double()


def relative_error(mixture, reward, t, size, groups=200):
    """RMS over states and pools of |shift - exact| / RMS of |exact|, and the mean kernel size."""
    x, time = noised(mixture, t, groups)
    exact = mixture.shift(x, time, reward)
    found = pool_shift(pools(mixture, reward, groups, size), Linear(), x, time)
    return float((found.shift - exact).norm() / exact.norm()), float(found.ess.mean())


@pytest.mark.parametrize("t", [0.2, 0.5, 0.7])
def test_the_pool_s_drift_tends_to_the_exact_one_at_the_monte_carlo_rate(t):
    """200 states, each with a pool of its own: 64-fold the pool, an eighth of the error."""
    world = paper_mixture()
    (coarse, _), (fine, _) = (relative_error(world, REWARD, t, size) for size in (250, 16_000))
    assert 5.5 < coarse / fine < 11
    assert fine < 0.1


def test_every_row_sees_the_pool_of_its_group():
    """A row's drift is that of its own pool alone, whatever stands beside it."""
    world = paper_mixture()
    pool, (x, t) = pools(world, REWARD, 3, 50), noised(world, 0.4, 6)
    whole = pool_shift(pool, Linear(), x, t).shift
    for row in range(6):
        own = Pool(*(part[row // 2, None] for part in pool))
        alone = pool_shift(own, Linear(), x[row, None], t[row, None]).shift
        assert torch.allclose(whole[row], alone[0])
    i, kernel = 4, torch.distributions.Normal(0.4 * pool.x1[2], 0.6).log_prob(x[4]).sum(-1)
    mean = {w: w.softmax(0) @ pool.x1[2] for w in (kernel, kernel + pool.r[2])}.values()
    plain, tilted = mean
    assert torch.allclose(whole[i], tilted - plain)


def test_the_kernel_collapses_in_high_dimension():
    """The same slope of 1.5 at t = 1/2 in 2 and in 64 dimensions: there, worse than no drift."""
    for dimension, least, most in ((2, 0.0, 0.15), (16, 0.5, 1.5), (64, 1.5, 4.0)):
        reward = quadratic.linear(torch.ones(dimension).double() * 1.5 / dimension**0.5)
        error, ess = relative_error(random_mixture(dimension, 3, 0), reward, 0.5, 1000, 30)
        assert least < error < most
        assert (ess > 100) == (dimension == 2) and (ess < 5) == (dimension == 64)


@pytest.mark.parametrize("settings", [{"pool": 1}, {"pool": 64, "pool_steps": 1}])
def test_a_pool_of_one_point_is_the_base_model(settings):
    """One sample, or samples of one Euler step, all of which end at the mean of the data."""
    world = paper_mixture()
    own = LiDAR.create(steps=10, **settings).sample(mixture_problem(world, REWARD, 32), 32).x
    base = LiDAR.create(steps=10, guidance=0.0).sample(mixture_problem(world, REWARD, 32), 32).x
    assert torch.allclose(own, base, atol=1e-9)


def moments_of(pool, pool_steps, n=2048):
    """Sample mean and variance on the one Gaussian, as distances from the tilted law's."""
    method = LiDAR.create(pool=pool, pool_steps=pool_steps, shared=512, steps=50)
    x = method.sample(gaussian_problem(n), n).x
    return float(x.mean()) - MEAN - SLOPE * VARIANCE, float(x.var()) / VARIANCE - 1


def test_a_large_pool_of_finished_samples_meets_the_tilted_law():
    """4 groups with 2,048 samples each; margin four standard errors of these draws and pools."""
    mean, variance = moments_of(pool=4, pool_steps=100)
    assert abs(mean) < 0.06 and abs(variance) < 0.15
    rough, _ = moments_of(pool=4, pool_steps=3)
    assert rough < -0.1, "three Euler steps make a pool that is too narrow"


def test_outputs_that_share_a_pool_form_groups_and_batches_change_nothing():
    method, world = LiDAR.create(pool=3, shared=4, steps=6), paper_mixture()
    problem = mixture_problem(world, REWARD, 12)
    whole = method.sample(problem, 12)
    parts = [method.sample(problem.for_rows(range(k, k + 4)), 4).x for k in (0, 4, 8)]
    assert torch.allclose(whole.x, torch.cat(parts))
    assert whole.group.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert LiDAR.create(pool=3, steps=6).sample(problem, 12).group is None
    with pytest.raises(UserError, match="multiples of shared = 4"):
        method.sample(problem.for_rows(range(6)), 6)
