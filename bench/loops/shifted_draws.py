"""Tilted denoisers from draws at the context itself and at a shifted one.

Half of the draws X_i come from q_0 = p(x1 | x_t = x), half from q_1, the posterior of the context
that a quadratic tilt e^s shifts it to (`bench.core.shifted`): q_1 = q_0 e^s / c.  Together they are
one multiple-importance pool, under which either law has the weights

    w_i = f_i / (n_0 + n_1 e^(s_i - log c)),   f = e^r for the tilted posterior, 1 for the plain one

with c from the same pool (Shirts and Chodera 2008), so that the weights decide which half counts.
The difference of the two means estimates D^r - D.  Both halves are drawn with the same noise, which
cancels in the difference, and a reward of zero gives exactly zero.
"""

from __future__ import annotations

import math
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

ITERATIONS = 30
"""Of the fixed point for log c; it converges in a few where the halves overlap."""

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


def log_normaliser(s: Tensor, plain: int) -> Tensor:
    """log c (batch,) from tilts s (n, batch) of which the first `plain` belong to q_0."""
    shifted = len(s) - plain
    log_c = s[:plain].logsumexp(0) - math.log(plain)
    for _ in range(ITERATIONS):
        log_c = (s - _log_mixture(s, log_c, plain, shifted)).logsumexp(0)
    return log_c


def _log_mixture(s: Tensor, log_c: Tensor, plain: int, shifted: int) -> Tensor:
    """log (n_0 + n_1 e^(s - log c))."""
    return torch.logaddexp(torch.full_like(s, math.log(plain)), s - log_c + math.log(shifted))


@dataclass(frozen=True)
class PooledShift:
    """D^r - D (batch, *event), and the effective size of the tilted weights (batch,)."""

    shift: Tensor
    ess: Tensor


def pooled_shift(x1: Tensor, reward: Tensor, s: Tensor, plain: int) -> PooledShift:
    """From draws x1 (n, batch, *event) with rewards and tilts (n, batch)."""
    reward, s = reward.double(), s.double()
    mixture = _log_mixture(s, log_normaliser(s, plain), plain, len(s) - plain)
    tilted, untilted = (reward - mixture).softmax(0), (-mixture).softmax(0)
    weight = (tilted - untilted).to(x1)
    return PooledShift((expand(weight, x1) * x1).sum(0), softmax_ess(reward - mixture))


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
    tilt, plain = local_tilt(problem, point, t, noise), n - n // 2
    here = sampler.draw(x, t, plain, noise)
    there = sampler.draw(*tilt.context(problem.interpolant, x, t), n // 2, noise)
    x1 = torch.cat([here, there])
    return pooled_shift(x1, rewards_of(problem, x1), tilt.log(x1), plain)


def tilt_work(spec: ProblemSpec) -> Work:
    """Rows of a local tilt, per context."""
    return reward_work(spec, GRADIENTS, gradient=True)
