"""Tilted denoisers from draws at the context itself and at a shifted one.

Half of the draws X_i come from p(x1 | x_t = x), half, X_i', from the posterior of the context that
a quadratic tilt e^s shifts it to (`bench.core.shifted`), with the same noise.  Either half is an
estimate of D^r - D,

    sum_i softmax(r)_i X_i - mean_i X_i        sum_i softmax(r' - s')_i X_i' - mean_i X_i

the second without variance in its weights where the reward is its expansion, and nearly without
any, since the noise cancels.  A context takes the second where the expansion holds over its plain
draws: where r - s varies over them much less than r.  (The effective size of the shifted weights
cannot say so: draws of a proposal that misses the tilted law do not know what they miss.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.paths import expand
from bench.core.posterior import softmax_ess
from bench.core.problem import Problem
from bench.core.protocols import Noise, PosteriorSampler
from bench.core.shifted import Tilt
from bench.core.values import ProblemSpec
from bench.core.work import Work
from bench.loops.scoring import reward_work, rewards_of

HOLDS = 0.1
"""An expansion holds where it leaves less than this share of the rewards' deviation.

At 0.5 a rank-one likelihood passes for isotropic now and then: 7.6 floors in the plane, not 2.6.
"""

GRADIENTS = 2
"""Rewards that are differentiated for a tilt."""


def slope_of(reward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """grad r(x), shape of x."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        # Not the leaf itself: a network that is fed a leaf cannot be audited by the FLOP counter.
        (gradient,) = torch.autograd.grad(reward(x * 1).sum(), x)
    return gradient


def local_tilt(problem: Problem, point: Tensor, t: Tensor, noise: Noise) -> Tilt:
    """The quadratic that meets r at the denoiser: its gradient there, and its mean curvature.

    kappa is minus the curvature along one random direction, over the posterior's deviation for data
    of unit variance; a positive curvature is taken for none.
    """
    i = problem.interpolant
    z = noise("curvature", problem.event_shape)
    step = (i.alpha(t) / (i.alpha(t) ** 2 + i.beta(t) ** 2).sqrt()).clamp(min=1e-3)
    here = slope_of(problem.reward, point)
    there = slope_of(problem.reward, point + expand(step, point) * z)
    along = ((there - here) * z).flatten(1).sum(1) / (step * z.flatten(1).square().sum(1))
    kappa = (-along).clamp(min=0)
    return Tilt(here + expand(kappa, point) * point, kappa)


@dataclass(frozen=True)
class PooledShift:
    """D^r - D (batch, *event), and the effective size of the weights that were taken (batch,)."""

    shift: Tensor
    ess: Tensor


def mean_under(log_weight: Tensor, x1: Tensor) -> Tensor:
    """Self-normalised mean of x1 (n, batch, *event) under log weights (n, batch)."""
    return (expand(log_weight.softmax(0).to(x1), x1) * x1).sum(0)


def holds(r: Tensor, s: Tensor) -> Tensor:
    """Whether the expansion s explains the rewards r (n, batch) of plain draws, (batch,)."""
    return (r - s).std(0) < HOLDS * r.std(0)


def shifted_pool(
    problem: Problem,
    sampler: PosteriorSampler,
    point: Tensor,
    x: Tensor,
    t: Tensor,
    n: int,
    noise: Noise,
) -> PooledShift:
    """D^r - D at (x, t) with D = `point`, from n draws, half of them shifted."""
    tilt = local_tilt(problem, point, t, noise)
    here = sampler.draw(x, t, n - n // 2, noise)
    there = sampler.draw(*tilt.context(problem.interpolant, x, t), n // 2, noise)
    r, r_there = (
        rewards_of(problem, torch.cat([here, there])).double().split([len(here), len(there)])
    )
    residual = r_there - tilt.log(there).double()
    plain = mean_under(r, here) - here.mean(0)
    shifted = mean_under(residual, there) - here[: len(there)].mean(0)
    taken = holds(r, tilt.log(here).double())
    ess = torch.where(taken, softmax_ess(residual), softmax_ess(r))
    return PooledShift(torch.where(expand(taken, plain), shifted, plain), ess)


def tilt_work(spec: ProblemSpec) -> Work:
    """Rows of a local tilt, per context."""
    return reward_work(spec, GRADIENTS, gradient=True)
