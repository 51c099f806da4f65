"""Best-of-N that gives up on candidates along the way: breadth-first search with pruning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from bench.api import (
    INTEGRATORS,
    LookAheadSearch,
    Need,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    best_candidate,
    candidate_noise,
    candidates_at,
    filled,
    forward,
    look_ahead_param,
    named_param,
    param,
    particle_noise,
    reward_work,
    sampled_in_blocks,
    steered_step,
)


@dataclass(frozen=True)
class PrunedParams:
    """The release takes M = 8, 100 stochastic steps and looks at steps 25, 50 and 75."""

    candidates: int = param(8, low=1, high=1_000_000, log=True, help="candidates M at the start")
    steps: int = param(20, low=1, least=10, high=1000, log=True, help="time steps K")
    looks: int = param(3, low=0, high=1000, help="prunings before the last choice, evenly")
    keep: float = param(0.5, low=0.0, high=1.0, help="fraction that survives a pruning")
    integrator: str = named_param("ode", INTEGRATORS)
    lookahead: str = look_ahead_param("tweedie")
    draws: int = param(1, low=1, high=4096, log=True, help="draws per look; a point is one")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one draw or path")


class PrunedBestOfN(LookAheadSearch):
    """Best-of-N with early pruning: at a few times only the more promising fraction goes on.

    Breadth-first search of arXiv 2505.23614 (BFS-pruning): M candidates of the base sampler, ranked
    by the reward of their look-ahead, by default the Tweedie point.  There the number of survivors
    follows from the scores (round(M softmax)_m > 0); here a declared fraction survives, so that the
    work is known beforehand.  Assumes that the look-ahead orders candidates as their ends will be
    ordered: then it is Best-of-M for less (exact for one Gaussian and a monotone reward in 1-D),
    else some winners are lost early.  Biased towards high reward as best-of-n is.
    Cost per sample: sum_k m_k flow + sum_looks m_k (look-ahead + reward) + m_K reward forwards, m_k
    candidates being at hand at step k and a single one needing no last score; the Tweedie point
    shares its flow row with the step.
    """

    version = "2"
    summary = "Best-of-N that drops the less promising candidates along the way"
    best_of = "candidates"
    Params = PrunedParams
    effort = ("candidates", "steps")

    @property
    def needs(self) -> frozenset[Need]:
        prunes = any(left < m for m, left in pairwise(self.counts()))
        return self.look.needs if prunes else frozenset()

    def counts(self) -> list[int]:
        """m_0 .. m_K: candidates at hand when step k begins, then those of the last choice.

        Entry k + 1 is what step k leaves; a step prunes if that is fewer than entry k.
        """
        p = self.params
        looks = min(p.looks, p.steps - 1)
        due = {p.steps * j // (looks + 1) for j in range(1, looks + 1)}
        counts = [p.candidates]
        for k in range(p.steps):
            m = counts[-1]
            counts.append(max(1, math.ceil(p.keep * m)) if k in due else m)
        return counts

    def work(self, spec: ProblemSpec) -> Work:
        total, look, times = Work(), self.look, spec.grid(self.params.steps)[:-1]
        for t, (m, left) in zip(times, pairwise(self.counts()), strict=True):
            seen = look.work(spec, [t]) * float(m) if left < m else Work()
            shared = left < m and look.sees_velocity
            total = total + seen + forward("flow", 0.0 if shared else left * spec.calls([t]))
        return total + (reward_work(spec, left) if left > 1 else Work())

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        width = self.params.candidates * self.look.ends
        return sampled_in_blocks(problem, width, self._survivor)

    def _survivor(self, problem: Problem) -> Tensor:
        """One output per row: (rows, *event_shape)."""
        p, counts = self.params, self.counts()
        grid = problem.grid(p.steps)
        x = problem.started(candidate_noise(problem, "x0", "candidates", 0, counts[0]), grid)
        step = steered_step(p.integrator, problem.interpolant)
        for k, (t, u) in enumerate(pairwise(grid)):
            x, b = self._pruned(problem, x, t, k, counts[k + 1])
            flat, shape = x.flatten(0, 1), x.shape
            if b is None:
                b = problem.flow.velocity(flat, filled(t, flat))
            z = torch.zeros_like(x)
            if step.noisy:
                z = candidate_noise(problem, "step", "candidate-step", k, shape[1])
            times = filled(t, flat), filled(u, flat)
            x = step(flat, b, torch.zeros_like(b), *times, z.flatten(0, 1)).reshape(shape)
        if x.shape[1] == 1:
            return x[:, 0]
        return best_candidate(x, problem.reward(x.flatten(0, 1)).reshape(x.shape[:2]))

    def _pruned(
        self, problem: Problem, x: Tensor, t: float, k: int, left: int
    ) -> tuple[Tensor, Tensor | None]:
        """The `left` most promising of x (rows, m, ...), in their order, with their velocities."""
        rows, m = x.shape[:2]
        if left == m:
            return x, None
        values, b = self.look(problem, x.flatten(0, 1), t, particle_noise(problem, k, m))
        index = values.reshape(rows, m).topk(left, dim=1).indices.sort(dim=1).values
        problem.log(k, candidates=left)
        kept = None if b is None else candidates_at(b.reshape(x.shape), index).flatten(0, 1)
        return candidates_at(x, index), kept
