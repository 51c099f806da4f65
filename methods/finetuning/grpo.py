"""Flow-GRPO: policy gradients on the transitions of an SDE sampler.

x_0 .. x_K ~ pi_old, the SDE of the current model           every `updates` optimiser steps
A = (r - mean of the group) / std of the group
maximise  min(rho A, clip(rho, 1 - eps, 1 + eps) A) - beta KL(pi_theta, pi_base),
          rho = exp(log pi_theta - log pi_old)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from bench.api import (
    FitProblem,
    Flow,
    Interpolant,
    MeteredModule,
    Problem,
    ProblemSpec,
    Work,
    backward,
    expand,
    filled,
    forward,
    named_param,
    param,
    reward_work,
)
from methods.finetuning.loop import FineTuned, FitParams, Losses

# -- choices --------------------------------------------------------------------------------------

Reduction = Callable[[Tensor], Tensor]
"""(batch, ...) -> (batch,)."""


def _mean(x: Tensor) -> Tensor:
    """Their mean, as released."""
    return x.flatten(1).mean(1)


def _sum(x: Tensor) -> Tensor:
    """Their sum, which is the log-density."""
    return x.flatten(1).sum(1)


REDUCTIONS: Mapping[str, Reduction] = {"mean": _mean, "sum": _sum}

Spread = Callable[[Tensor], Tensor]
"""Rewards (groups, size) -> the deviation that an advantage is divided by."""


def _of_group(rewards: Tensor) -> Tensor:
    """Within the group."""
    return rewards.std(1, keepdim=True)


def _of_batch(rewards: Tensor) -> Tensor:
    """Over the batch."""
    return rewards.flatten().std()


SPREADS: Mapping[str, Spread] = {"group": _of_group, "batch": _of_batch}


@dataclass(frozen=True)
class GroupParams(FitParams):
    """Rollouts, and the groups in which their rewards are compared."""

    iterations: int = param(200, low=1, high=1_000_000, log=True, help="optimiser steps")
    batch: int = param(240, low=2, high=65536, log=True, help="samples per rollout")
    learning_rate: float = param(1e-3, low=1e-6, high=0.1, log=True, help="peak, Adam")
    group: int = param(24, low=2, high=65536, log=True, help="samples compared with one another")
    spread: str = named_param("group", SPREADS, "std of the advantage")
    updates: int = param(2, low=1, high=100, help="optimiser steps per rollout")

    def __post_init__(self) -> None:
        if self.batch % self.group:
            raise ValueError("batch must be a multiple of group")


@dataclass(frozen=True)
class PolicyParams(GroupParams):
    """The trust region and the pull to the base model."""

    epsilon: float = param(1e-4, low=1e-8, high=1.0, log=True, help="clip of the ratio")
    beta: float = param(0.04, low=0.0, high=100.0, help="factor of the KL to the base model")
    log_prob: str = named_param("mean", REDUCTIONS, "over dimensions", tunable=False)


@dataclass(frozen=True)
class GRPOParams(PolicyParams):
    """The SDE that is the policy."""

    fit_steps: int = param(10, low=2, high=1000, log=True, help="SDE steps per training sample")
    noise: float = param(0.7, low=0.01, high=2.0, help="a in sigma_t = a sqrt((1 - t)/t)")


class Transition(NamedTuple):
    """N(mean, deviation^2 I) of one SDE step; deviation is (batch,)."""

    mean: Tensor
    deviation: Tensor


def transition(
    interpolant: Interpolant, v: Tensor, x: Tensor, t: Tensor, u: Tensor, noise: float
) -> Transition:
    """One Euler-Maruyama step of dX = (v + sigma^2/2 score) dt + sigma dB, sigma^2 = a^2 (1-t)/t.

    Written with the memoryless variance, of which this is a^2/2; in the first step, where it is
    infinite, it is taken at the end of the step.
    """
    dt, early = u - t, torch.where(t == 0, u, t)
    half = 0.5 * noise**2 * interpolant.half_variance(early)
    score = interpolant.score(interpolant.denoiser(v, x, t), x, t)
    mean = x + expand(dt, x) * (v + expand(half, x) * score)
    return Transition(mean, (2 * half * dt).sqrt())


def log_density(there: Tensor, step: Transition, reduction: Reduction) -> Tensor:
    """log N(there; mean, deviation^2 I), (batch,), reduced over the dimensions."""
    z = (there - step.mean) / expand(step.deviation, there)
    norm = expand(step.deviation.log(), there) + 0.5 * math.log(2 * math.pi)
    return reduction(-0.5 * z.square() - norm)


def divergence(one: Transition, other: Transition, reduction: Reduction) -> Tensor:
    """KL of two transitions of the same deviation: |difference of means|^2 / (2 deviation^2)."""
    z = (one.mean - other.mean) / expand(one.deviation, one.mean)
    return reduction(0.5 * z.square())


def advantages(rewards: Tensor, group: int, spread: Spread) -> Tensor:
    """(r - mean of the group) / std, (batch,); consecutive rows form a group."""
    grouped = rewards.reshape(-1, group)
    centred = grouped - grouped.mean(1, keepdim=True)
    return (centred / (spread(grouped) + 1e-4)).flatten()


def own_advantages(problem: FitProblem, rewards: Tensor, params: GroupParams) -> Tensor:
    """The advantages of this worker's rows, in groups and a batch that all workers fill."""
    every = advantages(problem.joined(rewards), params.group, SPREADS[params.spread])
    return problem.own_part(every)


def clipped_objective(ratio: Tensor, advantage: Tensor, epsilon: float) -> Tensor:
    """min(rho A, clip(rho, 1 - eps, 1 + eps) A)."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


class Experience(NamedTuple):
    """Transitions of a rollout, step-major: (K * batch, ...), with what they were worth."""

    x: Tensor
    t: Tensor
    u: Tensor
    there: Tensor
    log_prob: Tensor
    base: Transition
    advantage: Tensor


class FlowGRPO(FineTuned):
    """Flow-GRPO: PPO on an SDE sampler with advantages relative to a group; no reward gradient.

    Liu et al. 2025 (arXiv 2505.05470): sigma_t = a sqrt((1 - t)/t), log-probabilities averaged over
    dimensions, KL of the means.  Biased: advantages are standardised, so neither the strength of
    the reward nor its scale matters, and beta alone says how far it goes; it is no sampler of the
    tilted law.  One group is drawn for one condition.
    Fit per sample, E updates per rollout: K flow and one reward forward for the rollout, K base
    forwards, E K flow forwards and backwards.  Cost per sample: K flow rows of the sampler.
    """

    summary = "fine-tunes by policy gradients with rewards relative to a group"
    Params: ClassVar[type[Any]] = GRPOParams

    @property
    def cycle(self) -> int:
        return int(self.params.updates)

    # What another sampler replaces: its stochastic steps, and how it ends.

    def grid(self, problem: Problem) -> list[float]:
        """Times between which the rollout is stochastic."""
        return problem.grid(self.params.fit_steps)

    @property
    def transitions(self) -> int:
        """How many stochastic steps these are."""
        return int(self.params.fit_steps)

    @property
    def rows(self) -> int:
        """Flow rows per transition."""
        return 1

    @property
    def last_rows(self) -> int:
        """Flow rows from the last time of the grid to the sample."""
        return 0

    def transition(
        self, flow: Flow, interpolant: Interpolant, x: Tensor, t: Tensor, u: Tensor
    ) -> Transition:
        """The policy's law of x_u given x_t = x."""
        return transition(interpolant, flow.velocity(x, t), x, t, u, self.params.noise)

    def finished(self, flow: Flow, x: Tensor, t: float) -> Tensor:
        """The sample, from the state at the last time t of the grid."""
        return x

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        p, path = self.params, self.transitions * self.rows
        rollouts = -(-iterations // p.updates)
        drawn = forward("flow", 2 * path + self.last_rows) + reward_work(spec, 1)
        updated = (forward("flow") + backward("flow")) * float(path * iterations)
        return (drawn * float(rollouts) + updated) * float(p.batch)

    def losses(self, problem: FitProblem) -> Losses:
        p, seen = self.params, list[Experience]()

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            if k % p.updates == 0:
                seen[:] = [self._experience(problem, model, k // p.updates)]
            return self._losses(model, problem.problem.interpolant, seen[0])

        return step

    @torch.no_grad()
    def _experience(self, problem: FitProblem, model: Flow, rollout: int) -> Experience:
        p, base = self.params, problem.rows_of(self.params.batch)
        grid = self.grid(base)
        x, steps = base.noise("fit-x0", rollout, base.event_shape), list(pairwise(grid))
        x = base.started(x, grid)
        z = base.noise("fit-step", rollout, (len(steps), *base.event_shape))
        parts = []
        for k, (now, then) in enumerate(steps):
            t, u = filled(now, x), filled(then, x)
            own = self.transition(model, base.interpolant, x, t, u)
            there = own.mean + expand(own.deviation, x) * z[:, k]
            of_base = self.transition(base.flow, base.interpolant, x, t, u)
            log_prob = log_density(there, own, REDUCTIONS[p.log_prob])
            parts.append((x, t, u, there, log_prob, *of_base))
            x = there
        reward = base.reward(self.finished(model, x, grid[-1]))
        gain = own_advantages(problem, reward, p).repeat(len(steps))
        xs, ts, us, theres, log_probs, means, deviations = map(torch.cat, zip(*parts, strict=True))
        of_base = Transition(means, deviations)
        return Experience(xs, ts, us, theres, log_probs, of_base, gain)

    def _losses(
        self, model: MeteredModule, interpolant: Interpolant, seen: Experience
    ) -> Mapping[str, Tensor]:
        p, (x, t, u) = self.params, seen[:3]
        reduction = REDUCTIONS[p.log_prob]
        now = self.transition(model, interpolant, x, t, u)
        ratio = (log_density(seen.there, now, reduction) - seen.log_prob).exp()
        policy = -clipped_objective(ratio, seen.advantage, p.epsilon).mean()
        return {"policy": policy, "kl": p.beta * divergence(now, seen.base, reduction).mean()}
