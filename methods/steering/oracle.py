"""Steering by the closed-form gradient of the value."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.api import (
    Method,
    Need,
    Problem,
    ProblemSpec,
    Samples,
    SteeringParams,
    SteeringTerm,
    Work,
    forward,
    steer,
)


class OracleSteering(Method[SteeringParams]):
    """The same loop with the closed-form gradient of the value: what perfect estimation gives.

    Exact as the steps grow.  Cost per sample: K flow rows and K closed-form rows.
    """

    summary = "steering with the closed-form gradient of the value function"
    standing = "closed form"
    tag = "closed form"
    colour = "#cc79a7"
    Params = SteeringParams
    effort = ("steps",)

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.ORACLE})

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        flow = forward("flow", spec.calls(spec.grid(p.steps, p.start)[:-1]))
        return flow + forward("oracle", p.steps)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        oracle = problem.oracle
        assert oracle is not None

        def term(x: Tensor, t: Tensor, _: int) -> SteeringTerm:
            b = problem.flow.velocity(x, t)
            return SteeringTerm(b, problem.interpolant.tilt(oracle.shift(x, t), t), {})

        return steer(problem, self.params, term)
