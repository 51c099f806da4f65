"""The exact oracle against identities that must hold, autograd and quadrature."""

import math

import pytest
import torch

from bench.core import glass
from bench.core.paths import Linear, Trigonometric
from bench.core.quadratic import Quadratic, linear, observation, tilt_gaussian, well
from bench.models.mixture import Mixture, paper_mixture, random_mixture

DIMENSIONS = (2, 8, 32)
TOLERANCE = 1e-10


def rewards(d: int) -> dict[str, Quadratic]:
    g = torch.Generator().manual_seed(d)
    a = torch.randn(d, generator=g, dtype=torch.float64) / math.sqrt(d)
    matrix = torch.randn(2, d, generator=g, dtype=torch.float64) / math.sqrt(d)
    noise = torch.tensor([[0.3, 0.1], [0.1, 0.5]], dtype=torch.float64)
    y = torch.randn(2, generator=g, dtype=torch.float64)
    return {"linear": linear(a), "well": well(a, 0.7), "observation": observation(matrix, y, noise)}


def states(d: int, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(100 + d)
    x = 1.5 * torch.randn(n, d, generator=g, dtype=torch.float64)
    t = torch.tensor([0.02, 0.1, 0.3, 0.6, 0.9, 0.98], dtype=torch.float64)
    return x, t


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("name", ["linear", "well", "observation"])
@pytest.mark.parametrize("schedule", [Linear(), Trigonometric()])
def test_doob_drift_is_the_velocity_of_the_tilted_mixture(d, name, schedule):
    base = random_mixture(d, 3, seed=d)
    mixture = Mixture(base.weights, base.means, base.covariances, schedule)
    reward = rewards(d)[name]
    tilted, _ = mixture.tilted(reward)
    x, t = states(d)
    steered = mixture.velocity(x, t) + schedule.tilt(mixture.shift(x, t, reward), t)
    expected = tilted.velocity(x, t)
    assert (steered - expected).abs().max() < TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("name", ["linear", "well", "observation"])
def test_closed_form_gradient_is_autograd(d, name):
    mixture, reward = random_mixture(d, 3, seed=d), rewards(d)[name]
    x, t = states(d)
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.value(x, t, reward).sum(), x)
    closed = mixture.value_gradient(x.detach(), t, reward)
    scale = max(1.0, float(gradient.abs().max()))
    assert (gradient - closed).abs().max() < TOLERANCE * scale
    by_shift = mixture.interpolant.value_gradient(mixture.shift(x.detach(), t, reward), t)
    assert (closed - by_shift).abs().max() < TOLERANCE * scale


@pytest.mark.parametrize("d", DIMENSIONS)
def test_value_is_the_log_ratio_of_tilted_and_base_marginals(d):
    mixture, reward = random_mixture(d, 3, seed=d), rewards(d)["observation"]
    tilted, log_z = mixture.tilted(reward)
    x, t = states(d)
    ratio = log_z + tilted.log_prob(x, t) - mixture.log_prob(x, t)
    assert (mixture.value(x, t, reward) - ratio).abs().max() < TOLERANCE * 10


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("schedule", [Linear(), Trigonometric()])
def test_glass_is_the_two_observation_posterior(d, schedule):
    """The mean of x1 given x_t = x and an inner observation x_bar, from precisions directly."""
    base = random_mixture(d, 3, seed=d)
    mixture = Mixture(base.weights, base.means, base.covariances, schedule)
    x, t = states(d)
    g = torch.Generator().manual_seed(7)
    x_bar = torch.randn(x.shape, generator=g, dtype=torch.float64)
    s = torch.rand(len(x), generator=g, dtype=torch.float64) * 0.9 + 0.05
    velocity = glass.posterior_velocity(schedule, mixture.velocity, x, t)(x_bar, s)
    expected = torch.stack(
        [_two_observations(mixture, x[i], t[i], x_bar[i], s[i]) for i in range(len(x))]
    )
    expected = (expected - x_bar) / (1 - s)[:, None]
    scale = max(1.0, float(expected.abs().max()))
    assert (velocity - expected).abs().max() < TOLERANCE * scale


def _two_observations(mixture, x, t, x_bar, s):
    i = mixture.interpolant
    t, s = t[None], s[None]
    weight = (i.beta(t) / i.alpha(t)) ** 2 + (s / (1 - s)) ** 2
    linear_term = i.beta(t) / i.alpha(t) ** 2 * x + s / (1 - s) ** 2 * x_bar
    eye = torch.eye(len(x), dtype=x.dtype)
    # The joint likelihood of both observations is exp(linear . x1 - weight |x1|^2 / 2).
    tilt = tilt_gaussian(
        mixture.means, mixture.covariances, Quadratic(linear_term, weight * eye, 0.0)
    )
    weights = (mixture.log_weights + tilt.zeta).softmax(0)
    return weights @ tilt.mean


def test_log_z_and_value_against_quadrature_in_2d():
    mixture = paper_mixture()
    matrix = torch.tensor([[1.2, -0.8]], dtype=torch.float64)
    y, noise = torch.tensor([-1.0]).double(), torch.tensor([[0.04]], dtype=torch.float64)
    reward = observation(matrix, y, noise)
    axis = torch.linspace(-9, 9, 2401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    log_density = mixture.log_prob(grid)
    _, log_z = mixture.tilted(reward)
    by_quadrature = (log_density + reward(grid)).logsumexp(0) + math.log(cell)
    assert abs(float(by_quadrature) - log_z) < TOLERANCE
    assert abs(log_z - -1.5152) < 5e-5
    x, t = torch.tensor([[0.3, -0.7]]).double(), torch.tensor([0.4]).double()
    likelihood = -0.5 * (x - t * grid).square().sum(1) / (1 - t) ** 2
    posterior = log_density + likelihood
    value = (posterior + reward(grid)).logsumexp(0) - posterior.logsumexp(0)
    assert abs(float(value - mixture.value(x, t, reward)[0])) < TOLERANCE


def test_the_paper_target_is_the_published_one():
    reward = observation(
        torch.tensor([[1.2, -0.8]]).double(),
        torch.tensor([-1.0]).double(),
        torch.tensor([[0.04]]).double(),
    )
    tilted, _ = paper_mixture().tilted(reward)
    assert torch.allclose(
        tilted.weights, torch.tensor([0.5716, 0.3665, 0.0619]).double(), atol=5e-5
    )
    assert torch.allclose(tilted.mean(), torch.tensor([-1.7447, -1.3850]).double(), atol=5e-4)


@pytest.mark.parametrize("d", [2, 8])
def test_velocity_score_and_denoiser_agree(d):
    mixture = random_mixture(d, 3, seed=1)
    x, t = states(d)
    i = mixture.interpolant
    denoised = mixture.denoiser(x, t)
    assert torch.allclose(i.velocity(denoised, x, t), mixture.velocity(x, t), atol=1e-10)
    assert torch.allclose(i.denoiser(mixture.velocity(x, t), x, t), denoised, atol=1e-11)
    assert torch.allclose(i.score(denoised, x, t), mixture.score(x, t), atol=1e-9)
    assert torch.isfinite(mixture.velocity(x, torch.ones_like(t))).all()
    assert torch.isfinite(mixture.velocity(x, torch.zeros_like(t))).all()


@pytest.mark.parametrize("times", [(0.4, 0.4), (0.4, 0.6)], ids=["one time", "two times"])
@pytest.mark.parametrize("mixture", [paper_mixture(), random_mixture(4, 3, seed=0)], ids=["2", "4"])
def test_posterior_draws_have_the_posterior_moments(mixture, times):
    """With more components than dimensions and with fewer, which go different ways."""
    d = mixture.dimension
    x = torch.tensor([[0.5, 0.2], [-1.0, -1.2]]).double().repeat(1, d // 2)
    t = torch.tensor(times).double()
    g = torch.Generator().manual_seed(0)
    n = 40_000
    u = torch.rand(n, 2, generator=g, dtype=torch.float64)
    z = torch.randn(n, 2, d, generator=g, dtype=torch.float64)
    draws = mixture.posterior_draws(x, t, u, z)
    post = mixture.posterior(x, t)
    mean = mixture.denoiser(x, t)
    second = (
        post.log_gamma.exp()[..., None, None]
        * (post.covariance + post.mean[..., None] * post.mean[..., None, :])
    ).sum(1)
    covariance = second - mean[..., None] * mean[..., None, :]
    error = covariance.diagonal(dim1=1, dim2=2).sqrt() / math.sqrt(n)
    assert ((draws.mean(0) - mean).abs() < 5 * error).all()
    for k in range(2):
        assert torch.allclose(torch.cov(draws[:, k].T), covariance[k], rtol=0.05, atol=0.02)


def test_singular_covariances_are_allowed():
    """A mixture of points: the posterior is a softmax over them."""
    points = torch.tensor([[0.0, 0.0], [2.0, 1.0]]).double()
    mixture = Mixture(torch.ones(2).double(), points, torch.zeros(2, 2, 2).double())
    x, t = torch.tensor([[1.0, 0.5]]).double(), torch.tensor([0.5]).double()
    log_w = -0.5 * (x - 0.5 * points).square().sum(1) / 0.25
    assert torch.allclose(mixture.denoiser(x, t)[0], log_w.softmax(0) @ points)
    reward = linear(torch.tensor([1.0, 0.0]).double())
    expected = (log_w.log_softmax(0) + points[:, 0]).logsumexp(0)
    assert torch.allclose(mixture.value(x, t, reward)[0], expected)
