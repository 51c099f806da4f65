"""Fixed points of the matching losses and of adjoint matching, in closed form."""

import pytest
import torch

from bench.api import WIDE, Linear
from bench.models.mixture_roles import MixtureFlow
from methods.finetuning import adjoint, regression
from methods.finetuning.itm import itm_residual
from methods.finetuning.mfm_ft import HALF_VARIANCES, mfm_residual
from rewards.quadratic import LinearReward
from tests.worlds import small_fits
from tests.worlds.gaussian_quadrature import (
    REWARDS,
    WEIGHTS,
    expectation,
    gaussian_world,
    posterior_draws,
)
from tests.worlds.small_fits import DOUBLE, fit_problem

# A fixture: pytest looks for it in this module.
gmm = small_fits.gmm


# -- fixed points of the matching losses: one Gaussian, expectations by quadrature ----------------


def mfm_expected_residual(reward, b_theta, variance, log_scale):
    mixture, x, t = gaussian_world()
    x.requires_grad_()
    x1 = posterior_draws(mixture, x, t)
    rho = (reward(x1) - log_scale(x.detach(), t)).exp()
    (gradient,) = torch.autograd.grad((WEIGHTS @ rho).sum(), x)
    half = HALF_VARIANCES[variance](Linear(), t)
    b = mixture.velocity(x.detach(), t)
    return mfm_residual(b_theta, b, WEIGHTS @ rho.detach(), half[:, None] * gradient)


def no_scale(x, t):
    return torch.zeros_like(t)


def some_scale(x, t):
    return x[:, 0].sin() + 3 * t


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("log_scale", [no_scale, some_scale])
def test_mfm_ft_fixed_point_is_the_tilted_velocity(reward, log_scale):
    mixture, x, t = gaussian_world()
    tilted = mixture.velocity(x, t) + Linear().tilt(mixture.shift(x, t, reward), t)
    residual = mfm_expected_residual(reward, tilted, "schedule", log_scale)
    assert residual.abs().max() < 1e-9
    away = mfm_expected_residual(reward, tilted + 0.1, "schedule", log_scale)
    assert away.min() > 1e-4, "the pull back to the fixed point must be positive"


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
def test_the_release_constant_moves_mfm_ft_off_the_tilted_law(reward):
    """sigma^2 = 200: the fixed point is b + 100 grad V, and it does not vanish at t -> 1."""
    mixture, x, t = gaussian_world()
    b, slope = mixture.velocity(x, t), mixture.value_gradient(x, t, reward)
    assert mfm_expected_residual(reward, b + 100 * slope, "release", no_scale).abs().max() < 1e-7
    scheduled = b + Linear().half_variance(t)[:, None] * slope
    assert torch.allclose(scheduled, b + Linear().tilt(mixture.shift(x, t, reward), t))
    assert mfm_expected_residual(reward, scheduled, "release", no_scale).abs().min() > 0.1


@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS)
@pytest.mark.parametrize("log_scale", [no_scale, some_scale])
def test_itm_fixed_point_is_the_tilted_velocity(reward, log_scale):
    mixture, x, t = gaussian_world()
    b = mixture.velocity(x, t)
    tilted = b + Linear().tilt(mixture.shift(x, t, reward), t)
    x1 = posterior_draws(mixture, x, t)
    rho, u = (reward(x1) - log_scale(x, t)).exp(), (x1 - x) / (1 - t)[:, None]
    for b_theta, zero in ((tilted, True), (tilted + 0.1, False)):
        each = [itm_residual(b_theta, b, r, v) for r, v in zip(rho, u, strict=True)]
        residual = expectation(torch.stack(each))
        assert (residual.abs().max() < 1e-9) if zero else (residual.min() > 1e-4)


def test_the_pull_has_the_residual_as_gradient():
    b_theta, residual = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    loss = regression.pull(b_theta, residual)
    (gradient,) = torch.autograd.grad(loss, b_theta)
    assert torch.allclose(gradient, 2 * residual / 6)
    assert torch.allclose(loss, residual.square().sum(-1).mean())


def test_the_scale_of_rho_depends_on_the_point_and_bounds_rho(gmm):
    problem = fit_problem(gmm, LinearReward.create(a=(1.0, 1.0)))
    x = gmm.draw_data(50, torch.Generator())
    pilot = regression.pilot_of(problem, 0)
    constant, point = (
        regression.log_scale(problem, regression.RHO_SCALES[name], pilot)(x)
        for name in ("constant", "point")
    )
    assert float(constant.std()) == 0
    assert bool((point >= constant).all()) and float(point.std()) > 0


# -- adjoint matching -----------------------------------------------------------------------------


def test_the_lean_adjoint_is_the_gradient_through_the_rest_of_the_rollout(gmm):
    """a_k = d r(x_K) / d x_k at fixed noise, for rollouts of the base model."""
    steps, grid = 6, adjoint.jittered_grid(6, 0.3)
    reward = LinearReward.create(a=(1.0, -0.5))
    reward.bind(gmm)
    x0, z = torch.randn(5, 2), torch.randn(5, steps, 2)
    path = adjoint.rollout(gmm.flow, Linear(), x0, grid, z)
    found = adjoint.lean_adjoints(gmm.flow, Linear(), path, torch.tensor([1.0, -0.5]).expand(5, 2))
    assert len(path.states) == steps + 1 and len(found.a) == steps - 1
    for k in range(1, steps):
        x = path.states[k].clone().requires_grad_()
        end = torch.as_tensor(x)
        for j in range(k, steps):
            t, u = torch.full((5,), grid[j]), torch.full((5,), grid[j + 1])
            b = gmm.flow.velocity(end, t)
            point = Linear().denoiser(b, end, t)
            end = adjoint.ancestral(Linear(), end, point, t, u, z[:, j], WIDE)
        (slope,) = torch.autograd.grad(reward(end, None).sum(), x)
        assert torch.allclose(found.a[k - 1], slope, atol=1e-5)


def test_adjoint_matching_regresses_on_the_tilted_velocity_of_a_gaussian():
    """A linear reward makes the adjoint deterministic: (sigma^2/2) a = C_t a_r / (1 - t)."""
    mixture, _, _ = gaussian_world()
    reward, grid = REWARDS["linear"], adjoint.jittered_grid(400, 0.5)
    z = torch.randn(3, 400, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    path = adjoint.rollout(MixtureFlow(mixture), Linear(), z[:, 0], grid, z)
    slope = reward.eta.expand(3, 1)
    found = adjoint.lean_adjoints(MixtureFlow(mixture), Linear(), path, slope)
    for k in (40, 200, 360):
        x, t = path.states[k], torch.full((3,), grid[k], dtype=DOUBLE)
        tilt = Linear().tilt(mixture.shift(x, t, reward), t)
        own = Linear().half_variance(t)[:, None] * found.a[k - 1]
        assert torch.allclose(own, tilt, rtol=0.02)


def test_strata_are_in_range_apart_and_even():
    u = torch.tensor([0.0, 0.5, 0.999])
    assert adjoint.strata(u, 9).tolist() == [0, 4, 8]
    assert adjoint.strata(torch.full((5,), 0.999999), 5).tolist() == [0, 1, 2, 3, 4]
    grid = adjoint.jittered_grid(5, 0.25)
    assert grid[0] == 0 and grid[-1] == 1 and len(grid) == 6 and grid == sorted(grid)
