"""VGG-Flow: the deterministic control problem of one Gaussian, its value's gradient, its bias."""

import math

import pytest
import torch

from bench.api import Linear
from bench.core.integrate import euler, filled, integrate, uniform_grid
from bench.tasks.gmm import RandomMixture
from methods.finetuning import vgg_flow
from rewards.quadratic import LinearReward
from tests.worlds.gaussian_quadrature import DOUBLE, VARIANCE, gaussian_world
from tests.worlds.small_fits import fit_problem, made, sampled

SLOPE = 0.9


def deviation(t):
    """sd of x_t."""
    return ((1 - t) ** 2 + t**2 * VARIANCE).sqrt()


def value_gradient(t):
    """(dX_(t,1) / dx) a = sd_1 a / sd_t: the value of a linear reward under an affine flow."""
    return (math.sqrt(VARIANCE) * SLOPE / deviation(t))[:, None]


def base_at(x, t):
    """The base flow's answer at points, with the graph through its velocity."""
    mixture, _, _ = gaussian_world()
    x = x.clone().requires_grad_()
    b = mixture.velocity(x, t)
    point = Linear().denoiser(b, x, t)
    (slope,) = torch.autograd.grad(SLOPE * point.sum(), x, retain_graph=True)
    return vgg_flow.BaseAnswer(b, x, slope)


def inconsistency(dt):
    """Largest gap between g and what is carried back from a step later, at points of the world."""
    _, x, t = gaussian_world()
    back = vgg_flow.carried_back(base_at(x, t), value_gradient(t + dt), dt)
    return float((back - value_gradient(t)).abs().max())


def test_the_value_s_gradient_is_consistent_to_second_order():
    """The error of a step falls fourfold with half the step; another slope is not consistent."""
    coarse, fine = inconsistency(0.02), inconsistency(0.01)
    assert 3.5 < coarse / fine < 4.5 and fine < 2e-3
    _, x, t = gaussian_world()
    guess = t[:, None] ** 2 * base_at(x, t).slope
    assert float((guess - value_gradient(t)).abs().max()) > 0.3


def test_the_guess_is_right_at_the_end():
    _, x, _ = gaussian_world()
    t = torch.ones(len(x), dtype=DOUBLE)
    assert torch.allclose(base_at(x, t).slope, value_gradient(t))
    assert all(float(eta(t).min()) == 1 for eta in vgg_flow.ETAS.values())


@pytest.mark.parametrize("cost", [1.0, 2.5])
def test_the_optimal_control_moves_a_gaussian_by_pi_over_two_deviations(cost):
    """mean shift pi s a / (2 lambda) and no other change of the law; the tilt's shift is s^2 a."""
    mixture, _, _ = gaussian_world()

    def velocity(x, t):
        return mixture.velocity(x, t) + value_gradient(t) / cost

    x0 = torch.linspace(-2, 2, 9, dtype=DOUBLE)[:, None]
    shifted = integrate(euler(velocity), x0, uniform_grid(4000)) - integrate(
        euler(mixture.velocity), x0, uniform_grid(4000)
    )
    wanted = math.pi * math.sqrt(VARIANCE) * SLOPE / (2 * cost)
    assert torch.allclose(shifted, torch.full_like(shifted, wanted), atol=2e-3)
    assert abs(wanted - VARIANCE * SLOPE) > 0.1


def test_a_fit_reaches_the_control_problem_s_answer_and_not_the_tilt():
    """2-D Gaussian with deviations s along its axes: shift pi s a / 2 along each, not s^2 a."""
    task = RandomMixture.create(dimension=2, components=1)
    values, axes = torch.linalg.eigh(task.mixture.covariance())
    slope = axes @ torch.tensor([0.7, -0.7])
    text = "vgg-flow:iterations=150,batch=32,fit_steps=12,matched=4,learning_rate=0.003,steps=40"
    method, reward = made(text), LinearReward.create(a=tuple(slope.tolist()))
    fitted = method.fit(fit_problem(task, reward))
    x, _ = sampled(task, method, fitted.state, 4000)
    base, _ = sampled(task, method, task.trainable_flow().state_dict(), 4000)
    shift = (x - base).mean(0) @ axes
    control = math.pi / 2 * values.sqrt() * torch.tensor([0.7, -0.7])
    tilt = values * torch.tensor([0.7, -0.7])
    assert float((shift - control).norm()) < 0.3 * float((tilt - control).norm())


def test_a_rollout_is_the_euler_path_of_the_flow():
    mixture, x, _ = gaussian_world()
    states = vgg_flow.rollout(mixture, x, uniform_grid(5))
    end = integrate(euler(mixture.velocity), x, uniform_grid(5))
    assert states.shape == (6, 4, 1) and torch.equal(states[0], x)
    assert torch.allclose(states[-1], end)
    assert torch.allclose(states[1], x + 0.2 * mixture.velocity(x, filled(0.0, x)))
