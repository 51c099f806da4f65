"""A new method: the best of a few base samples, to be replaced by something better."""

SOURCE = '''\
"""The method `$name`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from bench.api import Method, Problem, ProblemSpec, Samples, Work, forward, param
from torch import Tensor


@dataclass(frozen=True)
class Params:
    """Every parameter, with its default and the range in which it may be searched."""

    candidates: int = param(4, low=1, high=10_000, log=True, help="base samples per output")
    steps: int = param(20, low=5, high=1000, log=True, help="Euler steps per base sample")


class $cls(Method[Params]):
    """Keep the best of a few base samples (this line is what `bench list methods` shows).

    Cost per sample: candidates (steps + 1) paper-nfe.
    """

    Params = Params
    effort = ("candidates", "steps")  # what matching may raise to spend a budget, in this order

    def work(self, spec: ProblemSpec) -> Work:
        """Predicted rows per returned sample; `bench check` compares them with the meter's."""
        return (forward("flow", self.params.steps) + forward("reward")) * self.params.candidates

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        """n samples.  All random numbers come from problem.noise, by name and step."""
        best = self._integrate(problem, problem.x0())
        highest = problem.reward(best)
        for k in range(1, self.params.candidates):
            x = self._integrate(problem, problem.noise("candidate", k, problem.event_shape))
            r = problem.reward(x)
            better = (r > highest).reshape(-1, *[1] * len(problem.event_shape))
            best, highest = torch.where(better, x, best), torch.maximum(r, highest)
        return Samples(best)

    def _integrate(self, problem: Problem, x: Tensor) -> Tensor:
        """Carry noise x at time 0 to a base sample at time 1."""
        steps = self.params.steps
        for k in range(steps):
            t = torch.full((len(x),), k / steps, dtype=x.dtype, device=x.device)
            x = x + problem.flow.velocity(x, t) / steps
        return x
'''

TEST = '''\
"""`$name` keeps the contracts of a method and costs what its docstring says."""

import subprocess
import sys

from bench.api import ProblemSpec

from $module import $cls


def test_it_keeps_the_contracts() -> None:
    subprocess.run([sys.executable, "-m", "bench", "check", "method", "$name"], check=True)


def test_it_costs_what_its_docstring_says() -> None:
    work = $cls.create(candidates=3, steps=10).work(ProblemSpec((2,)))
    assert work.cost("paper-nfe") == 3 * (10 + 1)
'''
