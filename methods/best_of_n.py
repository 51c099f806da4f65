"""Best-of-N: draw N candidates of the base model, keep the one with the highest reward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.api import Method, Need, Problem, ProblemSpec, Samples, Work
from bench.core.integrate import Solver, integrate, ode_step, uniform_grid
from bench.core.params import param
from bench.core.work import forward
from methods.steering import reward_work

Sampler = Callable[[Tensor], Tensor]
"""Initial noise (rows, *event_shape) -> samples."""

CHUNK_ROWS = 16384
"""Candidates integrated at once: bounds memory without changing the result."""


@torch.no_grad()
def best_of(problem: Problem, n: int, candidates: int, sampler: Sampler) -> Samples:
    """For each of n outputs, the best of `candidates` independent base samples.

    Candidate 0 starts from the noise that every other method starts from, so that N = 1 is the
    base model; arg-max over independent groups, so that outputs are independent.
    """
    more = problem.noise("candidates", 0, (candidates - 1, *problem.event_shape))
    x0 = torch.cat([problem.x0()[:, None], more], dim=1)
    groups = max(1, CHUNK_ROWS // candidates)
    kept, spread = [], 0.0
    for block in torch.split(x0, groups):
        x = sampler(block.flatten(0, 1))
        r = problem.reward(x).reshape(block.shape[:2])
        best = r.argmax(1)
        kept.append(x.reshape(block.shape)[torch.arange(len(block)), best])
        spread += float(r.std(1, correction=0).sum())
    return Samples(torch.cat(kept), info={"candidate_reward_sd": spread / n})


@dataclass(frozen=True)
class BestOfNParams:
    """How many candidates, and how finely each is integrated."""

    candidates: int = param(4, low=1, high=1_000_000, log=True, help="candidates N per output")
    steps: int = param(20, low=10, high=1000, log=True, help="ODE steps K per candidate")
    solver: Solver = param("euler", help="euler or heun (two evaluations per step)")


class BestOfN(Method[BestOfNParams]):
    """Best-of-N with the ODE sampler: the reward-maximising baseline that needs no gradient.

    Biased towards high reward: the law of the winner is not tilted but truncated,
    KL to the base at most log N - (N - 1)/N.  Cost per sample: N K + N paper-nfe.
    """

    Params = BestOfNParams
    effort = ("candidates", "steps")

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        flow = forward("flow", p.candidates * p.steps * (2 if p.solver == "heun" else 1))
        return flow + reward_work(spec, p.candidates)

    def sample(self, problem: Problem, n: int) -> Samples:
        p = self.params
        step = ode_step(problem.flow.velocity, p.solver)
        grid = uniform_grid(p.steps)
        return best_of(problem, n, p.candidates, lambda x0: integrate(step, x0, grid))


@dataclass(frozen=True)
class FewStepParams:
    """How many candidates, and how many jumps of the flow map make one."""

    candidates: int = param(4, low=1, high=1_000_000, log=True, help="candidates N per output")
    steps: int = param(4, low=1, high=16, log=True, help="flow-map jumps per candidate")


class BestOfNFewStep(Method[FewStepParams]):
    """Best-of-N with the flow map as sampler: the strong baseline that papers leave out.

    As best-of-n with candidates that cost `steps` map rows; biased in addition by what the map
    lacks of the flow.  Cost per sample: N steps + N paper-nfe.
    """

    Params = FewStepParams
    effort = ("candidates", "steps")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.FLOW_MAP})

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        return forward("map", p.candidates * p.steps) + reward_work(spec, p.candidates)

    def sample(self, problem: Problem, n: int) -> Samples:
        p, flow_map = self.params, problem.flow_map
        assert flow_map is not None
        grid = uniform_grid(p.steps)

        def sampler(x0: Tensor) -> Tensor:
            return integrate(flow_map.jump, x0, grid)

        return best_of(problem, n, p.candidates, sampler)


def kl_bound(candidates: int) -> float:
    """log N - (N - 1)/N, the largest KL of Best-of-N from the base model, in nats."""
    return math.log(candidates) - (candidates - 1) / candidates


__all__: list[Any] = ["BestOfN", "BestOfNFewStep", "best_of", "kl_bound"]
