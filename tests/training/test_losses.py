"""Objectives of training and figures of validation, where the map is known."""

import pytest
import torch
from torch import nn

from bench.core import glass
from bench.core.paths import Linear
from bench.metrics import validation
from bench.models.meta_flow_map import MetaFlowMapNet
from bench.models.mixture import paper_mixture
from bench.models.mixture_roles import MixtureFlow, MixturePosterior
from bench.training import losses, weighting
from bench.training.draws import Draw, sample_context_times, sample_inner_times
from tests.worlds.small_training import draw_of, gaussian_map, gaussian_world


def test_the_gaussian_skip_is_the_exact_map_of_a_gaussian():
    """Diagonal = GLASS velocity, semigroup closes, one jump = exact posterior transport."""
    mixture = gaussian_world()
    net, draw = gaussian_map(mixture), draw_of(mixture)
    velocity = glass.posterior_velocity(Linear(), mixture.velocity, draw.x, draw.t)
    expected = velocity(draw.x_bar, draw.s)
    got = net.velocity(draw.x_bar, draw.s, draw.s, draw.x, draw.t)
    assert torch.allclose(got, expected, atol=1e-8)
    prediction, target = losses.semigroup(net, net, draw)
    assert torch.allclose(prediction, target, atol=1e-8)
    n = 20_000
    x = torch.tensor([[0.3, -0.5, 1.0]]).double().expand(n, 3)
    t = torch.full((n,), 0.4).double()
    eps = torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ones, zeros = torch.ones(n).double(), torch.zeros(n).double()
    draws = net.jump(eps, zeros, ones, x, t)
    post = mixture.posterior(x[:1], t[:1])
    assert torch.allclose(draws.mean(0), post.mean[0, 0], atol=0.02)
    assert torch.allclose(torch.cov(draws.T), post.covariance[0, 0], atol=0.02)


OBJECTIVES = {
    "semigroup": lambda teacher: losses.semigroup,
    "diagonal-distilled": losses.diagonal_distilled,
    "eulerian-self": lambda teacher: losses.eulerian(losses.self_velocity),
    "eulerian-teacher": lambda teacher: losses.eulerian(losses.teacher_velocity(teacher)),
    "lagrangian-self": lambda teacher: losses.lagrangian(losses.self_velocity),
    "lagrangian-teacher": lambda teacher: losses.lagrangian(losses.teacher_velocity(teacher)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_vanishes_on_the_exact_map_and_not_elsewhere(name):
    """On a Gaussian world the exact map is known; a perturbed one must pay, with a gradient."""
    mixture = gaussian_world()
    net, draw = gaussian_map(mixture), draw_of(mixture)
    objective = OBJECTIVES[name](mixture.velocity)
    prediction, target = objective(net, net, draw)
    assert torch.allclose(prediction, target, atol=1e-7)
    assert not target.requires_grad
    g = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3, generator=g)
    prediction, target = objective(net, net, draw)
    loss = weighting.adaptively_weighted(prediction, target, power=0.5)
    loss.backward()
    assert float(loss.detach()) > 1e-3
    assert float(net.net.leave[1].weight.grad.abs().sum()) > 0


def test_the_mean_flow_target_is_unbiased_for_the_eulerian_one():
    """Averaged over x1 given (x, x_bar), the single-sample target is the teacher's."""
    mixture = gaussian_world()
    net = gaussian_map(mixture)
    nn.init.normal_(net.net.leave[1].weight, std=0.3, generator=torch.Generator().manual_seed(0))
    n = 100_000
    one = draw_of(mixture, n=1, seed=5)
    star = glass.combine(Linear(), one.x, one.t, one.x_bar, one.s)
    g = torch.Generator().manual_seed(1)
    u, z = torch.rand(n, 1, generator=g).double(), torch.randn(n, 1, 3, generator=g).double()
    x1 = mixture.posterior_draws(star.x, star.t, u, z)[:, 0]
    many = Draw(
        x1,
        one.x.repeat(n, 1),
        one.t.repeat(n),
        (one.x_bar - one.s[:, None] * x1) / (1 - one.s[:, None]),
        one.s.repeat(n),
        one.u.repeat(n),
        one.split.repeat(n),
    )
    _, noisy = losses.eulerian(losses.data_velocity)(net, net, many)
    _, exact = losses.eulerian(losses.teacher_velocity(mixture.velocity))(net, net, one)
    error = noisy.std(0) / n**0.5
    assert ((noisy.mean(0) - exact[0]).abs() < 5 * error + 1e-9).all()


def test_the_skip_fades_with_the_context():
    """At t = 0 the context says nothing; at t = 1 it says everything."""
    net = gaussian_map(gaussian_world())
    g = torch.Generator().manual_seed(0)
    eps, x, other = torch.randn(3, 5, 3, generator=g, dtype=torch.float64)
    zeros, ones = torch.zeros(5).double(), torch.ones(5).double()
    at_zero = net.jump(eps, zeros, ones, x, zeros)
    assert torch.equal(at_zero, net.jump(eps, zeros, ones, other, zeros))
    assert (net.jump(eps, zeros, ones, x, ones) - x).abs().max() < 0.01


@pytest.mark.parametrize("form", ["raw", "gaussian", "diagonal"])
def test_every_parametrisation_is_finite_and_differentiable(form):
    net = MetaFlowMapNet((1, 2, 2), width=8, depth=1, parametrisation=form)
    nn.init.normal_(net.net.leave[1].weight)
    for t in (0.0, 0.5, 1.0):
        for s, u in ((0.0, 1.0), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0)):
            x = torch.randn(3, 1, 2, 2, requires_grad=True)
            times = (torch.full((3,), v) for v in (s, u, t))
            s_, u_, t_ = times
            v = net.velocity(torch.randn(3, 1, 2, 2), s_, u_, x, t_)
            (gradient,) = torch.autograd.grad(v.sum(), x, allow_unused=True)
            assert torch.isfinite(v).all() and torch.isfinite(gradient).all(), (t, s, u)


def test_distilled_and_data_diagonals_have_the_same_minimiser():
    """The data target averages, given context and state, to the distilled one."""
    mixture = paper_mixture()
    n = 200_000
    g = torch.Generator().manual_seed(0)
    x, x_bar = torch.tensor([[-0.4, -0.6]]).double(), torch.tensor([[0.2, -0.3]]).double()
    t, s = torch.tensor([0.3]).double(), torch.tensor([0.4]).double()
    u, z = torch.rand(n, 1, generator=g).double(), torch.randn(n, 1, 2, generator=g).double()
    star = glass.combine(Linear(), x, t, x_bar, s)
    x1 = mixture.posterior_draws(star.x, star.t, u, z)[:, 0]
    target_from_data = (x1 - x_bar) / (1 - s)  # x1 - noise, with noise = (x_bar - s x1)/(1 - s)
    distilled = glass.posterior_velocity(Linear(), mixture.velocity, x, t)(x_bar, s)
    error = target_from_data.std(0) / n**0.5
    assert ((target_from_data.mean(0) - distilled[0]).abs() < 5 * error).all()


def test_context_times_follow_their_law():
    t = sample_context_times(100_000, torch.Generator().manual_seed(0))
    assert abs(float((t == 0).float().mean()) - 0.1) < 0.01
    assert abs(float(t[t > 0].sqrt().mean()) - 0.5) < 0.01
    s, u = sample_inner_times(100_000, torch.Generator().manual_seed(0))
    assert (s <= u).all() and abs(float(((s == 0) & (u == 1)).float().mean()) - 0.25) < 0.01


def test_the_figures_of_an_exact_map_are_those_of_the_exact_posterior():
    """On a Gaussian world the map is known; a map of another world pays, and so does GLASS."""
    double = gaussian_world()
    mixture = double.to(torch.zeros(0))
    data = mixture.sample(4000, torch.Generator().manual_seed(0))

    def law(_):
        flow, exact = MixtureFlow(mixture), MixturePosterior(mixture)
        value = lambda r: lambda x, t: mixture.value(x, t, r)  # noqa: E731
        return validation.ReferenceLaw(data, flow, exact, value)

    validator = validation.Validator(law)
    with torch.no_grad():
        good = validator(gaussian_map(double).float().eval())
        wrong = validator(MetaFlowMapNet((3,), width=8, depth=1).eval())
    for t in validation.VALIDATION_TIMES:
        for figure in ("energy", "value", "joint"):
            # Draws of the map and of the mixture are independent: half as much again is noise.
            floor = 1.5 * abs(good[f"{figure}-{t}-exact"]) + 0.02
            ours = [good[f"{figure}-{t}-map-{k}"] for k in validation.STEPS]
            assert max(ours) - min(ours) < 1e-4  # one jump is as good as four
            assert ours[0] < floor
            assert wrong[f"{figure}-{t}-map-1"] > floor
            assert good[f"{figure}-{t}-glass-4"] > floor
    assert good["frechet-1"] < 0.05 < wrong["frechet-1"]
    assert validator(nn.Linear(1, 1)) == {}


def test_a_map_without_a_flow_is_compared_with_its_own_velocity():
    mixture = gaussian_world()
    inner = validation.BaseVelocity(gaussian_map(mixture))
    draw = draw_of(mixture)
    assert torch.allclose(
        inner.velocity(draw.x, draw.t), mixture.velocity(draw.x, draw.t), atol=1e-8
    )
