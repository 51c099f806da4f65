"""DPS and LGD-MC: the laws of one Gaussian, and drifts of mixtures in closed form."""

import pytest
import torch

from bench.core import quadratic
from bench.core.paths import Linear, Trigonometric
from bench.core.quadratic import tilt_gaussian
from bench.loops.estimation import ESTIMATORS, estimated_term
from bench.loops.posteriors import PosteriorChoice
from bench.models.mixture import Mixture, paper_mixture, random_mixture
from methods.steering.dps import DPS
from methods.steering.lgd import LGDMC
from tests.worlds.one_gaussian import mixture_problem
from tests.worlds.steered_mixtures import (
    BOWL,
    COVARIANCE,
    MEAN,
    REWARDS,
    closed_form,
    gaussian,
    jacobian,
    states,
)

# -- one Gaussian ---------------------------------------------------------------------------------


def dps_moments(steps, integrator, start=0.01):
    """Mean and covariance of DPS by its affine recursion: D = mu + G (x - t mu), G = t S / P."""
    mean, cov, eye = torch.zeros(2).double(), torch.eye(2).double(), torch.eye(2).double()
    for k in range(steps):
        t, u = (start + (1 - start) * j / steps for j in (k, k + 1))
        gain = t * COVARIANCE @ torch.linalg.inv((1 - t) ** 2 * eye + t**2 * COVARIANCE)
        fixed = MEAN - t * gain @ MEAN
        # The steered denoiser D + ((1 - t)^2 / t) G' (eta - Lambda D) = slope x + offset.
        push = (1 - t) ** 2 / t * gain
        slope = gain - push @ BOWL.Lambda @ gain
        offset = fixed + push @ (BOWL.eta - BOWL.Lambda @ fixed)
        rho = 1.0 if integrator == "ode" else (1 - u) * t / ((1 - t) * u)
        kept = rho * (1 - u) / (1 - t)
        matrix = (u - kept * t) * slope + kept * eye
        mean = matrix @ mean + (u - kept * t) * offset
        cov = matrix @ cov @ matrix.T + (1 - u) ** 2 * (1 - rho**2) * eye
        if integrator == "ancestral" and k < steps - 1:  # what x1 adds, for data of unit variance
            cov = cov + (u - kept * t) ** 2 * (1 - t) ** 2 / ((1 - t) ** 2 + t**2) * eye
    return mean, cov


def standard_errors(x, mean, cov):
    """Largest deviation of sample mean and covariance in standard errors."""
    n, var = len(x), cov.diagonal()
    off_mean = (x.mean(0) - mean).abs() / (var / n).sqrt()
    spread = ((var[:, None] * var + cov**2) / n).sqrt()
    return max(float(off_mean.max()), float(((x.T.cov() - cov).abs() / spread).max()))


@pytest.mark.parametrize("integrator", ["ode", "ancestral", "ancestral-narrow"])
def test_dps_has_the_moments_of_its_own_affine_recursion(integrator):
    n, world = 40_000, gaussian(MEAN, COVARIANCE)
    method = DPS.create(steps=12, integrator=integrator)
    x = method.sample(mixture_problem(world, BOWL, n), n).x
    mean, cov = dps_moments(12, integrator)
    assert standard_errors(x, mean, cov) < 4
    # The bias of DPS is far larger than that: the tilted law is another one, on any grid.  (Twelve
    # steps that drop the variance of x1 are 20 errors off, wide ones 15: they err the other way.)
    tilted, _ = world.tilted(BOWL)
    mean, cov = dps_moments(4000, integrator)
    assert standard_errors(x, tilted.mean(), tilted.covariance()) > 12
    assert float((cov - tilted.covariance()).abs().max()) > 0.03


def test_dps_is_exact_for_a_linear_reward_of_a_gaussian():
    world, slope = gaussian(MEAN, COVARIANCE), quadratic.linear(torch.tensor([0.9, -0.6]).double())
    x = DPS.create(steps=400).sample(mixture_problem(world, slope, 20_000), 20_000).x
    tilted, _ = world.tilted(slope)
    assert float((x.mean(0) - tilted.mean()).abs().max()) < 0.02
    assert float((x.T.cov() - tilted.covariance()).abs().max()) < 0.02


# -- closed-form drifts on mixtures ---------------------------------------------------------------


@pytest.mark.parametrize("interpolant", [Linear(), Trigonometric()], ids=["linear", "trig"])
@pytest.mark.parametrize("name", REWARDS)
def test_the_drift_of_dps_is_the_closed_form(name, interpolant):
    plain, reward = random_mixture(3, 3, seed=2), REWARDS[name]
    mixture = Mixture(plain.weights, plain.means, plain.covariances, interpolant)
    problem, choice = mixture_problem(mixture, reward, 16), PosteriorChoice("tweedie")
    for time in (0.1, 0.4, 0.8):
        x, t = states(16, 3, time)
        term = estimated_term(problem, DPS.create().params, choice, 1, ESTIMATORS["G"])(x, t, 0)
        exact = closed_form(mixture, reward, x, t)
        scale = float(exact.abs().max())
        assert float((term.gradient - exact).abs().max()) < 1e-5 * scale
        half = interpolant.half_variance(t)[:, None]
        assert float((term.g - half * exact).abs().max()) < 1e-5 * float(half.max()) * scale
        assert torch.allclose(term.value, reward(mixture.denoiser(x, t)))


@pytest.mark.parametrize("scale", ["exact", "rescale"])
def test_runs_tend_to_the_fine_limit_of_their_own_drift(scale):
    """Against the closed-form drift on a 16 times finer grid: small, and half for half the step."""
    n, mixture = 256, paper_mixture()
    reward = quadratic.well(torch.tensor([1.0, -1.0]).double(), 0.3)

    def reference(steps, start=0.01):
        x = mixture_problem(mixture, reward, n).x0()
        for k in range(steps):
            t = torch.full((n,), start + (1 - start) * k / steps).double()
            b = mixture.velocity(x, t)
            g = ((1 - t) / t)[:, None] * closed_form(mixture, reward, x, t)
            if scale == "rescale":
                g = g * b.norm(dim=1, keepdim=True) / g.norm(dim=1, keepdim=True)
            x = x + (1 - start) / steps * (b + g)
        return x

    def gap(steps, limit):
        x = DPS.create(steps=steps, scale=scale).sample(mixture_problem(mixture, reward, n), n).x
        # Trajectories that the coarse grid sends to another mode are outliers: the median.
        return float((x - limit).norm(dim=1).median())

    limit = reference(16 * 80)
    coarse, fine = gap(40, limit), gap(80, limit)
    assert fine < 0.1
    assert fine < 0.65 * coarse


# -- LGD-MC ---------------------------------------------------------------------------------------


def lgd_gradient(method, mixture, reward, x, t, seed=0):
    problem = mixture_problem(mixture, reward, len(x), seed)
    own = method.choice, method.draws, method.estimator
    return estimated_term(problem, method.params, *own)(x, t, 0).gradient


def test_lgd_is_the_gradient_of_a_log_mean_exp():
    """With many draws, of the closed-form log-mean of a Gaussian; InverseBench's average is DPS."""
    mixture, reward = random_mixture(3, 3, seed=2), REWARDS["quadratic"]
    x, t = states(6, 3, 0.5)
    mean, eye = mixture.denoiser(x, t), torch.eye(3).double()
    # alpha = beta: alpha^2 / (alpha^2 + beta^2) = 1/2, and alpha^2 = 1/4 for the other width.
    for width, variance in (("signal", 0.5), ("noise", 0.25)):
        pull = tilt_gaussian(mean, variance * eye, reward).d_mean
        exact = torch.einsum("bji,bj->bi", jacobian(mixture, x, t), pull)
        found = lgd_gradient(LGDMC.create(draws=4096, width=width), mixture, reward, x, t)
        assert torch.allclose(found, exact, rtol=0.1, atol=0.05 * float(exact.abs().max()))
    averaged = lgd_gradient(LGDMC.create(draws=4096, average="reward"), mixture, reward, x, t)
    dps = closed_form(mixture, reward, x, t)
    assert torch.allclose(averaged, dps, rtol=0.1, atol=0.05 * float(dps.abs().max()))
    # The definitions are far apart: by 1 + curvature / 2 here, by N in TFG's release.
    by_value = lgd_gradient(LGDMC.create(draws=4096), mixture, reward, x, t)
    assert float(averaged.norm() / by_value.norm()) > 1.3


def test_lgd_is_exact_where_the_posterior_is_its_gaussian():
    """Data of unit variance: the posterior is N(D, alpha^2 / (alpha^2 + beta^2) I)."""
    world, reward = gaussian(MEAN, torch.eye(2)), BOWL
    x, t = states(8, 2, 0.3)
    exact = world.value_gradient(x, t, reward)
    found = lgd_gradient(LGDMC.create(draws=4096), world, reward, x, t)
    assert float((found - exact).norm() / exact.norm()) < 0.05
    assert float((closed_form(world, reward, x, t) - exact).norm() / exact.norm()) > 0.2


def test_without_spread_lgd_is_dps():
    world = paper_mixture()
    out = [
        method.sample(mixture_problem(world, BOWL, 16), 16).x
        for method in (DPS.create(steps=8), LGDMC.create(steps=8, draws=3, spread=0.0))
    ]
    assert torch.allclose(*out)
