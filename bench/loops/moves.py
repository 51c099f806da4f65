"""Moves that leave the tilted law where it is: noise a sample to t, draw it again, keep one.

With pi(x1, x_t) = p(x1) e^r(x1) N(x_t; beta_t x1, alpha_t^2 I) / Z, whose x1 follows the tilted
law, a round is

    x_t | x1         the current sample, noised
    x1 | x_t         proportional to p(x1 | x_t) e^r(x1): draws X_1..m of q(. | x_t) beside the
                     current sample, one of the m + 1 kept in proportion to p(. | x_t) e^r / q

q = p(. | x_t) weighs by e^r; a shifted context (`bench.core.shifted`) by e^(r - c.x1 + kappa
|x1|^2 / 2).  Either keeps pi for every m >= 1 and every t that is chosen without looking at x1
(iterated importance resampling: Andrieu, Lee and Vihola 2018), so that a finite number of rounds
is biased by mixing alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.integrate import filled
from bench.core.posterior import Remembered
from bench.core.problem import Problem
from bench.core.shifted import Tilt
from bench.core.work import Work, forward
from bench.loops.particles import particle_noise, require_finite, uniforms
from bench.loops.posteriors import PosteriorChoice
from bench.loops.resampling import at_quantiles
from bench.loops.scoring import rewards_of

GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, modulo 1, spread evenly however many there are."""


def golden_times(rounds: int, low: float, high: float) -> list[float]:
    """Times in [low, high], large and small moves in turn."""
    return [low + (high - low) * ((0.5 + k * GOLDEN) % 1) for k in range(rounds)]


@dataclass(frozen=True)
class Members:
    """Current samples x1 (populations, size, *event) and their rewards (populations, size)."""

    x: Tensor
    reward: Tensor

    def chosen(self, index: Tensor) -> Members:
        """The members at index (populations, any)."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return Members(self.x[rows, index], self.reward[rows, index])


@dataclass(frozen=True)
class Redraw:
    """One round: m draws of `posterior` at time t."""

    posterior: PosteriorChoice
    draws: int

    def work(self) -> Work:
        """Rows per member and round, rewards apart; samplers of the flow see its velocity first."""
        seen = forward("flow") if self.posterior.differentiates_flow else Work()
        return seen + self.posterior.work(self.draws, gradient=False)

    def __call__(
        self, problem: Problem, now: Members, k: int, time: float, tilt: Tilt
    ) -> tuple[Members, float]:
        """The members after round k, and the share of them that moved.

        tilt: of the proposal, for (populations * size) rows; of zeros, it is the posterior.
        """
        x1, size = now.x.flatten(0, 1), now.x.shape[1]
        noise, t = particle_noise(problem, k, size), filled(time, x1)
        x_t = problem.interpolant.noised(x1, noise("renoise", problem.event_shape), t)
        context = tilt.context(problem.interpolant, x_t, t)
        sampler = self.posterior.build(problem, Remembered(problem.flow))
        drawn = require_finite(sampler.draw(*context, self.draws, noise), "draws", k)
        every = torch.cat([x1[None], drawn])
        reward = torch.cat([now.reward.flatten()[None], rewards_of(problem, drawn).double()])
        log_weight = reward - tilt.log(every).double()
        u = uniforms(problem, "keep", k, size).flatten()[:, None]
        index = at_quantiles(log_weight.T.contiguous(), u)[:, 0]
        rows = torch.arange(len(x1), device=x1.device)
        kept = every[index, rows].reshape(now.x.shape)
        moved = float((index > 0).double().mean())
        return Members(kept, reward[index, rows].reshape(now.reward.shape)), moved
