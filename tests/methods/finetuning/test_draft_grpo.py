"""Draft-k and Flow-GRPO: truncated gradients, and the policy's densities as the paper has them."""

import math

import numpy as np
import torch

from bench.api import Linear
from bench.core.metering import Meter
from bench.core.trainable import metered_clone
from methods.finetuning import draft, grpo
from rewards.quadratic import LinearReward
from tests.worlds import small_fits
from tests.worlds.small_fits import DOUBLE, fit_problem

# A fixture: pytest looks for it in this module.
gmm = small_fits.gmm


# -- draft-k and flow-grpo ------------------------------------------------------------------------


def test_draft_differentiates_the_last_steps_only(gmm):
    """All steps: the gradient of the mean reward through the whole sampler; fewer: not."""
    x0, grid = torch.randn(16, 2), [0.0, 0.25, 0.5, 0.75, 1.0]
    gradients = {}
    for last in (1, 4):
        model = metered_clone(gmm.trainable_flow(), Meter())
        draft.truncated(model, x0, grid, last)[:, 0].sum().backward()
        gradients[last] = model.get_parameter("net.leave.1.bias").grad
    flow = gmm.trainable_flow()
    epsilon, bias, ends = 1e-2, flow.net.leave[1].bias, []
    for sign in (1, -1):
        with torch.no_grad():
            bias[0] = sign * epsilon
        ends.append(float(draft.truncated(flow, x0, grid, 1)[:, 0].detach().sum()))
    slope = (ends[0] - ends[1]) / (2 * epsilon)
    assert math.isclose(slope, float(gradients[4][0]), rel_tol=0.02)
    assert not math.isclose(slope, float(gradients[1][0]), rel_tol=0.02)


def test_random_truncation_is_known_beforehand():
    params = draft.DraftParams(last=8, fit_steps=50, truncation="random")
    drawn = draft.truncations(params, 2000)
    assert drawn[:100] == draft.truncations(params, 100)
    assert min(drawn) >= 1 and max(drawn) <= 50
    assert math.isclose(np.mean(drawn), 8, rel_tol=0.05) and 4 < np.std(drawn) < 6


TIMES = torch.tensor([0.2, 0.5, 0.8], dtype=DOUBLE)


def test_grpo_transition_is_the_paper_s_in_noise_time():
    """With s = 1 - t: mean x (1 + sigma^2/(2s) ds) + v (1 + sigma^2 (1-s)/(2s)) ds, v reversed."""
    a, ds, s = 0.7, -0.1, 1 - TIMES
    x, v = torch.randn(3, 4, dtype=DOUBLE), torch.randn(3, 4, dtype=DOUBLE)
    found = grpo.transition(Linear(), v, x, TIMES, TIMES - ds, a)
    variance = a**2 * s / (1 - s)
    first = (1 + variance / (2 * s) * ds)[:, None] * x
    mean = first + (1 + variance * (1 - s) / (2 * s))[:, None] * -v * ds
    assert torch.allclose(found.mean, mean)
    assert torch.allclose(found.deviation, (variance * -ds).sqrt())
    start = grpo.transition(Linear(), v, x, 0 * TIMES, TIMES, a)
    assert torch.isfinite(start.mean).all() and torch.isfinite(start.deviation).all()


def test_grpo_log_probabilities_are_averaged_over_dimensions():
    """mean = sum / d, for densities and divergences; the sum is the true one."""
    mean, there = torch.randn(2, 3, 2, 2, dtype=DOUBLE).unbind(0)
    step = grpo.Transition(mean, TIMES)
    truth = torch.distributions.Normal(mean.flatten(1), TIMES[:, None])
    log_p = truth.log_prob(there.flatten(1)).sum(1)
    assert torch.allclose(grpo.log_density(there, step, grpo.REDUCTIONS["sum"]), log_p)
    assert torch.allclose(grpo.log_density(there, step, grpo.REDUCTIONS["mean"]), log_p / 4)
    other = grpo.Transition(there, TIMES)
    away = torch.distributions.Normal(there.flatten(1), TIMES[:, None])
    kl = torch.distributions.kl_divergence(truth, away).sum(1)
    assert torch.allclose(grpo.divergence(step, other, grpo.REDUCTIONS["sum"]), kl)
    assert torch.allclose(grpo.divergence(step, other, grpo.REDUCTIONS["mean"]), kl / 4)
    assert grpo.GRPOParams().log_prob == "mean"


def test_grpo_advantages_know_neither_strength_nor_offset():
    r = torch.randn(24, dtype=DOUBLE) * 5
    for spread in ("group", "batch"):
        one = grpo.advantages(r, 6, grpo.SPREADS[spread])
        assert torch.allclose(one, grpo.advantages(30 * r + 7, 6, grpo.SPREADS[spread]), atol=1e-3)
        assert one.reshape(4, 6).mean(1).abs().max() < 1e-9
    within = grpo.advantages(r, 6, grpo.SPREADS["group"]).reshape(4, 6).std(1)
    assert torch.allclose(within, torch.ones(4, dtype=DOUBLE), atol=1e-3)


def test_grpo_clips_only_what_would_go_further():
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    objective = grpo.clipped_objective(ratio, advantage, 0.2)
    assert torch.allclose(objective, torch.tensor([1.2, 0.5, -1.5, -0.8]))
    (gradient,) = torch.autograd.grad(objective.sum(), ratio)
    assert gradient.tolist() == [0.0, 1.0, -1.0, 0.0]


def test_grpo_starts_with_the_policy_gradient(gmm):
    """At the old policy the gradient is that of -mean A log pi, and the KL to the base is zero."""
    method = grpo.FlowGRPO.create(batch=12, group=6, fit_steps=4)
    problem = fit_problem(gmm, LinearReward.create())
    model = problem.trainable_flow()
    seen = method._experience(problem, model, 0)
    losses = method._losses(model, Linear(), seen)
    bias = model.get_parameter("net.leave.1.bias")
    (own,) = torch.autograd.grad(losses["policy"], bias)
    now = grpo.transition(Linear(), model.velocity(seen.x, seen.t), *seen[:3], 0.7)
    plain = -(seen.advantage * grpo.log_density(seen.there, now, grpo.REDUCTIONS["mean"])).mean()
    assert torch.allclose(own, torch.autograd.grad(plain, bias)[0], rtol=1e-3, atol=1e-6)
    assert float(losses["kl"].detach()) < 1e-10
