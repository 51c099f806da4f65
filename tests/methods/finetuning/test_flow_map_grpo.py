"""Flow-Map GRPO: jumps that keep the flow's marginals, and the policy gradient of their law."""

import math

import pytest
import torch

from bench.api import Linear
from bench.models.mixture_roles import MixtureFlow
from methods.finetuning import grpo
from methods.finetuning.flow_map_grpo import FlowMapGRPO
from rewards.quadratic import LinearReward
from tests.worlds import small_fits
from tests.worlds.gaussian_quadrature import DOUBLE, MEAN, VARIANCE, gaussian_world
from tests.worlds.small_fits import fit_problem

# A fixture: pytest looks for it in this module.
gmm = small_fits.gmm


def normals(n, seed):
    return torch.randn(n, 1, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def jumped(method, flow, x, t, u, seed=3):
    """x_u from x at t, by the policy."""
    times = (torch.full((len(x),), time, dtype=DOUBLE) for time in (t, u))
    law = method.transition(flow, Linear(), x, *times)
    return law.mean + law.deviation[:, None] * normals(len(x), seed)


@pytest.mark.parametrize(("t", "u"), [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75)])
@pytest.mark.parametrize("anchor", [1.0, 0.4])
def test_a_jump_keeps_the_marginals_of_the_flow(t, u, anchor):
    """x_t ~ p_t gives x_u ~ p_u, in mean and variance, up to four standard errors of 100,000."""
    mixture, _, _ = gaussian_world()
    n, method = 100_000, FlowMapGRPO.create(inner_steps=100, anchor=anchor)
    x1 = MEAN + math.sqrt(VARIANCE) * normals(n, 1)
    x = jumped(method, MixtureFlow(mixture), (1 - t) * normals(n, 2) + t * x1, t, u)
    variance = (1 - u) ** 2 + u**2 * VARIANCE
    assert abs(float(x.mean()) - u * MEAN) < 4 * math.sqrt(variance / n) + 0.002
    assert abs(float(x.var()) / variance - 1) < 4 * math.sqrt(2 / n) + 0.01


def test_one_inner_step_is_no_map():
    """It lands on the denoiser: at t = 0 on the mean of the data, and the variance is lost."""
    mixture, _, _ = gaussian_world()
    method = FlowMapGRPO.create(inner_steps=1)
    x = jumped(method, MixtureFlow(mixture), normals(50_000, 2), 0.0, 0.5)
    assert abs(float(x.var()) - 0.25) < 0.01
    assert 0.25 + 0.25 * VARIANCE > 0.42


def test_a_jump_to_the_data_is_noised_with_all_of_alpha():
    method, t = FlowMapGRPO.create(jumps=4), torch.tensor([0.0, 0.25])
    flow = MixtureFlow(gaussian_world()[0])
    law = method.transition(flow, Linear(), torch.zeros(2, 1), t, t + 0.25)
    assert torch.allclose(law.deviation, 1 - (t + 0.25))
    near = FlowMapGRPO.create(jumps=4, anchor=0.1).transition(
        flow, Linear(), torch.zeros(2, 1), t, t + 0.25
    )
    assert bool((near.deviation < law.deviation).all())


class Shifted:
    """The flow with theta added to its velocity."""

    def __init__(self, flow, theta):
        self.flow, self.theta, self.interpolant = flow, theta, flow.interpolant

    def velocity(self, x, t, condition=None):
        return self.flow.velocity(x, t) + self.theta


def test_the_policy_gradient_is_the_derivative_of_the_mean_reward():
    """J = 2: E[(r - mean) d log pi / d theta] against d E[r] / d theta at fixed noise, exactly.

    The last jump stays that of the old policy: it has no density, and no gradient of its own.
    """
    mixture, _, _ = gaussian_world()
    base, n = MixtureFlow(mixture), 200_000
    method = FlowMapGRPO.create(jumps=2, inner_steps=3)
    x0, z = normals(n, 1), normals(n, 2)
    t, u = torch.zeros(n, dtype=DOUBLE), torch.full((n,), 0.5, dtype=DOUBLE)
    theta = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    law = method.transition(Shifted(base, theta), Linear(), x0, t, u)
    there = (law.mean + law.deviation[:, None] * z).detach()
    r = method.finished(base, there, 0.5)[:, 0]
    log_pi = grpo.log_density(there, law, grpo.REDUCTIONS["sum"])
    each = (r - r.mean()) * (there - law.mean.detach())[:, 0] / law.deviation**2
    (policy,) = torch.autograd.grad(((r - r.mean()) * log_pi).mean(), theta)
    (slope,) = torch.autograd.grad(
        method.finished(
            base, method.transition(Shifted(base, theta), Linear(), x0, t, u).mean + 0.5 * z, 0.5
        ).mean(),
        theta,
    )
    # d mean / d theta is a constant: three Euler steps of an affine flow.
    error = float(each.std()) / math.sqrt(n) * float(policy / each.mean())
    assert float(slope) > 0.1
    assert abs(float(policy - slope)) < 4 * abs(error)


def test_the_rollout_ends_on_the_data_and_starts_without_a_divergence(gmm):
    method = FlowMapGRPO.create(batch=12, group=6, jumps=3)
    problem = fit_problem(gmm, LinearReward.create())
    model = problem.trainable_flow()
    seen = method._experience(problem, model, 0)
    assert seen.x.shape == (24, 2), "two stochastic jumps of three"
    assert sorted(set(seen.u.tolist())) == pytest.approx([1 / 3, 2 / 3])
    losses = method._losses(model, Linear(), seen)
    assert float(losses["kl"].detach()) < 1e-10
    assert abs(float(losses["policy"].detach())) < 1e-5
