"""Fine-tuning by regression on off-policy points: what MFM-FT and implicit tilt matching share.

Both draw (t, x) from data and pull b_theta to the tilted velocity b + (sigma^2/2) grad V with an
estimate that is linear in rho = e^r(x1), x1 ~ p(x1 | x_t = x), and so unbiased with a single draw.
In the estimate rho may be divided by any positive function of (t, x): the fixed point stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.api import (
    FitProblem,
    Interpolant,
    Problem,
    ProblemSpec,
    Work,
    backward,
    expand,
    filled,
    forward,
    log_mean_exp,
    named_param,
    param,
    reward_work,
    uniform,
)
from methods.finetuning.loop import FineTuned, FitParams

PILOT = 1024
"""Data points whose mean e^r scales rho, and to whose rewards a quadratic is fitted."""


def pull(b_theta: Tensor, residual: Tensor) -> Tensor:
    """Mean of |b_theta - target|^2 over the batch, target = b_theta - residual held fixed."""
    target = (b_theta - residual).detach()
    return (b_theta - target).flatten(1).square().sum(-1).mean()


class Point(NamedTuple):
    """Training points: x_t = alpha_t x0 + beta_t x1, one time per row."""

    x0: Tensor
    x1: Tensor
    x: Tensor
    t: Tensor


def noised_point(problem: Problem, x1: Tensor, step: int, start: float, n: int) -> Point:
    """x1 noised to stratified times in [start, 1], with the noise of the problem's rows, of n."""
    x0, u = problem.noise("fit-x0", step, problem.event_shape), problem.noise("fit-t", step, ())
    strata = torch.arange(problem.rows.start, problem.rows.stop, device=x0.device, dtype=x0.dtype)
    t = start + (1 - start) * (strata + uniform(u)) / n
    x1 = x1.to(x0)
    return Point(x0, x1, problem.interpolant.noised(x1, x0, t), t)


def training_point(problem: FitProblem, batch: int, step: int, start: float) -> Point:
    """Data noised to stratified times in [start, 1]."""
    return noised_point(problem.rows_of(batch), problem.own_data(batch, step), step, start, batch)


def pair_velocity(interpolant: Interpolant, point: Point) -> Tensor:
    """u = d/dt x_t of the pair (x0, x1), with E[u | x_t = x] = b_t(x)."""
    t, x = point.t, point.x
    return (
        expand(interpolant.d_alpha(t), x) * point.x0 + expand(interpolant.d_beta(t), x) * point.x1
    )


# -- what divides rho -----------------------------------------------------------------------------

LogScale = Callable[[Tensor], Tensor]
"""D_t(x) -> log s(t, x), (batch,): rho is divided by s."""


@dataclass(frozen=True)
class RhoScale:
    """s(t, x); log: (log Z, problem, D) -> log s.  rewards: rows of the reward per point."""

    summary: str
    log: Callable[[float, Problem, Tensor], Tensor]
    rewards: int


def _log_constant(log_z: float, _: Problem, point: Tensor) -> Tensor:
    return filled(log_z, point)


def _log_point(log_z: float, problem: Problem, point: Tensor) -> Tensor:
    return filled(log_z, point).logaddexp(problem.reward(point))


RHO_SCALES: Mapping[str, RhoScale] = {
    "constant": RhoScale("Z", _log_constant, rewards=0),
    "point": RhoScale("Z + e^r(D)", _log_point, rewards=1),
}
"""The constant Z of a pilot, or Z + e^r(D_t(x)): a guess of e^V_t(x) that never falls below Z.

With the second, rho / s is close to 1 where the tilted law lives, and never above rho / Z.
"""


class Pilot(NamedTuple):
    """Data and their rewards, (PILOT, *event) and (PILOT,)."""

    x1: Tensor
    reward: Tensor


@torch.no_grad()
def pilot_of(problem: FitProblem, step: int) -> Pilot:
    """The data of `step`; workers share the rewards."""
    x1 = problem.data(PILOT, step).to(problem.problem.device)
    return Pilot(x1, problem.joined(problem.problem.reward(problem.own_part(x1))))


def log_scale(problem: FitProblem, scale: RhoScale, pilot: Pilot) -> LogScale:
    """log s, with Z from a pilot."""
    log_z = float(log_mean_exp(pilot.reward))

    @torch.no_grad()
    def log_s(point: Tensor) -> Tensor:
        return scale.log(log_z, problem.problem, point)

    return log_s


# -- the methods ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RegressionParams(FitParams):
    """What both have."""

    scaling: str = named_param("point", RHO_SCALES, "what divides e^r")
    start: float = param(0.01, low=0.0, high=0.5, help="least time of training points")


class Regression(FineTuned):
    """Regression on points of the data; subclasses give the loss of a step."""

    reads_data = True

    @property
    def rho_scale(self) -> RhoScale:
        """What divides rho."""
        return RHO_SCALES[self.params.scaling]

    def setup_work(self, spec: ProblemSpec) -> Work:
        return reward_work(spec, PILOT) + forward("flow", spec.data_calls)

    def one_step(self, spec: ProblemSpec) -> Work:
        """Rows per point: base and trained velocity, and the scale's reward."""
        shared = 2 * forward("flow") + backward("flow")
        return shared + reward_work(spec, self.rho_scale.rewards)

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        return self.one_step(spec) * float(iterations * self.params.batch)
