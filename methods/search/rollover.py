"""Rollover budget forcing: a step ends when it has found something better than all before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bench.api import (
    TRANSITIONS,
    Growth,
    Method,
    Need,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    best_candidate,
    candidate_noise,
    candidates_at,
    expand,
    filled,
    forward,
    param,
    require_finite,
    reward_work,
    rows_taken,
    sampled_in_blocks,
    start_param,
    transition_param,
)


@dataclass(frozen=True)
class RBFParams:
    """The release: 10 steps, 25 noises to begin with, and 500 evaluations, which is a quota of 53.

    It runs on the variance preserving interpolant with a diffusion three times as strong; here
    the steps are those of every particle method.
    """

    quota: int = param(12, low=1, high=100_000, log=True, help="candidates Q that a step brings")
    initial: int = param(25, low=1, high=100_000, log=True, help="noises of which the best starts")
    steps: int = param(10, low=1, least=5, high=2000, log=True, help="time steps K")
    start: float = start_param()
    variance: str = transition_param()


@dataclass(frozen=True)
class Places:
    """Where every row stands: x, its denoiser and the reward of that, (rows, ...)."""

    x: Tensor
    denoised: Tensor
    reward: Tensor


class RBF(Method[RBFParams]):
    """Rollover budget forcing: draw the next step until it is better than all before, at most Q.

    Kim et al. 2025 (arXiv 2503.19385), Algorithm 1: from the best of a few noises; candidates of
    the next step of the base SDE are drawn one by one and judged by r(D_u); the first that beats
    every reward so far is taken at once, and what its quota has left rolls over to the next step;
    if none does, the best of the quota is taken.  The last step spends the rest, and the best of
    its D_u, whose reward is known, is returned.  So a row's path is its own and its cost is not.
    Needs no gradient.  Biased towards high reward: not the tilted law; Q = 1 is the base sampler.
    Cost per sample: initial + Q (K - 1) flow and as many reward forwards.
    """

    summary = "draws every step until it beats all before, and hands the unused quota on"
    standing = "baseline"
    Params = RBFParams
    effort: ClassVar[tuple[str, ...]] = ("quota", "initial", "steps")
    split: ClassVar[Mapping[str, Growth]] = {
        "quota": Growth(53, 1),
        "initial": Growth(25, 1),
        "steps": Growth(10, 0),
    }

    @property
    def needs(self) -> frozenset[Need]:
        return TRANSITIONS[self.params.variance].needs

    @property
    def ticks(self) -> int:
        """Candidates per row."""
        return int(self.params.quota * (self.params.steps - 1))

    def work(self, spec: ProblemSpec) -> Work:
        look = forward("flow") + reward_work(spec, 1)
        moves = TRANSITIONS[self.params.variance].work() * float(self.ticks)
        return look * float(self.params.initial + self.ticks) + moves

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        return sampled_in_blocks(problem, self.params.initial, self._found)

    def _found(self, problem: Problem) -> Tensor:
        """The best last denoiser of every row, (rows, *event_shape)."""
        p = self.params
        # The last time but one is where the returned denoiser is.
        times = problem.grid(p.steps, p.start)
        now = self._founded(problem, times)
        grid = torch.tensor(times, device=now.x.device, dtype=now.x.dtype)
        best = replace(now, reward=torch.full_like(now.reward, -torch.inf))
        top, k = now.reward, torch.zeros_like(now.reward, dtype=torch.long)
        left = torch.full_like(k, p.quota)
        for tick in range(self.ticks):
            drawn = self._candidate(problem, now, grid[k], grid[k + 1], tick)
            best = rows_taken(drawn.reward > best.reward, drawn, best)
            better, left = drawn.reward > top, left - 1
            top = torch.maximum(top, drawn.reward)
            # What beats all rewards so far is the best of its step as well.
            goes = (better | (left == 0)) & (k < p.steps - 2)
            now, k = rows_taken(goes, best, now), k + goes.long()
            left = left + p.quota * goes.long()
            best = replace(best, reward=best.reward.masked_fill(goes, -torch.inf))
            problem.log(tick, reward=float(top.mean()), at=float(k.double().mean()))
        return best.denoised

    def _founded(self, problem: Problem, grid: Sequence[float]) -> Places:
        """The best of the initial noises, judged as every later state is."""
        x = candidate_noise(problem, "x0", "candidates", 0, self.params.initial)
        x = problem.started(x, grid)
        flat = x.flatten(0, 1)
        seen = looked_at(problem, flat, filled(grid[0], flat))
        reward = seen.reward.reshape(x.shape[:2])
        index = reward.argmax(1, keepdim=True)
        point = candidates_at(seen.denoised.reshape(x.shape), index)[:, 0]
        return Places(best_candidate(x, reward), point, reward.amax(1))

    def _candidate(self, problem: Problem, now: Places, t: Tensor, u: Tensor, tick: int) -> Places:
        noise, step = problem.noise_at(tick), TRANSITIONS[self.params.variance]
        mean, s = step.moments(problem, now.x, now.denoised, t, u, noise)
        x = mean + expand(s, mean) * noise("step", problem.event_shape)
        return looked_at(problem, require_finite(x, "candidates", tick), u)


def looked_at(problem: Problem, x: Tensor, t: Tensor) -> Places:
    """x with its denoiser and the reward of that."""
    point = problem.interpolant.denoiser(problem.flow.velocity(x, t), x, t)
    return Places(x, point, problem.reward(point))
