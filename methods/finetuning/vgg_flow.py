"""VGG-Flow: fine-tuning as deterministic optimal control, by a learned gradient of its value.

maximise r(x_1) - (lambda/2) int |v - b|^2 dt along x' = v_t(x):   v = b + g / lambda, g = grad V
along such a path dg/dt = -J_b' g, g_1 = grad r                    (gradient of the HJB equation)
g_phi = eta_t grad_x r(D_t(x)) + nu_phi                            (a guess, and what it lacks)

x_0 .. x_K = Euler steps of the current flow                       (no gradient)
g_phi(x_k) -> g(x_(k+1)) + dt J_b(x_k)' g(x_(k+1));   nu_phi(x_K, 1) -> 0
v_theta(x_k) -> b(x_k) + g(x_k) / lambda
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.api import (
    FitProblem,
    Flow,
    MeteredModule,
    Need,
    Problem,
    ProblemSpec,
    Work,
    backward,
    euler,
    expand,
    filled,
    forward,
    named_param,
    param,
    reward_work,
    uniform,
    uniform_grid,
)
from methods.finetuning.adjoint import strata
from methods.finetuning.loop import FineTuned, FitParams, Losses


def _square(t: Tensor) -> Tensor:
    """t^2."""
    return t**2


def _one(t: Tensor) -> Tensor:
    """1."""
    return torch.ones_like(t)


ETAS: Mapping[str, Callable[[Tensor], Tensor]] = {"square": _square, "one": _one}
"""How much of the reward's gradient at D_t(x) the guess takes, (batch,); 1 at t = 1."""


@dataclass(frozen=True)
class VGGParams(FitParams):
    """Rollouts, the steps at which they are matched, and the price of leaving the base flow."""

    iterations: int = param(400, low=1, high=1_000_000, log=True, help="optimiser steps")
    batch: int = param(64, low=1, high=65536, log=True, help="rollouts per optimiser step")
    fit_steps: int = param(20, low=2, high=1000, log=True, help="ODE steps per rollout")
    matched: int = param(6, low=1, high=1000, help="steps of a rollout that are matched")
    cost: float = param(1.0, low=1e-6, high=1e6, log=True, help="lambda, factor of |v - b|^2 / 2")
    eta: str = named_param("square", ETAS, "share of the reward's gradient at D_t(x)")
    boundary: float = param(1.0, low=0.0, high=1e6, help="weight of |nu|^2 at t = 1")

    def __post_init__(self) -> None:
        if self.matched > self.fit_steps:
            raise ValueError("matched must be at most fit_steps")


class FlowAndValue(nn.Module):
    """The flow that is fitted, and a copy of it whose distance to the base flow is nu."""

    def __init__(self, flow: MeteredModule, value: MeteredModule) -> None:
        super().__init__()
        self.flow, self.value = flow, value


class BaseAnswer(NamedTuple):
    """The base flow at points: b, the points x it is differentiable in, and grad_x r(D_t(x))."""

    b: Tensor
    x: Tensor
    slope: Tensor


def base_answer(problem: Problem, x: Tensor, t: Tensor) -> BaseAnswer:
    """b_t(x) with its graph, and the reward's gradient through the one-step prediction D_t(x)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        b = problem.flow.velocity(x, t)
        r = problem.reward(problem.interpolant.denoiser(b, x, t))
        (slope,) = torch.autograd.grad(r.sum(), x, retain_graph=True)
    return BaseAnswer(b, x, slope)


def carried_back(base: BaseAnswer, g: Tensor, dt: float) -> Tensor:
    """g + dt J_b(x)' g: the gradient at x of a value that has the gradient g a step later."""
    (pulled,) = torch.autograd.grad(base.b, base.x, g)
    return g + dt * pulled


@torch.no_grad()
def rollout(flow: Flow, x: Tensor, grid: Sequence[float]) -> Tensor:
    """Euler states x_0 .. x_K of a flow, (K + 1, batch, *event_shape)."""
    states, step = [x], euler(flow.velocity)
    for t, u in pairwise(grid):
        states.append(step(states[-1], filled(t, x), filled(u, x)))
    return torch.stack(states)


class VGGFlow(FineTuned):
    """VGG-Flow: match the flow's change to a learned gradient of the control problem's value.

    Liu et al. 2025 (arXiv 2512.05116): v - b = grad V / lambda, V of the *deterministic* problem,
    whose gradient a second network learns from the HJB equation's residual (here along rollouts, by
    finite differences, towards a fixed target) and from grad r at the one-step prediction of the
    base flow.  Assumes a differentiable reward.  Biased: for a Gaussian of deviation s and a linear
    reward of slope a the mean moves by pi s a / (2 lambda), where the tilt moves it by s^2 a: no
    lambda suits directions of different s.
    Fit per rollout, m matched steps: K + 5 m + 2 flow forwards, 5 m + 1 backwards, 2 m reward
    forwards and backwards.  Cost per sample: K flow rows of the sampler.
    """

    summary = "fine-tunes towards a learned gradient of a deterministic control problem's value"
    caveat = (
        "it puts a deterministic control problem in the place of the tilted law, and so moves a "
        "Gaussian of deviation s by π s a / (2 λ) for a reward of slope a, where the law asks for "
        "s² a"
    )
    Params = VGGParams

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | {Need.REWARD_GRADIENT}

    def network(self, problem: FitProblem) -> FlowAndValue:
        rank = self.params.rank
        return FlowAndValue(problem.trainable_flow(rank), problem.trainable_flow(rank))

    def flow_of(self, network: nn.Module) -> nn.Module:
        flow: nn.Module = network.get_submodule("flow")
        return flow

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        p = self.params
        flow = forward("flow", p.fit_steps + 5 * p.matched + 2)
        each = flow + backward("flow", 5 * p.matched + 1) + reward_work(spec, 2 * p.matched, True)
        work: Work = each * float(iterations * p.batch)
        return work

    def losses(self, problem: FitProblem) -> Losses:
        p, base, whole = self.params, problem.rows_of(self.params.batch), problem.problem
        # Equal steps, as the control problem has them, from the flow's first time.
        grid = uniform_grid(p.fit_steps, base.grid(p.fit_steps)[0])

        def step(networks: FlowAndValue, k: int) -> Mapping[str, Tensor]:
            x0 = base.noise("fit-x0", k, base.event_shape)
            states = rollout(networks.flow, base.started(x0, grid), grid)
            u = uniform(whole.noise("fit-match", k, (p.matched,), range(1)))[0]
            at = strata(u, p.fit_steps)
            return {
                **self._matched(networks, base, states, at, grid[0]),
                **self._ends(networks, base, states),
            }

        return step

    def _matched(
        self, networks: FlowAndValue, base: Problem, states: Tensor, at: Tensor, first: float
    ) -> Mapping[str, Tensor]:
        """Consistency of g between steps k and k + 1, and the flow's change at k."""
        p, rows, dt = self.params, states.shape[1], (1 - first) / self.params.fit_steps
        x, ahead = states[at].flatten(0, 1), states[at + 1].flatten(0, 1)
        t = (first + at * dt).to(x).repeat_interleave(rows)
        here, there = base_answer(base, x, t), base_answer(base, ahead, t + dt)
        g = self._value_gradient(networks, here, x, t)
        with torch.no_grad():
            later = self._value_gradient(networks, there, ahead, t + dt)
        target = here.b.detach() + g.detach() / p.cost
        return {
            "consistency": _distance(g, carried_back(here, later, dt)),
            "match": _distance(networks.flow.velocity(x, t), target),
        }

    def _ends(self, networks: FlowAndValue, base: Problem, states: Tensor) -> Mapping[str, Tensor]:
        """|nu|^2 at the samples, where g is grad r."""
        x, t = states[-1], filled(1.0, states[-1])
        with torch.no_grad():
            b = base.flow.velocity(x, t)
        return {"boundary": self.params.boundary * _distance(networks.value.velocity(x, t), b)}

    def _value_gradient(
        self, networks: FlowAndValue, base: BaseAnswer, x: Tensor, t: Tensor
    ) -> Tensor:
        """g_phi = eta_t grad_x r(D_t(x)) + nu_phi."""
        guess = expand(ETAS[self.params.eta](t), x) * base.slope
        return guess + networks.value.velocity(x, t) - base.b.detach()


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """Mean over the batch of |one - other|^2."""
    return (one - other).flatten(1).square().sum(1).mean()
