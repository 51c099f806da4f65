"""Steering: laws of one Gaussian, closed-form drifts, every normalisation, the papers' recursions.

The flow, the posterior and the flow map of a Gaussian are affine, so that every method has a law
or a trajectory that can be written down.
"""

import math
from itertools import pairwise

import pytest
import torch
from one_gaussian import mixture_problem

from bench.core import quadratic
from bench.core.interpolant import Linear, Trigonometric
from bench.core.metering import Meter
from bench.core.params import UserError
from bench.core.posterior import Remembered
from bench.core.quadratic import Quadratic, tilt_gaussian
from bench.core.steered import DRIFT_SCALES, GRADIENT_SCALES, Scaling, Term, scaled
from bench.models.mixture import Mixture, paper_mixture, random_mixture
from bench.runner.execute import sample_in_batches
from bench.runner.planning import expand
from bench.runner.staging import make_problem, stage
from bench.runner.suite import build_suite
from methods.lgd import LGDMC
from methods.lookahead import FMRG, FMTT
from methods.particles import evolve
from methods.posteriors import PosteriorChoice
from methods.smc import run
from methods.steering import DPS, estimated
from methods.tfg import MPGD, TFG, UGD, FreeDoM
from methods.training_free import Guided

MILD = "linear:a=0.5|-0.3"

METHODS = [
    *(f"dps:steps=5,scale={scale},best=1e9" for scale in (*DRIFT_SCALES, *GRADIENT_SCALES)),
    "dps:steps=5,scale=clip-norm,size=0.1,integrator=ancestral",
    "lgd-mc:steps=5,draws=3",
    "lgd-mc:steps=5,draws=2,average=reward,width=noise,spread=0.1",
    "lgd-mc:steps=6,draws=1,scale=rescale,integrator=sde",
    "tfg:steps=5",
    "tfg:steps=5,inner=2,draws=3,recurrence=2,eta=0",
    "tfg:steps=5,mu=0,draws=2",
    "tfg:steps=5,rho=0,sigma=0,draws=7,mu=0.01",
    "freedom:steps=5,recurrence=3,rho=0.1",
    "ugd:steps=5,inner=2,mu=0.1",
    "mpgd:steps=6,mu=0.1",
    "fmtt:steps=5,particles=3",
    "fmtt:steps=5,particles=2,jacobian=false,inner_steps=2,threshold=1.0",
    "fmrg",
    "fmrg:steps=2,tail=1,jacobian=false,scale=clip",
    "fmrg:steps=3,stop=1.0",
]
WORLDS = {
    "gmm-paper": [MILD, "quadratic"],
    "gmm:dimension=3": ["linear"],
    "digits": ["class-mixture", "template"],
}


def planned(task, reward, methods, n=6, **more):
    content = {"name": "t", "tasks": [task], "rewards": [reward], "methods": methods}
    return expand(build_suite(content | {"seeds": 1, "n": n, "budgets": ["none"]} | more))


def sampled(row):
    scene, meter = stage(row.cell), Meter()
    problem = make_problem(row.cell, scene, meter, range(row.cell.n))
    return sample_in_batches(scene.method, problem, row.cell).x, problem


# -- contracts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "reward"), [(t, r) for t, rs in WORLDS.items() for r in rs])
def test_predicted_work_is_measured_work(task, reward):
    ran = 0
    for row in planned(task, reward, METHODS):
        if row.status == "skipped":
            assert "flow map" in row.reason and task == "gmm:dimension=3"
            continue
        x, problem = sampled(row)
        assert problem.meter.work().same_rows(row.predicted * row.cell.n), row.method_label
        assert torch.isfinite(x).all()
        ran += 1
    assert ran >= len(METHODS) - 5


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_samples_whatever_the_batch(method):
    (whole,) = planned("gmm-paper", MILD, [method], n=128)
    (parts,) = planned("gmm-paper", MILD, [method], n=128, batch=50)
    x = sampled(whole)[0]
    assert torch.equal(x, sampled(whole)[0])
    assert torch.allclose(x, sampled(parts)[0], atol=1e-3)


TILTING = [
    *(f"dps:scale={scale},best=10" for scale in (*DRIFT_SCALES, *GRADIENT_SCALES)),
    "lgd-mc:draws=4",
    "lgd-mc:draws=4,average=reward",
    "tfg:rho=0.1,mu=0.02",
    "freedom:rho=0.1",
    "ugd:mu=0.1",
    "mpgd:mu=0.1",
    "fmtt:particles=4",
    "fmtt:particles=4,jacobian=false",
    "fmrg",
    "fmrg:jacobian=false",
]


@pytest.mark.parametrize("method", TILTING)
def test_every_method_raises_the_reward(method):
    """From the same noise, by more than five standard errors of the paired difference."""
    base, own = planned("gmm-paper", MILD, ["dps:guidance=0", method], n=512)
    x, problem = sampled(own)
    gain = problem.reward(x) - problem.reward(sampled(base)[0])
    assert float(gain.mean()) > 5 * float(gain.std()) / math.sqrt(len(gain))


@pytest.mark.parametrize(
    "method", ["dps", "lgd-mc", "tfg", "freedom", "ugd", "mpgd", "fmtt", "fmrg"]
)
def test_matching_uses_a_budget(method):
    for amount in (100, 150, 500):
        (row,) = planned("gmm-paper", MILD, [method], budgets=[f"paper-nfe={amount}"])
        assert 0.9 <= row.use <= 1, row.matched


def test_scales_that_need_a_gradient_are_offered_where_there_is_one():
    with pytest.raises(UserError, match="must be one of exact, rescale, clip, freedom"):
        planned("gmm-paper", MILD, ["mfm-gf:scale=residual"])


# -- one Gaussian ---------------------------------------------------------------------------------


class GaussianMap:
    """X_{s,u} of N(mean, variance I) on the linear interpolant, times `error` to be wrong."""

    def __init__(self, mean, variance, error=1.0):
        self.mean, self.variance, self.error = mean, variance, error

    def jump(self, x, s, u, condition=None):
        deviation = ((1 - u) ** 2 + u**2 * self.variance).sqrt()
        ratio = deviation / ((1 - s) ** 2 + s**2 * self.variance).sqrt()
        return self.error * (u[:, None] * self.mean + ratio[:, None] * (x - s[:, None] * self.mean))

    velocity = None


def gaussian(mean, covariance, interpolant=None):
    one = torch.ones(1).double()
    return Mixture(one, mean[None].double(), covariance[None].double(), interpolant)


MEAN = torch.tensor([0.7, -0.4]).double()
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]]).double()
BOWL = Quadratic(
    torch.tensor([1.0, 0.5]).double(), torch.tensor([[1.2, -0.4], [-0.4, 0.6]]).double()
)


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
        rho = (1 - u) * t / ((1 - t) * u) if integrator == "ancestral" else 1.0
        kept = rho * (1 - u) / (1 - t)
        matrix = (u - kept * t) * slope + kept * eye
        mean = matrix @ mean + (u - kept * t) * offset
        cov = matrix @ cov @ matrix.T + (1 - u) ** 2 * (1 - rho**2) * eye
    return mean, cov


def standard_errors(x, mean, cov):
    """Largest deviation of sample mean and covariance in standard errors."""
    n, var = len(x), cov.diagonal()
    off_mean = (x.mean(0) - mean).abs() / (var / n).sqrt()
    spread = ((var[:, None] * var + cov**2) / n).sqrt()
    return max(float(off_mean.max()), float(((x.T.cov() - cov).abs() / spread).max()))


@pytest.mark.parametrize("integrator", ["ode", "ancestral"])
def test_dps_has_the_moments_of_its_own_affine_recursion(integrator):
    n, world = 40_000, gaussian(MEAN, COVARIANCE)
    method = DPS.create(steps=12, integrator=integrator)
    x = method.sample(mixture_problem(world, BOWL, n), n).x
    mean, cov = dps_moments(12, integrator)
    assert standard_errors(x, mean, cov) < 4
    # The bias of DPS is far larger than that: the tilted law is another one, on any grid.
    tilted, _ = world.tilted(BOWL)
    mean, cov = dps_moments(4000, integrator)
    assert standard_errors(x, tilted.mean(), tilted.covariance()) > 20
    assert float((cov - tilted.covariance()).abs().max()) > 0.03


def test_dps_is_exact_for_a_linear_reward_of_a_gaussian():
    world, slope = gaussian(MEAN, COVARIANCE), quadratic.linear(torch.tensor([0.9, -0.6]).double())
    x = DPS.create(steps=400).sample(mixture_problem(world, slope, 20_000), 20_000).x
    tilted, _ = world.tilted(slope)
    assert float((x.mean(0) - tilted.mean()).abs().max()) < 0.02
    assert float((x.T.cov() - tilted.covariance()).abs().max()) < 0.02


# -- closed-form drifts on mixtures ---------------------------------------------------------------


def jacobian(mixture, x, t):
    """J_D = (beta / alpha^2) Cov(x1 | x_t = x), from the posterior's components."""
    post, i = mixture.posterior(x, t), mixture.interpolant
    gamma = post.log_gamma.exp()
    second = torch.einsum("bki,bkj->bkij", post.mean, post.mean) + post.covariance
    mean = mixture.denoiser(x, t)
    cov = torch.einsum("bk,bkij->bij", gamma, second) - mean[:, :, None] * mean[:, None, :]
    return (i.beta(t) / i.alpha(t) ** 2)[:, None, None] * cov


def closed_form(mixture, reward, x, t):
    """grad_x r(D_t(x)) = J_D' (eta - Lambda D)."""
    pull = reward.eta - mixture.denoiser(x, t) @ reward.Lambda
    return torch.einsum("bji,bj->bi", jacobian(mixture, x, t), pull)


def states(n, dimension, t, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, dimension, generator=g).double(), torch.full((n,), t).double()


REWARDS = {
    "linear": quadratic.linear(torch.tensor([1.0, -0.7, 0.4]).double()),
    "quadratic": quadratic.well(torch.tensor([1.0, 0.0, -1.0]).double(), 0.8),
    "inverse": quadratic.observation(
        torch.tensor([[1.2, -0.8, 0.3]]).double(),
        torch.tensor([-1.0]).double(),
        torch.tensor([[0.09]]).double(),
    ),
}


@pytest.mark.parametrize("interpolant", [Linear(), Trigonometric()], ids=["linear", "trig"])
@pytest.mark.parametrize("name", REWARDS)
def test_the_drift_of_dps_is_the_closed_form(name, interpolant):
    plain, reward = random_mixture(3, 3, seed=2), REWARDS[name]
    mixture = Mixture(plain.weights, plain.means, plain.covariances, interpolant)
    problem, choice = mixture_problem(mixture, reward, 16), PosteriorChoice("tweedie")
    for time in (0.1, 0.4, 0.8):
        x, t = states(16, 3, time)
        term = estimated(problem, DPS.create().params, choice, 1, "G")(x, t, 0)
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


# -- normalisations -------------------------------------------------------------------------------


def a_term(strength=1.0, time=0.3, n=8):
    """A DPS term of a Gaussian with one observation y = a . x, and the residual (y - a . D) / s."""
    a, y, s = torch.tensor([1.0, -0.5]).double(), 0.6, 0.25
    mixture = gaussian(MEAN, COVARIANCE)
    problem = mixture_problem(mixture, lambda x: -strength * (y - x @ a) ** 2 / (2 * s**2), n)
    x, t = states(n, 2, time)
    x = x * torch.arange(1, n + 1)[:, None]
    term = estimated(problem, DPS.create().params, PosteriorChoice("tweedie"), 1, "G")(x, t, 0)
    x.requires_grad_()
    residual = (y - mixture.denoiser(x, t) @ a) / s
    (of_norm,) = torch.autograd.grad(-residual.abs().sum(), x)
    return term, t, residual.detach(), of_norm


def by(rule, term, t, **constants):
    return Scaling(rule, **constants)(term, Linear(), t)


def test_residual_follows_the_norm_and_not_its_square():
    """J_D is constant on a Gaussian, so the gradient of the norm has the same length everywhere."""
    term, t, residual, of_norm = a_term()
    found = by("residual", term, t)
    assert torch.allclose(found, of_norm, rtol=1e-9)
    lengths = found.norm(dim=1)
    assert float(lengths.max() / lengths.min()) < 1 + 1e-9
    assert float(residual.abs().max() / residual.abs().min()) > 3
    # The gradient of the squared norm is longer where the residual is: the mistake to exclude.
    squared = term.gradient.norm(dim=1)
    assert torch.allclose(squared / lengths, residual.abs(), rtol=1e-9)
    by_mean = by("residual-mean", term, t, measurements=9)
    assert torch.allclose(by_mean, found / (2 * 3), rtol=1e-9)


@pytest.mark.parametrize(
    ("rule", "degree"),
    [
        ("exact", 1.0),
        ("rescale", 0.0),
        ("freedom", 0.0),
        ("sqrt-alpha-bar", 1.0),
        ("value", 0.0),
        ("residual", 0.5),
        ("residual-mean", 0.5),
        ("fixed-norm", 0.0),
    ],
)
def test_how_a_rule_answers_to_a_stronger_reward(rule, degree):
    """The steering term of 16 r is 16^degree times that of r, in the same direction."""
    (once, t, *_), (more, *_) = a_term(1.0), a_term(16.0)
    assert torch.allclose(by(rule, more, t), 16**degree * by(rule, once, t), rtol=1e-9)


def test_lengths_that_the_rules_promise():
    term, t, *_ = a_term()
    b, gradient = term.b.norm(dim=1), term.gradient.norm(dim=1)

    def length(rule, **constants):
        return by(rule, term, t, guidance=3.0, **constants).norm(dim=1)

    assert torch.allclose(length("freedom"), 0.6 * b)
    assert torch.allclose(length("fixed-norm", size=4e-4), 3 * 4e-4 * (1 - t) / t)
    assert torch.allclose(length("value"), 3 * gradient / term.value.abs())
    # sqrt(alpha-bar) of the linear interpolant at t = 0.3, where 8 sigma^2 = 37 is capped at 10.
    assert torch.allclose(length("sqrt-alpha-bar"), 3 * gradient * 0.3 / math.hypot(0.3, 0.7))
    size = float(gradient.median())
    assert torch.allclose(length("clip-norm", size=size), 30 * gradient.clamp(max=size))
    late = torch.full_like(t, 0.9)
    expected = 3 * 16 * 0.1 / 0.9 * gradient.clamp(max=size)
    assert torch.allclose(
        by("clip-norm", term, late, guidance=3.0, size=size).norm(dim=1), expected
    )
    for outside in (0.005, 0.96):
        assert not by("clip-norm", term, torch.full_like(t, outside)).any()


def test_no_steering_stays_no_steering():
    b, zero = 1e3 * torch.ones(2, 3), torch.zeros(2, 3)
    for rule in DRIFT_SCALES:
        assert torch.equal(scaled(zero, b, rule, 2.0), zero), rule
    term, t = Term(b, zero, {}, zero, torch.zeros(2)), torch.full((2,), 0.5)
    for rule in GRADIENT_SCALES:
        assert torch.equal(by(rule, term, t), zero), rule


def test_a_value_above_the_best_is_refused():
    term, t, *_ = a_term()
    with pytest.raises(UserError, match=r"above best = -10000: set best"):
        by("residual", term, t, best=-1e4)
    with pytest.raises(UserError, match="needs an estimate by gradients"):
        by("value", Term(term.b, term.g, {}), t)


# -- LGD-MC ---------------------------------------------------------------------------------------


def lgd_gradient(method, mixture, reward, x, t, seed=0):
    problem = mixture_problem(mixture, reward, len(x), seed)
    own = method.choice, method.draws, method.estimator
    return estimated(problem, method.params, *own)(x, t, 0).gradient


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


# -- TFG: the recursions of the papers, in their own variables ------------------------------------

M, V, ETA, CURVATURE = 0.7, 0.6, 0.9, 0.5


def factors(rule, bars):
    """Step sizes from alpha-bar at the K + 1 times, as the papers write them."""
    alphas = [a / b for a, b in pairwise(bars)]
    raw = {
        "increase": alphas,
        "decrease": [1 - a for a in alphas],
        "constant": [1.0] * len(alphas),
    }[rule]
    return [x * len(raw) / sum(raw) for x in raw]


def in_diffusion_variables(p, kind, interpolant, problem):
    """Algorithm boxes for variance-preserving diffusion: y_t = sqrt(a) x1 + sqrt(1 - a) eps.

    kind: tfg, freedom, ugd or mpgd; the reward is ETA x - CURVATURE x^2 / 2, the data N(M, V).
    """
    times = [p.start + (1 - p.start) * k / p.steps for k in range(p.steps + 1)]
    t = torch.tensor(times).double()
    scale = (interpolant.alpha(t) ** 2 + interpolant.beta(t) ** 2).sqrt()
    bars = ((interpolant.beta(t) / scale) ** 2).clamp(max=1.0).tolist()
    y = problem.x0() / scale[0]
    for k, (a, b) in enumerate(pairwise(bars)):
        alpha = a / b
        for index in range(p.recurrence * k, p.recurrence * (k + 1)):
            if index > p.recurrence * k:
                fresh = problem.noise("recurrence", index, (1,))
                y = math.sqrt(alpha) * y + math.sqrt(1 - alpha) * fresh
            eps = math.sqrt(1 - a) * (y - math.sqrt(a) * M) / (a * V + 1 - a)
            x0 = (y - math.sqrt(1 - a) * eps) / math.sqrt(a)
            dx0 = (1 - (1 - a) / (a * V + 1 - a)) / math.sqrt(a)
            noise = torch.zeros(1, len(y), 1).double()
            if p.sigma:
                spread = p.sigma * math.sqrt(1 - a)
                noise = spread * problem.noise("smoothing", index, (p.draws, 1)).transpose(0, 1)

            def slope(point, noise=noise):
                around = point + noise
                weight = (ETA * around - CURVATURE * around**2 / 2).softmax(0)
                return (weight * (ETA - CURVATURE * around)).sum(0)

            moved = x0
            for _ in range(p.inner if p.mu else 0):
                size = p.mu if kind in ("ugd", "mpgd") else p.mu * factors(p.mu_schedule, bars)[k]
                moved = moved + size * slope(moved)
            by_x = slope(x0) * dx0
            if kind == "ugd":
                back = math.sqrt(a / (1 - a)) * (moved - x0)
                eps = eps - p.rho * math.sqrt(1 - a) * by_x - back
                x0 = moved = (y - math.sqrt(1 - a) * eps) / math.sqrt(a)
            s = p.eta * math.sqrt((1 - b) / (1 - a) * (1 - alpha))
            z = problem.noise("step", index, (1,))
            y = math.sqrt(b) * x0 + math.sqrt(max(1 - b - s**2, 0)) * eps + s * z
            y = y + math.sqrt(b) * (moved - x0)
            if kind == "tfg":
                y = y + p.rho * factors(p.rho_schedule, bars)[k] * by_x / math.sqrt(alpha)
            if kind == "freedom":
                y = y + p.rho * math.sqrt(a) * by_x
    return y


SETTINGS = [
    ("tfg", TFG.create(steps=7)),
    ("tfg", TFG.create(steps=7, sigma=0.6, draws=3, inner=2, recurrence=3, eta=0.0)),
    ("tfg", TFG.create(steps=9, rho_schedule="decrease", mu_schedule="constant", eta=0.4)),
    ("freedom", FreeDoM.create(steps=7, recurrence=2)),
    ("ugd", UGD.create(steps=7, recurrence=2, inner=3, mu=0.2)),
    ("ugd", UGD.create(steps=7, recurrence=1, eta=0.0)),
    ("mpgd", MPGD.create(steps=7, mu=0.4)),
]


@pytest.mark.parametrize("interpolant", [Linear(), Trigonometric()], ids=["linear", "trig"])
@pytest.mark.parametrize(("kind", "method"), SETTINGS)
def test_training_free_guidance_is_the_algorithm_of_its_paper(kind, method, interpolant):
    """The published recursion, run in diffusion variables on a Gaussian, ends in the same place."""
    world = gaussian(torch.tensor([M]), torch.tensor([[V]]), interpolant)

    def reward(x):
        return ETA * x[:, 0] - CURVATURE * x[:, 0] ** 2 / 2

    x = method.sample(mixture_problem(world, reward, 12), 12).x
    expected = in_diffusion_variables(
        method.params, kind, interpolant, mixture_problem(world, reward, 12)
    )
    assert torch.allclose(x, expected, rtol=1e-6, atol=1e-6), (x - expected).abs().max()


def test_settings_are_settings():
    """The named methods are `tfg` at the parameters that their docstrings give."""
    same = {
        FreeDoM: {"mu": 0.0, "sigma": 0.0, "rho_schedule": "freedom", "eta": 0.5, "recurrence": 2},
        UGD: {
            "hold": "state",
            "rho_schedule": "ugd",
            "mu_schedule": "constant",
            "mu": 1.0,
            "sigma": 0.0,
            "inner": 1,
            "recurrence": 2,
        },
        MPGD: {"rho": 0.0, "mu": 1.0, "mu_schedule": "constant", "sigma": 0.0, "inner": 1},
    }
    for cls, values in same.items():
        out = [
            m.sample(mixture_problem(paper_mixture(), BOWL, 8), 8).x
            for m in (cls.create(), TFG.create(**values))
        ]
        assert torch.equal(*out), cls


def test_forward_universal_guidance_is_dps():
    world, n = paper_mixture(), 64
    ugd = UGD.create(steps=10, mu=0.0, eta=0.0, recurrence=1)
    out = [m.sample(mixture_problem(world, BOWL, n), n).x for m in (ugd, DPS.create(steps=10))]
    assert torch.allclose(*out, rtol=1e-9)


@pytest.mark.parametrize(("eta", "integrator"), [(0.0, "ode"), (1.0, "ancestral")])
def test_without_guidance_it_is_the_base_sampler(eta, integrator):
    world, n = paper_mixture(), 64
    own = TFG.create(steps=10, rho=0.0, mu=0.0, eta=eta)
    base = DPS.create(steps=10, guidance=0.0, integrator=integrator)
    out = [m.sample(mixture_problem(world, BOWL, n), n).x for m in (own, base)]
    assert torch.allclose(*out, rtol=1e-9)


def test_recurrence_keeps_the_base_law():
    """Going back by noise and forth again leaves the marginals of a Gaussian where they are."""
    world, n = gaussian(torch.tensor([M]), torch.tensor([[V]])), 20_000
    method = TFG.create(steps=200, rho=0.0, mu=0.0, recurrence=3)
    x = method.sample(mixture_problem(world, lambda x: x[:, 0], n), n).x[:, 0]
    assert abs(float(x.mean()) - M) < 0.03
    assert abs(float(x.var()) - V) < 0.03


def test_reference_steps_keep_the_guidance_when_the_grid_is_refined():
    problem = mixture_problem(paper_mixture(), BOWL, 2)
    for steps in (10, 80):
        params = TFG.create(steps=steps, rho=2.0, reference_steps=100).params
        assert sum(Guided.of(problem, params).rho) == pytest.approx(200)
        params = TFG.create(steps=steps, rho=2.0).params
        assert sum(Guided.of(problem, params).rho) == pytest.approx(2 * steps)


def test_gradients_are_cut_at_their_largest_root_mean_square():
    """A reward so steep that every gradient is cut moves MPGD by the cut, whatever its slope."""
    world = gaussian(MEAN, COVARIANCE)
    out = [
        MPGD.create(steps=6, clip=0.5)
        .sample(mixture_problem(world, quadratic.linear(torch.tensor([s, 0.0]).double()), 8), 8)
        .x
        for s in (10.0, 1e6)
    ]
    assert torch.allclose(*out, rtol=1e-9)


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
    p = {"steps": 5, "stop": 0.6, "tail": 2, "guidance": 0.8}
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


def chain_law(steps, start=0.01):
    """Mean and variance of x1 under the ancestral chain of N(M, V), by its affine recursion."""
    mean, variance = 0.0, 1.0
    for k in range(steps):
        t, u = (start + (1 - start) * j / steps for j in (k, k + 1))
        gain = t * V / ((1 - t) ** 2 + t**2 * V)
        rho = (1 - u) * t / ((1 - t) * u)
        noise = rho * (1 - u) / (1 - t)
        slope = (u - noise * t) * gain + noise
        mean = (u - noise * t) * M * (1 - gain * t) + slope * mean
        variance = slope**2 * variance + ((1 - u) * math.sqrt(1 - rho**2)) ** 2
    return mean, variance


@pytest.mark.parametrize("error", [1.0, 0.7])
@pytest.mark.parametrize("jacobian", [True, False])
def test_fmtt_is_weighed_to_the_tilted_chain(jacobian, error):
    """Unbiased Z and the tilted mean and variance in closed form, even with a map that is wrong."""
    n, particles = 600, 64
    method = FMTT.create(particles=particles, steps=12, jacobian=jacobian, threshold=0.9)
    samples, log_z = run(ahead_problem(n, error=error), n, method.design(), "draw")
    mean, variance = chain_law(12)
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
    mean, variance = chain_law(12)
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
    times = torch.tensor([method.tempers()[k] for k in range(12)])
    assert torch.allclose(times[:-1], 0.01 + 0.99 * torch.arange(11) / 12)
    assert times[-1] == 1
