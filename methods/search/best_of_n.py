"""Best-of-N: draw N candidates of the base model, keep the one with the highest reward."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    INTEGRATORS,
    SOLVERS,
    Method,
    Need,
    Problem,
    ProblemSpec,
    Samples,
    Step,
    Work,
    best_candidate,
    candidate_noise,
    forward,
    integrate,
    named_param,
    ode_calls,
    ode_step,
    param,
    reward_work,
    row_blocks,
    steered_step,
)

Sampler = Callable[[Problem, Tensor], Tensor]
"""(problem of some rows, normals (rows * N, *event_shape)) -> samples of that shape."""


@torch.no_grad()
def best_of(problem: Problem, n: int, candidates: int, sampler: Sampler) -> Samples:
    """For each of n outputs, the best of `candidates` independent base samples.

    Candidate 0 starts from the noise that every other method starts from, so that N = 1 is the
    base model; arg-max over independent groups, so that outputs are independent.
    """
    kept, spread = [], 0.0
    for rows in row_blocks(problem.rows, candidates):
        part = problem.for_rows(rows)
        x0 = candidate_noise(part, "x0", "candidates", 0, candidates)
        x = sampler(part, x0.flatten(0, 1))
        r = part.reward(x).reshape(x0.shape[:2])
        kept.append(best_candidate(x.reshape(x0.shape), r))
        spread += float(r.std(1, correction=0).sum())
    return Samples(torch.cat(kept), info={"candidate_reward_sd": spread / n})


def sde_step(problem: Problem, integrator: str, candidates: int) -> Step:
    """One step of the base SDE for (rows * candidates), each candidate with noise of its own.

    The noise is that of the k-th call, so a step is made for one integration.
    """
    calls = itertools.count()
    step = steered_step(integrator, problem.interpolant)

    def stepped(x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        z = candidate_noise(problem, "step", "candidate-step", next(calls), candidates)
        b = problem.flow.velocity(x, t)
        return step(x, b, torch.zeros_like(b), t, u, z.flatten(0, 1))

    return stepped


@dataclass(frozen=True)
class BestOfNParams:
    """How many candidates, and how finely and with which noise each is integrated."""

    candidates: int = param(4, low=1, high=1_000_000, log=True, help="candidates N per output")
    steps: int = param(20, low=1, least=10, high=1000, log=True, help="time steps K per candidate")
    integrator: str = named_param("ode", INTEGRATORS)
    solver: str = named_param("euler", SOLVERS, "of the ode")

    def __post_init__(self) -> None:
        if self.solver == "heun" and self.integrator != "ode":
            raise ValueError(f"solver=heun is for integrator=ode, not {self.integrator}")


class BestOfN(Method[BestOfNParams]):
    """Best-of-N with the base ODE or SDE: the reward-maximising baseline that needs no gradient.

    x_i ~ p for i = 1..N, return argmax r(x_i) ("random search" of arXiv 2501.09732).  With the
    memoryless SDE (sde, ancestral) candidates also differ by the noise on the way.  Assumes nothing
    of the reward.  Biased towards high reward: the law of the winner has the reward's distribution
    function F^N, KL to the base at most log N - (N - 1)/N; it is not the tilted law.
    Cost per sample: N K flow and N reward forwards (2 N K flow with Heun).
    """

    version = "2"
    summary = "keeps the best of N samples of the base model, by default of its ODE"
    standing = "baseline"
    best_of = "candidates"
    colour = "#e69f00"
    Params = BestOfNParams
    effort = ("candidates", "steps")

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        calls = ode_calls(spec, spec.grid(p.steps), p.solver)
        return forward("flow", p.candidates * calls) + reward_work(spec, p.candidates)

    def sample(self, problem: Problem, n: int) -> Samples:
        p = self.params

        def sampler(part: Problem, x0: Tensor) -> Tensor:
            if p.integrator == "ode":
                step = ode_step(part.flow.velocity, p.solver)
            else:
                step = sde_step(part, p.integrator, p.candidates)
            grid = part.grid(p.steps)
            return integrate(step, part.started(x0, grid), grid)

        return best_of(problem, n, p.candidates, sampler)


@dataclass(frozen=True)
class FewStepParams:
    """How many candidates, and how many jumps of the flow map make one."""

    candidates: int = param(4, low=1, high=1_000_000, log=True, help="candidates N per output")
    steps: int = param(1, low=1, high=16, log=True, help="flow-map jumps per candidate")


class BestOfNFewStep(Method[FewStepParams]):
    """Best-of-N with the flow map as sampler: the strong baseline that papers leave out.

    As best-of-n with candidates that cost `steps` map rows; biased in addition by what the map
    lacks of the flow.  Cost per sample: N steps + N paper-nfe.
    """

    summary = "keeps the best of N samples of the few-step flow map"
    standing = "baseline"
    best_of = "candidates"
    colour = "#882255"
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
        grid = problem.grid(p.steps)

        def sampler(_: Problem, x0: Tensor) -> Tensor:
            return integrate(flow_map.jump, problem.started(x0, grid), grid)

        return best_of(problem, n, p.candidates, sampler)
