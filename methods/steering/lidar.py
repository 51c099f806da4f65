"""LiDAR: steering in closed form by a pool of finished look-ahead samples.

X_i ~ base model in a few steps, r_i = r(X_i)                       once per output
w_i = softmax_i log N(x; beta_t X_i, alpha_t^2 I)                   (the posterior on the pool)
w^r_i = softmax_i (log N + r_i)                                     (the tilted one)
D^r_t(x) - D_t(x) ~ sum_i (w^r_i - w_i) X_i
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.api import (
    Interpolant,
    Method,
    Need,
    Problem,
    ProblemSpec,
    Role,
    Samples,
    SteeringParams,
    SteeringTerm,
    Step,
    UserError,
    Work,
    forward,
    integrate,
    named_param,
    ode_step,
    param,
    reward_work,
    row_blocks,
    safe,
    steer,
)

# -- the pool -------------------------------------------------------------------------------------


def _flow_step(problem: Problem) -> Step:
    return ode_step(problem.flow.velocity, "euler")


def _map_step(problem: Problem) -> Step:
    assert problem.flow_map is not None
    return problem.flow_map.jump


@dataclass(frozen=True)
class LookAheadSampler:
    """What finishes a look-ahead sample; role: whose rows its steps are."""

    summary: str
    step: Callable[[Problem], Step]
    role: Role
    needs: frozenset[Need] = frozenset()

    def rows(self, spec: ProblemSpec, steps: int) -> float:
        """Its calls, as a prediction counts them."""
        return spec.calls(spec.grid(steps)[:-1]) if self.role == "flow" else float(steps)


LOOK_AHEADS: Mapping[str, LookAheadSampler] = {
    "flow": LookAheadSampler("Euler steps of the flow", _flow_step, "flow"),
    "map": LookAheadSampler("jumps of the flow map", _map_step, "map", frozenset({Need.FLOW_MAP})),
}


class Pool(NamedTuple):
    """Finished samples x1 (groups, size, *event_shape) and their rewards r (groups, size)."""

    x1: Tensor
    r: Tensor


class PoolShift(NamedTuple):
    """D^r - D on a pool (batch, *event_shape), and the effective sizes of w and of w^r (batch,)."""

    shift: Tensor
    ess: Tensor
    tilted_ess: Tensor


def pool_shift(pool: Pool, interpolant: Interpolant, x: Tensor, t: Tensor) -> PoolShift:
    """sum_i (w^r_i - w_i) X_i at (x, t), with consecutive rows of x in equal shares per group.

    Tends to D^r_t(x) - D_t(x) as the pool grows: error O(1/sqrt(size)), bias O(1/size).
    """
    groups, x1 = len(pool.x1), pool.x1.flatten(2)
    alpha, beta = (part(t).reshape(groups, -1, 1) for part in (interpolant.alpha, interpolant.beta))
    # |x/beta - X|^2 without the matrix product, which cancels where alpha is small.
    at = x.flatten(1).reshape(groups, -1, x1.shape[-1]) / safe(beta)
    apart = torch.cdist(at, x1, compute_mode="donot_use_mm_for_euclid_dist")
    log_kernel = -0.5 * (apart * beta / safe(alpha)).square()
    plain, tilted = log_kernel.softmax(-1), (log_kernel + pool.r[:, None]).softmax(-1)
    shift = torch.einsum("gbs,gsd->gbd", tilted - plain, x1).reshape(x.shape)
    return PoolShift(shift, *(1 / w.square().sum(-1).flatten() for w in (plain, tilted)))


# -- the method -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LiDARParams(SteeringParams):
    """The pool: how many samples, how finished, and how many outputs share one."""

    pool: int = param(3, low=1, high=100_000, log=True, help="look-ahead samples P per output")
    pool_steps: int = param(3, low=1, high=1000, log=True, help="steps M per look-ahead sample")
    look_ahead: str = named_param("flow", LOOK_AHEADS)
    shared: int = param(
        1, low=1, high=100_000, tunable=False, help="consecutive outputs that join their pools"
    )


class LiDAR(Method[LiDARParams]):
    """LiDAR: steer in closed form towards the rewarded samples of a pool made beforehand.

    Kim et al. 2026 (arXiv 2602.03211): the value at (x, t) is an average over marginal samples,
    V = log sum_i N(x; beta X_i, alpha^2 I) e^r(X_i) - log sum_i N(x; beta X_i, alpha^2 I), and so
    is its gradient; no reward gradient and no evaluation beyond b.  The paper's setting is P = 3
    samples of M = 3 steps.  Assumes that the pool meets the tilted law.  Tends to the tilted law as
    pool, M and steps grow; with finite P error O(1/sqrt(P)), and where the kernel holds a single
    sample (t near 1, and from early on in high dimension: `pool_ess` = 1) it steers no more; with
    few steps M the pool is not the base model's.  `shared` > 1 joins the pools of that many
    outputs, whole groups at a time, which then depend on one another.
    Cost per sample: P (M + 1) for the pool, K flow rows; the averages, of order P d a step (and
    `shared` times that), are in no row.
    """

    summary = "steers in closed form by a pool of finished samples and their rewards"
    Params = LiDARParams
    effort = ("pool", "steps")

    @property
    def look_ahead(self) -> LookAheadSampler:
        """What finishes the samples of the pool."""
        return LOOK_AHEADS[self.params.look_ahead]

    @property
    def needs(self) -> frozenset[Need]:
        return self.look_ahead.needs

    def least(self, name: str) -> int:
        # The two averages of a single sample are the same: it does not steer.
        return 2 if name == "pool" and self.params.shared == 1 else 1

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        made = self.look_ahead.rows(spec, p.pool_steps)
        pooled = forward(self.look_ahead.role, made) + reward_work(spec, 1)
        own = spec.calls(spec.grid(p.steps, p.start)[:-1])
        return pooled * float(p.pool) + forward("flow", own)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        groups, size = self._groups(problem.rows), self.params.shared
        parts = []
        for some in row_blocks(groups, size * size * self.params.pool):
            part = problem.for_rows(range(some.start * size, some.stop * size))
            parts.append(self._steered(part, len(some)))
        return Samples.joined(parts)

    def _groups(self, rows: range) -> range:
        """Global indices of the groups of outputs that share a pool."""
        size = self.params.shared
        if len(rows) % size or rows.start % size:
            raise UserError(
                f"outputs share pools in whole groups: n and the batch size must be multiples of "
                f"shared = {size}"
            )
        return range(rows.start // size, rows.stop // size)

    def _steered(self, problem: Problem, groups: int) -> Samples:
        pool, i = self._pool(problem, groups), problem.interpolant

        def term(x: Tensor, t: Tensor, _: int) -> SteeringTerm:
            b, found = problem.flow.velocity(x, t), pool_shift(pool, i, x, t)
            info = {"pool_ess": found.ess.mean(), "draw_ess": found.tilted_ess.mean()}
            return SteeringTerm(b, i.tilt(found.shift, t), info)

        made = steer(problem, self.params, term)
        if self.params.shared == 1:
            return made
        group = torch.arange(groups, device=made.x.device).repeat_interleave(self.params.shared)
        return Samples(made.x, group=group, info=made.info)

    def _pool(self, problem: Problem, groups: int) -> Pool:
        """Every output's own look-ahead samples, joined within its group."""
        p, shape = self.params, problem.event_shape
        x0 = problem.noise("pool", 0, (p.pool, *shape)).flatten(0, 1)
        grid = problem.grid(p.pool_steps)
        x1 = integrate(self.look_ahead.step(problem), problem.started(x0, grid), grid)
        joined = x1.reshape(groups, -1, *shape)
        return Pool(joined, problem.reward(x1).reshape(joined.shape[:2]))
