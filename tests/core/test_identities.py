"""Interpolants, integrators, GLASS limits, estimators: identities and orders of convergence."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core import glass
from bench.core.estimators import denoiser_shift, log_mean_exp, value_gradient
from bench.core.integrate import ancestral, integrate, ode_step, uniform_grid
from bench.core.paths import Linear, Trigonometric
from bench.core.posterior import Gaussian, Glass, Remembered, SDERollout, Tweedie
from bench.core.quadratic import linear
from bench.core.scales import SCALES, SteeringTerm
from bench.core.steered import RELEASE_CAP, guidance_factor, steered_step
from bench.models.mixture import Mixture, paper_mixture
from bench.models.mixture_roles import MixtureFlow, MixturePosterior

SCHEDULES = [Linear(), Trigonometric()]
times = st.floats(0.02, 0.98)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(t=times)
@settings(max_examples=30, deadline=None)
def test_schedules_meet_their_ends_and_derivatives(schedule, t):
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    assert schedule.alpha(zero) == 1 and schedule.beta(zero) == 0
    assert abs(float(schedule.alpha(one))) < 1e-15 and abs(float(schedule.beta(one)) - 1) < 1e-15
    t = torch.tensor([t], dtype=torch.float64)
    h = 1e-6
    for f, d in ((schedule.alpha, schedule.d_alpha), (schedule.beta, schedule.d_beta)):
        assert abs(float((f(t + h) - f(t - h)) / (2 * h) - d(t))) < 1e-8
    assert torch.allclose(schedule.time_of_ratio(schedule.beta(t) / schedule.alpha(t)), t)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(t=times, seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_velocity_and_denoiser_are_inverse(schedule, t, seed):
    g = torch.Generator().manual_seed(seed)
    x, d = torch.randn(2, 3, 4, generator=g, dtype=torch.float64)
    time = torch.full((3,), t, dtype=torch.float64)
    back = schedule.denoiser(schedule.velocity(d, x, time), x, time)
    assert torch.allclose(back, d, atol=1e-9)
    # b = (beta'/beta) x + (sigma^2/2) score, the form from which every steered drift follows.
    growth = (schedule.d_beta(time) / schedule.beta(time))[:, None]
    half = schedule.half_variance(time)[:, None]
    rebuilt = growth * x + half * schedule.score(d, x, time)
    assert torch.allclose(rebuilt, schedule.velocity(d, x, time), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(solver, order):
    mixture = paper_mixture()
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = ode_step(mixture.velocity, solver)
    truth = integrate(ode_step(mixture.velocity, "heun"), x, uniform_grid(4096, 0.05, 0.9))
    errors = [
        float((integrate(step, x, uniform_grid(k, 0.05, 0.9)) - truth).abs().mean())
        for k in (32, 128)
    ]
    assert abs(math.log(errors[0] / errors[1], 4) - order) < 0.3


def test_glass_limits():
    mixture = paper_mixture()
    g = torch.Generator().manual_seed(1)
    x, x_bar = torch.randn(2, 5, 2, generator=g, dtype=torch.float64)
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0]).double()
    s = torch.tensor([0.3, 0.0005, 0.7, 1.0, 0.5]).double()
    zero, one = torch.zeros(5).double(), torch.ones(5).double()

    def bar(context_time, inner_time):
        inner = glass.posterior_velocity(Linear(), mixture.velocity, x, context_time)
        return inner(x_bar, inner_time)

    assert torch.allclose(bar(zero, s), mixture.velocity(x_bar, s), atol=1e-12)
    assert torch.allclose(
        bar(t[1:4].repeat(2)[:5], zero),
        mixture.denoiser(x, t[1:4].repeat(2)[:5]) - x_bar,
        atol=1e-10,
    )
    assert torch.isfinite(bar(t, s)).all() and torch.isfinite(bar(one, one)).all()
    assert torch.isfinite(bar(zero, zero)).all()


def noise_of(seed, batch, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return lambda name, shape: torch.randn(batch, *shape, generator=g, dtype=dtype)


@pytest.mark.parametrize("sampler", [lambda f: Glass(f, 64), lambda f: SDERollout(f, 200)])
def test_simulated_posteriors_reach_the_exact_one(sampler):
    mixture = paper_mixture()
    flow = MixtureFlow(mixture)
    x = torch.tensor([[-0.8, -0.9], [0.6, 1.0]]).double()
    t = torch.full((2,), 0.4).double()
    n = 4000
    draws = sampler(flow).draw(x, t, n, noise_of(0, 2))
    exact = MixturePosterior(mixture).draw(x, t, 20 * n, noise_of(1, 2))
    error = exact.std(0) / math.sqrt(n)
    assert ((draws.mean(0) - exact.mean(0)).abs() < 5 * error).all()
    assert torch.allclose(draws.std(0), exact.std(0), rtol=0.06)


def test_heun_keeps_the_spread_that_as_many_euler_evaluations_lose():
    mixture, n = paper_mixture(), 4000
    x, t = torch.tensor([[-0.8, -0.9]]).double(), torch.full((1,), 0.1).double()
    exact = MixturePosterior(mixture).draw(x, t, 20 * n, noise_of(1, 1)).std(0)
    flow, lost = MixtureFlow(mixture), {}
    for solver, steps in (("euler", 16), ("heun", 8)):
        draws = Glass(flow, steps, solver).draw(x, t, n, noise_of(0, 1))
        lost[solver] = float((1 - draws.std(0) / exact).abs().max())
    assert lost["heun"] < lost["euler"] / 3, lost


def test_one_glass_step_is_tweedie_and_shares_the_velocity():
    calls = []

    class Counting(MixtureFlow):
        def velocity(self, x, t, condition=None):
            calls.append(len(x))
            return super().velocity(x, t)

    flow = Remembered(Counting(paper_mixture()))
    x, t = torch.randn(3, 2).double(), torch.full((3,), 0.5).double()
    flow.velocity(x, t)
    tweedie = Tweedie(flow).draw(x, t, 1, noise_of(0, 3))
    glass_draws = Glass(flow, 1).draw(x, t, 4, noise_of(0, 3))
    assert torch.allclose(glass_draws, tweedie.expand(4, -1, -1), atol=1e-12)
    assert calls == [3]
    Glass(flow, 5).draw(x, t, 4, noise_of(0, 3))
    assert calls == [3] + [12] * 4


def test_gaussian_posterior_is_exact_for_unit_gaussian_data():
    data = Mixture(torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    x, t = torch.ones(1, 2).double(), torch.tensor([0.3]).double()
    draws = Gaussian(MixtureFlow(data)).draw(x, t, 50_000, noise_of(0, 1))
    post = data.posterior(x, t)
    assert torch.allclose(draws.mean(0), post.mean[0], atol=0.02)
    assert torch.allclose(draws.std(0), post.covariance[0, 0].diagonal().sqrt()[None], rtol=0.02)


def test_ancestral_step_is_exact_for_a_point_mass():
    """With data at one point the denoiser is constant, so one step lands in the exact law."""
    schedule = Linear()
    x1 = torch.tensor([[2.0, -1.0]]).double().expand(100_000, 2)
    g = torch.Generator().manual_seed(0)
    x0 = torch.randn(x1.shape, generator=g, dtype=torch.float64)
    t, u = torch.full((len(x1),), 0.2).double(), torch.full((len(x1),), 0.7).double()
    x = schedule.noised(x1, x0, t)
    z = torch.randn(x1.shape, generator=g, dtype=torch.float64)
    out = ancestral(schedule, x, x1, t, u, z)
    assert torch.allclose(out.mean(0), 0.7 * x1[0], atol=0.01)
    assert torch.allclose(out.std(0), torch.full((2,), 0.3).double(), rtol=0.02)
    # The memoryless process: correlation of the implied noises is alpha_u beta_t/(alpha_t beta_u).
    implied = (out - 0.7 * x1) / 0.3
    rho = float((implied * x0).mean())
    assert abs(rho - 0.3 * 0.2 / (0.8 * 0.7)) < 0.02


def test_value_estimator_slopes():
    """Bias falls like 1/N and spread like N^-1/2; e^V_hat is unbiased."""
    g = torch.Generator().manual_seed(0)
    sigma = 0.7
    truth = sigma**2 / 2
    sizes, repeats = (4, 16, 64), 200_000
    biases, spreads = [], []
    for n in sizes:
        r = sigma * torch.randn(n, repeats, generator=g, dtype=torch.float64)
        v = log_mean_exp(r)
        biases.append(float(truth - v.mean()))
        spreads.append(float(v.std()))
        assert abs(float(v.exp().mean()) - math.exp(truth)) < 5 * float(v.exp().std()) / 447
    assert abs(math.log(biases[0] / biases[2], 16) - 1) < 0.15
    assert abs(math.log(spreads[0] / spreads[2], 16) - 0.5) < 0.15


def test_estimators_approach_the_exact_gradient():
    mixture, reward = paper_mixture(), linear(torch.tensor([0.5, -0.3]).double())
    flow = MixtureFlow(mixture)
    x = torch.tensor([[-0.8, -0.9], [0.6, 1.0]]).double().requires_grad_()
    t = torch.full((2,), 0.5).double()
    exact = mixture.value_gradient(x.detach(), t, reward)
    draws = Glass(flow, 24, "heun").draw(x, t, 4000, noise_of(0, 2))
    by_g = value_gradient(reward(draws), x)
    assert torch.allclose(by_g, exact, rtol=0.1, atol=0.05)
    x1 = MixturePosterior(mixture).draw(x.detach(), t, 100_000, noise_of(1, 2))
    shift = denoiser_shift(reward(x1), x1)
    assert torch.allclose(shift, mixture.shift(x.detach(), t, reward), atol=0.02)


def test_gradient_free_estimator_vanishes_for_one_draw():
    x1 = torch.randn(1, 3, 2)
    assert denoiser_shift(torch.randn(1, 3), x1).abs().max() == 0


@pytest.mark.parametrize(("rule", "guidance"), [("rescale", 1.0), ("rescale", 0.3), ("clip", 0.5)])
def test_scaling_rules(rule, guidance):
    g = torch.Generator().manual_seed(0)
    b, g_ = torch.randn(2, 5, 1, 3, 3, generator=g)
    b, g_ = b, g_ * torch.tensor([0.01, 0.1, 1.0, 10.0, 100.0]).reshape(5, 1, 1, 1)
    out = SCALES[rule](guidance)(SteeringTerm(b, g_, {}), Linear(), torch.full((5,), 0.5))
    norms, limit = out.flatten(1).norm(dim=1), guidance * b.flatten(1).norm(dim=1)
    cosine = torch.nn.functional.cosine_similarity(out.flatten(1), g_.flatten(1))
    assert torch.allclose(cosine, torch.ones(5), atol=1e-5)
    expected = limit if rule == "rescale" else torch.minimum(limit, g_.flatten(1).norm(dim=1))
    assert torch.allclose(norms, expected, rtol=1e-5)


def test_release_numerics_cap_the_factor():
    t = torch.tensor([0.01, 0.02, 0.5])
    assert guidance_factor(Linear(), t, "release").tolist()[:2] == [RELEASE_CAP] * 2
    assert torch.allclose(guidance_factor(Linear(), t, "regular"), (1 - t) / t)


@pytest.mark.parametrize(
    "step",
    [
        steered_step("ode", Linear()),
        steered_step("sde", Linear()),
        steered_step("sde", Linear(), noise_level=0.3),
        steered_step("ancestral", Linear()),
    ],
    ids=["ode", "sde", "sde-0.3", "ancestral"],
)
def test_every_integrator_keeps_the_tilted_marginals(step):
    """Exact steering of a Gaussian: mean and variance of the tilted law, at any noise level."""
    one = torch.ones(1).double()
    data = Mixture(one, torch.tensor([[0.5]]).double(), torch.tensor([[[0.64]]]).double())
    reward = linear(torch.tensor([1.5]).double())
    g = torch.Generator().manual_seed(0)
    n, steps = 40_000, 400
    x = torch.randn(n, 1, generator=g, dtype=torch.float64)
    grid = uniform_grid(steps, 0.002)
    for t0, u0 in pairwise(grid):
        t, u = torch.full((n,), t0).double(), torch.full((n,), u0).double()
        tilt = data.interpolant.tilt(data.shift(x, t, reward), t)
        z = torch.randn(x.shape, generator=g, dtype=torch.float64)
        x = step(x, data.velocity(x, t), tilt, t, u, z)
    assert abs(float(x.mean()) - (0.5 + 0.64 * 1.5)) < 0.03
    assert abs(float(x.std()) - 0.8) < 0.02
