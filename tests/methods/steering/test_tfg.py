"""Training-free guidance: the recursions of the papers, in their own variables."""

import math
from itertools import pairwise

import pytest
import torch

from bench.core import quadratic
from bench.core.paths import Linear, Trigonometric
from bench.models.mixture import paper_mixture
from methods.steering.dps import DPS
from methods.steering.tfg import MPGD, TFG, UGD, FreeDoM
from methods.steering.tfg_step import Guided
from tests.worlds.one_gaussian import mixture_problem
from tests.worlds.steered_mixtures import BOWL, COVARIANCE, CURVATURE, ETA, MEAN, M, V, gaussian

# -- TFG: the recursions of the papers, in their own variables ------------------------------------


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
    ("tfg", TFG.create(steps=7, reference_steps=0)),
    (
        "tfg",
        TFG.create(steps=7, sigma=0.6, draws=3, inner=2, recurrence=3, eta=0.0, reference_steps=0),
    ),
    (
        "tfg",
        TFG.create(
            steps=9, rho_schedule="decrease", mu_schedule="constant", eta=0.4, reference_steps=0
        ),
    ),
    ("freedom", FreeDoM.create(steps=7, recurrence=2, reference_steps=0)),
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
            "reference_steps": 0,
        },
        MPGD: {
            "rho": 0.0,
            "mu": 1.0,
            "mu_schedule": "constant",
            "sigma": 0.0,
            "inner": 1,
            "reference_steps": 0,
        },
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


@pytest.mark.parametrize(("eta", "integrator"), [(0.0, "ode"), (1.0, "ancestral-narrow")])
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
    assert sum(Guided.of(problem, TFG.create(steps=80).params).rho) == pytest.approx(20)
    for steps in (10, 80):
        params = TFG.create(steps=steps, rho=2.0, reference_steps=100).params
        assert sum(Guided.of(problem, params).rho) == pytest.approx(200)
        params = TFG.create(steps=steps, rho=2.0, reference_steps=0).params
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
