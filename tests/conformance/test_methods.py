"""Contract tests of methods: every way of being broken is caught by its own check."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import Method, Problem, ProblemSpec, Samples, Work, backward, forward, param
from bench.conformance.check import check_method
from bench.plan.binding import bind
from tests.worlds.contract_findings import failed

# -- broken methods -------------------------------------------------------------------------------


@dataclass(frozen=True)
class EulerParams:
    steps: int = param(6, low=2, high=100)


class Euler(Method[EulerParams]):
    """A good method: the base model, scored once."""

    Params: Any = EulerParams
    effort = ("steps",)

    def work(self, spec: ProblemSpec) -> Work:
        return forward("flow", self.params.steps) + forward("reward")

    def start(self, problem: Problem) -> Tensor:
        return problem.x0()

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        x = self.start(problem)
        for k in range(self.params.steps):
            t = torch.full((len(x),), k / self.params.steps)
            x = x + problem.flow.velocity(x, t) / self.params.steps
        return Samples(x, info={"reward": float(problem.reward(x).mean())})


class PredictsTooLittle(Euler):
    def work(self, spec: ProblemSpec) -> Work:
        return forward("flow", self.params.steps)


class PredictsTooMuch(Euler):
    def work(self, spec: ProblemSpec) -> Work:
        return forward("flow", self.params.steps + 1) + forward("reward")


class GlobalNoise(Euler):
    def start(self, problem: Problem) -> Tensor:
        return torch.randn_like(problem.x0())


class FreshNoise(Euler):
    def start(self, problem: Problem) -> Tensor:
        return torch.randn(problem.x0().shape, generator=torch.Generator().manual_seed(os.getpid()))


class UnseededNoise(Euler):
    def start(self, problem: Problem) -> Tensor:
        drawn = np.random.default_rng().standard_normal(problem.x0().shape, dtype=np.float32)
        return torch.from_numpy(drawn)


class SwallowsTheBudget(Euler):
    def sample(self, problem: Problem, n: int) -> Samples:
        try:
            return super().sample(problem, n)
        except Exception:
            return Samples(problem.x0())


class CouplesTheBatch(Euler):
    def start(self, problem: Problem) -> Tensor:
        x0 = problem.x0()
        return x0 - x0.mean(0)


class HiddenGradient(Euler):
    def work(self, spec: ProblemSpec) -> Work:
        return super().work(spec) + forward("reward") + backward("reward")

    def start(self, problem: Problem) -> Tensor:
        with torch.enable_grad():
            x0 = problem.x0().requires_grad_()
            slope = torch.autograd.grad(problem.reward(x0).sum(), x0)[0]
        return x0.detach() + 0.01 * slope


class Reseeds(Euler):
    def start(self, problem: Problem) -> Tensor:
        torch.manual_seed(0)
        return problem.x0()


class NotFinite(Euler):
    def start(self, problem: Problem) -> Tensor:
        return problem.x0() / 0


class Unranged(Euler):
    @dataclass(frozen=True)
    class Params(EulerParams):
        steps: int = 6


class IdleEffort(Euler):
    @dataclass(frozen=True)
    class Params(EulerParams):
        idle: int = param(1, low=1, high=9)

    effort = ("steps", "idle")


BROKEN_METHODS: dict[type[Euler], set[str]] = {
    Euler: set(),
    PredictsTooLittle: {"predicted work", "budget", "needs"},
    PredictsTooMuch: {"predicted work", "needs"},
    GlobalNoise: {"same seed", "batch size", "process state"},
    FreshNoise: {"other seed", "batch size"},
    UnseededNoise: {"same seed", "batch size"},
    SwallowsTheBudget: {"budget"},
    CouplesTheBatch: {"batch size"},
    HiddenGradient: {"needs"},
    Reseeds: {"process state"},
    NotFinite: {"samples"},
    Unranged: {"parameters", "effort"},
    IdleEffort: {"effort"},
}


@pytest.mark.parametrize("cls", BROKEN_METHODS, ids=lambda cls: cls.__name__)
def test_broken_methods_are_caught(cls: type[Euler]) -> None:
    bound = bind("gmm:dimension=2", "quadratic")
    findings = check_method("broken", cls.create(), bound)
    assert failed(findings) == BROKEN_METHODS[cls], findings


def test_a_method_that_meddles_with_the_flow_is_caught() -> None:
    bound = bind("gmm:dimension=2", "quadratic")

    class Meddles(Euler):
        def start(self, problem: Problem) -> Tensor:
            bound.task.mixture.means.mul_(1.5)  # type: ignore[attr-defined]
            return problem.x0()

    assert "inputs" in failed(check_method("broken", Meddles.create(), bound))
