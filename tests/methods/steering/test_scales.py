"""The length of a steering term: every normalisation, and what it answers to."""

import math

import pytest
import torch

from bench.core.params import UserError
from bench.core.paths import Linear
from bench.core.scales import DRIFT_SCALES, GRADIENT_SCALES, SCALES, SteeringTerm
from bench.loops.estimation import ESTIMATORS, estimated_term
from bench.loops.posteriors import PosteriorChoice
from methods.steering.dps import DPS
from tests.worlds.one_gaussian import mixture_problem
from tests.worlds.steered_mixtures import COVARIANCE, MEAN, gaussian, states

# -- normalisations -------------------------------------------------------------------------------


def a_term(strength=1.0, time=0.3, n=8):
    """A DPS term of a Gaussian with one observation y = a . x, and the residual (y - a . D) / s."""
    a, y, s = torch.tensor([1.0, -0.5]).double(), 0.6, 0.25
    mixture = gaussian(MEAN, COVARIANCE)
    problem = mixture_problem(mixture, lambda x: -strength * (y - x @ a) ** 2 / (2 * s**2), n)
    x, t = states(n, 2, time)
    x = x * torch.arange(1, n + 1)[:, None]
    own = DPS.create().params, PosteriorChoice("tweedie"), 1, ESTIMATORS["G"]
    term = estimated_term(problem, *own)(x, t, 0)
    x.requires_grad_()
    residual = (y - mixture.denoiser(x, t) @ a) / s
    (of_norm,) = torch.autograd.grad(-residual.abs().sum(), x)
    return term, t, residual.detach(), of_norm


def by(rule, term, t, **constants):
    return SCALES[rule](**constants)(term, Linear(), t)


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
    term, t = SteeringTerm(b, zero, {}, zero, torch.zeros(2)), torch.full((2,), 0.5)
    for rule in DRIFT_SCALES:
        assert torch.equal(by(rule, term, t, guidance=2.0), zero), rule
    for rule in GRADIENT_SCALES:
        assert torch.equal(by(rule, term, t), zero), rule


def test_a_value_above_the_best_is_refused():
    term, t, *_ = a_term()
    with pytest.raises(UserError, match=r"above best = -10000: set best"):
        by("residual", term, t, best=-1e4)
    with pytest.raises(UserError, match="needs an estimate by gradients"):
        by("value", SteeringTerm(term.b, term.g, {}), t)
