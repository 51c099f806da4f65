"""Search over paths: noise a sample back, follow the ODE a little farther, keep the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    LookAheadSearch,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    candidate_noise,
    candidates_at,
    euler,
    expand,
    filled,
    forward,
    integrate,
    look_ahead_param,
    param,
    particle_noise,
    require_finite,
    reward_work,
    sampled_in_blocks,
)

EARLIEST = 0.01
"""The earliest time that a path is noised back to."""


@dataclass(frozen=True)
class SoPParams:
    """The times of the release: back by 0.78 and forth by 0.81, from 0.88, four steps a leg.

    They are shares of its variance preserving schedule, and here of the flow's own time.
    """

    candidates: int = param(4, low=1, high=100_000, log=True, help="branches N of every path")
    paths: int = param(2, low=1, high=100_000, log=True, help="paths M that are kept")
    steps: int = param(4, low=1, high=1000, log=True, help="ODE steps S of a leg")
    first: float = param(0.88, low=0.02, high=1.0, help="time of the first paths")
    back: float = param(0.78, low=0.0, high=0.98, help="time by which a branch is noised back")
    forth: float = param(0.81, low=0.01, high=1.0, help="time that it is then carried on")
    lookahead: str = look_ahead_param("tweedie")
    draws: int = param(1, low=1, high=4096, log=True, help="draws per look; a point is one")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one draw or path")

    def __post_init__(self) -> None:
        if self.forth <= self.back:
            raise ValueError(f"forth > back is needed, not {self.forth} and {self.back}")


class SoP(LookAheadSearch):
    """Search over paths: M paths branch by fresh noise and run on by the ODE; the best M go on.

    Ma et al. 2025 (arXiv 2501.09732) and arXiv 2503.19385: from the ODE's states at time `first`,
    every path is noised back N times (the forward kernel, so that the law of x_s is kept) and every
    branch is carried on to a later time than before; the M of highest reward at their look-ahead
    are kept, of the last round the best.  Assumes nothing of the reward.  Biased towards high
    reward; N = M = 1 is the base model up to its Euler steps.
    Cost per sample, J rounds: M S (1 + N J) flow + (J - 1) M N (look-ahead + reward) + M N reward.
    """

    summary = "paths that branch by noise and run on by the ODE, of which the best are kept"
    standing = "baseline"
    Params = SoPParams
    effort = ("candidates", "paths", "steps")

    def legs(self, earliest: float = EARLIEST) -> list[tuple[float, float]]:
        """(s, u) of every round: noised back to s, carried on to u; the last u is 1."""
        p, t = self.params, float(self.params.first)
        rounds = max(1, math.ceil((1 - t) / (p.forth - p.back) - 1e-9))
        legs = []
        for j in range(rounds):
            s = max(t - p.back, earliest)
            t = 1.0 if j == rounds - 1 else min(t + p.forth - p.back, 1.0)
            legs.append((s, t))
        return legs

    def work(self, spec: ProblemSpec) -> Work:
        p, first = self.params, self._first(spec)
        legs, branches = self.legs(max(EARLIEST, first[0])), p.paths * p.candidates
        looks = self.look.work(spec, [u for _, u in legs[:-1]]) * float(branches)
        carried = sum(spec.calls(spec.remaining(s, p.steps, u)[:-1]) for s, u in legs)
        flow = p.paths * spec.calls(first[:-1]) + branches * carried
        return forward("flow", flow) + looks + reward_work(spec, branches)

    def _first(self, source: Problem | ProblemSpec) -> list[float]:
        """The times from noise to the first paths."""
        return source.grid(self.params.steps, end=self.params.first)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        p = self.params
        return sampled_in_blocks(problem, p.paths * p.candidates * self.look.ends, self._best)

    def _best(self, problem: Problem) -> Tensor:
        """One output per row, (rows, *event_shape)."""
        p, grid = self.params, self._first(problem)
        legs = self.legs(max(EARLIEST, grid[0]))
        x = problem.started(candidate_noise(problem, "x0", "paths", 0, p.paths), grid)
        x, t = self._carried(problem, x, grid), p.first
        for k, (s, u) in enumerate(legs):
            branches = self._branched(problem, x, t, s, k)
            x = self._carried(problem, branches, problem.remaining(s, p.steps, u))
            x = require_finite(x, "branches", k)
            values = self._values(problem, x, u, k)
            left = 1 if k == len(legs) - 1 else p.paths
            x, t = candidates_at(x, values.topk(left, dim=1).indices), u
            problem.log(k, reward=float(values.mean()))
        return x[:, 0]

    def _carried(self, problem: Problem, x: Tensor, grid: Sequence[float]) -> Tensor:
        """x (rows, any, ...) over a grid by the ODE."""
        return integrate(euler(problem.flow.velocity), x.flatten(0, 1), grid).reshape(x.shape)

    def _branched(self, problem: Problem, x: Tensor, t: float, s: float, k: int) -> Tensor:
        """N branches at s of every path at t, (rows, M N, ...)."""
        many = x.repeat_interleave(self.params.candidates, dim=1)
        flat, z = many.flatten(0, 1), candidate_noise(problem, "step", "branch", k, many.shape[1])
        rho, missing = problem.interpolant.noising(filled(t, flat), filled(s, flat))
        return (expand(rho, flat) * flat + expand(missing, flat) * z.flatten(0, 1)).reshape(z.shape)

    def _values(self, problem: Problem, x: Tensor, u: float, k: int) -> Tensor:
        """What the branches promise, (rows, M N); at time 1 their reward."""
        flat = x.flatten(0, 1)
        if u == 1.0:
            return problem.reward(flat).reshape(x.shape[:2])
        found, _ = self.look(problem, flat, u, particle_noise(problem, k, x.shape[1]))
        return found.reshape(x.shape[:2])
