"""Adjoint matching: fine-tuning as stochastic optimal control, solved by regression.

x_0 .. x_K = memoryless SDE of the current model                  (no gradient)
a_K = grad r(x_K);  a_k = (d mean_base(x_k) / dx)' a_(k+1)        (the lean adjoint)
b_theta(x_k) -> b(x_k) + (sigma^2/2) a_k  at some of the k
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from bench.api import (
    WIDE,
    FitProblem,
    Flow,
    Interpolant,
    MeteredModule,
    Need,
    ProblemSpec,
    Work,
    ancestral,
    ancestral_moments,
    backward,
    expand,
    filled,
    forward,
    named_param,
    param,
    reward_work,
    safe,
    slope_of,
    uniform,
)
from methods.finetuning.loop import FineTuned, FitParams, Losses


def _control(half: Tensor) -> Tensor:
    """4/sigma^2, as in the control problem, up to one step before the end."""
    return 2 / safe(half)


def _uniform(half: Tensor) -> Tensor:
    """1."""
    return torch.ones_like(half)


WEIGHTINGS: Mapping[str, Callable[[Tensor], Tensor]] = {"control": _control, "uniform": _uniform}
"""Weights of |b_theta - target|^2 from sigma^2/2, both (batch,)."""


@dataclass(frozen=True)
class AdjointParams(FitParams):
    """Rollouts, and the steps at which they are matched."""

    iterations: int = param(400, low=1, high=1_000_000, log=True, help="optimiser steps")
    batch: int = param(64, low=1, high=65536, log=True, help="rollouts per optimiser step")
    fit_steps: int = param(20, low=3, high=1000, log=True, help="SDE steps per rollout")
    matched: int = param(6, low=1, high=1000, help="steps of a rollout that are matched")
    weighting: str = named_param("control", WEIGHTINGS, "of |b_theta - target|^2")

    def __post_init__(self) -> None:
        if self.matched > self.fit_steps - 1:
            raise ValueError("matched must be less than fit_steps: the first step is pure noise")


class Rollout(NamedTuple):
    """States x_0 .. x_K (K + 1, batch, *event_shape) at the times `grid`."""

    states: Tensor
    grid: list[float]


@torch.no_grad()
def rollout(
    flow: Flow, interpolant: Interpolant, x0: Tensor, grid: list[float], z: Tensor
) -> Rollout:
    """The memoryless SDE of a flow by ancestral steps; z is (batch, K, *event_shape)."""
    states = [x0]
    for k, (t, u) in enumerate(pairwise(grid)):
        x, now, then = states[-1], filled(t, x0), filled(u, x0)
        point = interpolant.denoiser(flow.velocity(x, now), x, now)
        states.append(ancestral(interpolant, x, point, now, then, z[:, k], WIDE))
    return Rollout(torch.stack(states), grid)


class Adjoints(NamedTuple):
    """Base velocities and lean adjoints a_k at the states k = 1 .. K-1, (K - 1, batch, ...)."""

    b: Tensor
    a: Tensor


def lean_adjoints(
    flow: Flow, interpolant: Interpolant, path: Rollout, gradient: Tensor
) -> Adjoints:
    """Carry grad r(x_K) back along a path through the base flow's mean step.

    a_k = (d mean / d x_k)' a_(k+1), so that E[a_k | x_k] over paths of the tilted SDE is grad V.
    Arrives at the denoiser in the last step, whose noise is zero.
    """
    steps, a = list(pairwise(path.grid)), gradient
    found: list[tuple[Tensor, Tensor]] = []
    for k in range(len(steps) - 1, 0, -1):
        x = path.states[k].detach().requires_grad_()
        now, then = filled(steps[k][0], x), filled(steps[k][1], x)
        with torch.enable_grad():
            b = flow.velocity(x, now)
            point = interpolant.denoiser(b, x, now)
            mean, _ = ancestral_moments(interpolant, x, point, now, then)
            (a,) = torch.autograd.grad(mean, x, a)
        found.append((b.detach(), a))
    b, a = (torch.stack(parts) for parts in zip(*reversed(found), strict=True))
    return Adjoints(b, a)


def jittered_grid(steps: int, offset: float, first: float = 0.0) -> list[float]:
    """`first`, steps - 1 equal gaps after `offset` of one, 1: over fits, all times occur."""
    inner = ((k + offset) / (steps - 1) for k in range(steps - 1))
    return [first, *(first + (1 - first) * t for t in inner), 1.0]


def strata(u: Tensor, steps: int) -> Tensor:
    """One of 0 .. steps - 1 from each of len(u) equal strata, by uniforms u."""
    m = len(u)
    index = (torch.arange(m, device=u.device) + u) * (steps / m)
    return index.long().clamp(max=steps - 1)


class AdjointMatching(FineTuned):
    """Adjoint matching: regress on the lean adjoint along rollouts of the current model.

    Domingo-Enrich et al. 2024 (arXiv 2409.08861): memoryless SDE, da/dt = -grad_x(base drift)' a,
    loss |(2/sigma)(b_theta - b) - sigma a|^2 on a few steps of each rollout, with sigma no smaller
    than one step before the end.  The KL term of the
    control problem is in it: the fixed point is the tilted velocity, up to the K steps of the SDE.
    Assumes a differentiable reward; the jacobians of sharp rewards make it noisy.
    Fit per rollout, m matched steps: K + (K - 1) + m flow forwards, (K - 1) + m backwards, one
    reward forward and backward.  Cost per sample: K flow rows of the sampler.
    """

    version = "3"
    summary = "fine-tunes by regression on the lean adjoint along its own rollouts"
    Params = AdjointParams

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | {Need.REWARD_GRADIENT}

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        p = self.params
        both = forward("flow") + backward("flow")
        each = forward("flow", p.fit_steps) + both * (p.fit_steps - 1 + p.matched)
        work: Work = (each + reward_work(spec, 1, True)) * float(iterations * p.batch)
        return work

    def losses(self, problem: FitProblem) -> Losses:
        p, base, whole = self.params, problem.rows_of(self.params.batch), problem.problem
        i, first = base.interpolant, base.grid(p.fit_steps)[0]

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            offset = uniform(whole.noise("fit-grid", k, (), range(1)))
            grid = jittered_grid(p.fit_steps, float(offset), first)
            z = base.noise("fit-step", k, (p.fit_steps, *base.event_shape))
            x0 = base.started(base.noise("fit-x0", k, base.event_shape), grid)
            path = rollout(model, i, x0, grid, z)
            adjoints = lean_adjoints(base.flow, i, path, slope_of(base.reward, path.states[-1]))
            u = uniform(whole.noise("fit-match", k, (p.matched,), range(1)))[0]
            return {"match": self._loss(model, i, path, adjoints, strata(u, p.fit_steps - 1))}

        return step

    def _loss(
        self, model: MeteredModule, i: Interpolant, path: Rollout, adjoints: Adjoints, at: Tensor
    ) -> Tensor:
        x = path.states[1:-1][at].flatten(0, 1)
        times = torch.tensor(path.grid[1:-1], dtype=x.dtype, device=x.device)[at]
        t = times.repeat_interleave(path.states.shape[1])
        half = i.half_variance(t)
        target = adjoints.b[at].flatten(0, 1) + expand(half, x) * adjoints.a[at].flatten(0, 1)
        gap = (model.velocity(x, t) - target).flatten(1).square().sum(-1)
        # nearer to the end than a step 4/sigma^2 has no bound, and a row would be all of the loss
        last = i.half_variance(torch.full_like(t, 1 - 1 / (self.params.fit_steps - 1)))
        return (WEIGHTINGS[self.params.weighting](half.maximum(last)) * gap).mean()
