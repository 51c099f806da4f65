"""A new method: the best of a few base samples, to be replaced by something better."""

SOURCE = '''\
"""The method `$name`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from bench.api import (
    Method,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    best_candidate,
    candidate_noise,
    euler,
    forward,
    integrate,
    param,
)


@dataclass(frozen=True)
class Params:
    """Every parameter, with its default and the range in which it may be searched."""

    candidates: int = param(4, low=1, high=10_000, log=True, help="base samples per output")
    steps: int = param(20, low=5, high=1000, log=True, help="Euler steps per base sample")


class $cls(Method[Params]):
    """Keep the best of a few base samples (this line is what `bench list methods` shows).

    Cost per sample: candidates (steps + 1) paper-nfe.
    """

    summary = "keeps the best of a few base samples"  # what a report says of it
    standing = "method"  # or "baseline", for what everybody would compare with
    Params = Params
    effort = ("candidates", "steps")  # what matching may raise to spend a budget, in this order

    def work(self, spec: ProblemSpec) -> Work:
        """Predicted rows per returned sample; `bench check` compares them with the meter's."""
        calls = spec.calls(spec.grid(self.params.steps)[:-1])  # one at every time but the last
        return (forward("flow", calls) + forward("reward")) * float(self.params.candidates)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        """n samples.  All random numbers come from problem.noise, by name and step."""
        p = self.params
        x0 = candidate_noise(problem, "x0", "candidates", 0, p.candidates)  # (n, candidates, ...)
        grid = problem.grid(p.steps)  # the flow's own times, or equally spaced ones
        x = problem.started(x0.flatten(0, 1), grid)
        x = integrate(euler(problem.flow.velocity), x, grid)
        return Samples(best_candidate(x.reshape(x0.shape), problem.reward(x).reshape(n, -1)))
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
