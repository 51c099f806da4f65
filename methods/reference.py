"""The two ends of every comparison: the base model, and exact draws of the tilted law."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.api import (
    SOLVERS,
    Method,
    Need,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    forward,
    integrate,
    named_param,
    ode_calls,
    ode_step,
    param,
)


@dataclass(frozen=True)
class PriorParams:
    """How finely the base flow is integrated."""

    steps: int = param(20, low=1, high=2000, log=True, help="time steps K")
    solver: str = named_param("euler", SOLVERS)


class Prior(Method[PriorParams]):
    """The base model, unaligned: more compute buys a finer ODE and nothing else.

    Cost per sample: K flow rows (2 K with Heun).
    """

    summary = "the base model, unaligned; more compute only buys a finer ODE"
    standing = "reference"
    tag = "untilted"
    colour = "#8a8a8a"
    Params = PriorParams
    effort = ("steps",)

    def work(self, spec: ProblemSpec) -> Work:
        return forward("flow", ode_calls(spec, spec.grid(self.params.steps), self.params.solver))

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        step, grid = (
            ode_step(problem.flow.velocity, self.params.solver),
            problem.grid(self.params.steps),
        )
        return Samples(integrate(step, problem.started(problem.x0(), grid), grid))


class Exact(Method[None]):
    """I.i.d. draws of the tilted law itself, where it is known: the floor of every distance.

    Cost per sample: one closed-form row.
    """

    summary = "independent draws of the tilted law itself: what a perfect sampler scores"
    standing = "closed form"
    tag = "floor"
    colour = "#222222"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.ORACLE})

    def work(self, spec: ProblemSpec) -> Work:
        return forward("oracle")

    def sample(self, problem: Problem, n: int) -> Samples:
        oracle = problem.oracle
        assert oracle is not None
        extra = problem.noise("component", 0, ())
        return Samples(oracle.draw(problem.x0(), extra), log_z=oracle.log_z)
