"""Candidates of a search: their noise, what each of them promises, and the best of them.

Candidate 0 of every output meets the noise that all methods share, so that a search among one is
the base sampler; the others have streams of their own, so that outputs never share a candidate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.core.contracts import Need
from bench.core.estimators import log_mean_exp
from bench.core.integrate import euler, filled, integrate, uniform_grid
from bench.core.posterior import Remembered
from bench.core.problem import Problem
from bench.core.protocols import Noise
from bench.core.values import ProblemSpec
from bench.core.work import Work, forward
from bench.loops.posteriors import POINTS, Kind, PosteriorChoice
from bench.loops.steering import reward_work

Look = Literal[Kind, "ode"]
"""A posterior sampler, or the end of the base ODE."""


def first_shared(problem: Problem, name: str, others: str, step: int, count: int) -> Tensor:
    """Normals (rows, count, *event_shape): candidate 0 from the common stream `name`."""
    first = problem.noise(name, step, problem.event_shape)
    more = problem.noise(others, step, (count - 1, *problem.event_shape))
    return torch.cat([first[:, None], more], dim=1)


def chosen(x: Tensor, index: Tensor) -> Tensor:
    """x (rows, count, ...) at index (rows, any)."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def best(x: Tensor, reward: Tensor) -> Tensor:
    """The candidate of highest reward: x (rows, count, ...), reward (rows, count)."""
    return chosen(x, reward.argmax(1, keepdim=True))[:, 0]


@dataclass(frozen=True)
class LookAhead:
    """The value of an unfinished sample: the log-mean-exp reward of where it may end.

    kind: a posterior sampler (tweedie is the point D_t(x), jump the map's X_{t,1}(x)) or "ode",
    the rest of the base ODE in `inner_steps` Euler steps, of which one is the Tweedie point.
    Biased as a value wherever the end is not known: a point takes r at one end for log E e^r.
    """

    kind: Look
    draws: int = 1
    inner_steps: int = 1

    @property
    def posterior(self) -> PosteriorChoice | None:
        """The posterior sampler, unless the look-ahead is the ODE."""
        return None if self.kind == "ode" else PosteriorChoice(self.kind, self.inner_steps)

    @property
    def ends(self) -> int:
        """Ends seen per candidate."""
        return 1 if self.kind in (*POINTS, "ode") else self.draws

    @property
    def sees_velocity(self) -> bool:
        """Whether the velocity at (x, t) is evaluated on the way: a step from x then has it."""
        return self.posterior is None or self.posterior.differentiates_flow

    @property
    def needs(self) -> frozenset[Need]:
        """What the problem must offer."""
        return frozenset(self.posterior.needs(gradient=False) if self.posterior else ())

    def work(self, spec: ProblemSpec) -> Work:
        """Rows per candidate: the velocity at (x, t) if it is seen, the ends, their rewards."""
        seen = forward("flow") if self.sees_velocity else Work()
        path = forward("flow", self.inner_steps - 1)
        if self.posterior is not None:
            path = self.posterior.work(self.ends, gradient=False)
        return seen + path + reward_work(spec, self.ends)

    def __call__(
        self, problem: Problem, x: Tensor, t: float, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """Values (batch,) of x (batch, *event_shape), and the velocity at (x, t) if it was seen."""
        time, flow = filled(t, x), Remembered(problem.flow)
        b = flow.velocity(x, time) if self.sees_velocity else None
        if self.posterior is not None:
            x1 = self.posterior.build(problem, flow).draw(x, time, self.ends, noise)
        else:
            assert b is not None
            grid = uniform_grid(self.inner_steps, t)
            first = x + (grid[1] - t) * b
            x1 = integrate(euler(problem.flow.velocity), first, grid[1:])[None]
        r = problem.reward(x1.flatten(0, 1)).reshape(x1.shape[:2])
        return log_mean_exp(r), b
