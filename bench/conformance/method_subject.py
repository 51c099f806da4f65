"""A method on a problem, run as the runner runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench.core.cells import Cell
from bench.core.metering import Meter
from bench.core.methods import Method
from bench.core.metrics import Target
from bench.core.params import range_of
from bench.core.problem import Problem
from bench.core.values import ProblemSpec, Samples
from bench.core.work import Budget, Work
from bench.plan.binding import Bound
from bench.plan.matching import bounds
from bench.runner.cell import sample_in_batches
from bench.runner.instances import Instances
from bench.runner.problems import make_problem

N = 6
SMALL = 8
"""Effort parameters are tested at no more than this, or at their least."""


class MethodRun(NamedTuple):
    """What one run returned and spent."""

    samples: Samples
    work: Work


def small(method: Method[Any], pinned: Mapping[str, Any]) -> Method[Any]:
    """The method at little effort; parameters that the user gave, or that have no range, stay."""
    ranges = {f.name: range_of(method.Params, f.name) for f in dataclasses.fields(method.Params)}
    free = set(method.effort) & set(ranges) - set(pinned)
    values = {
        name: max(bounds(method, name)[0], min(getattr(method.params, name), SMALL))
        for name in free
        if ranges[name].low is not None and ranges[name].high is not None
    }
    return method.with_params(**values)


@dataclass
class MethodSubject:
    """A method on one task with one reward."""

    name: str
    method: Method[Any]
    bound: Bound

    def __post_init__(self) -> None:
        self.bound.reward.bind(self.bound.task)

    @property
    def spec(self) -> ProblemSpec:
        return self.bound.spec

    def cell(self, seed: int = 0, batch: int = N) -> Cell:
        """A small cell of this method."""
        return Cell(
            task=self.bound.task_label,
            task_params={},
            reward=self.bound.reward_label,
            reward_params={},
            strength=self.bound.strength,
            condition=self.bound.task.conditions("report")[0],
            method=self.name,
            method_params={},
            n=N,
            seed=seed,
            threads=1,
            versions={},
            weights={},
            batch=batch,
        )

    def problem(self, cell: Cell, limit: float | None = None) -> Problem:
        """The metered problem that the runner would hand to the method."""
        read = self.bound.task.sentence(cell.condition)
        target = Target(self.bound.reward, cell.strength, cell.condition, cell.seed, read=read)
        instances = Instances(self.bound.task, target, self.method)
        problem = make_problem(cell, instances, Meter(limit), range(cell.n))
        problem.budget = None if limit is None else Budget("paper-nfe", limit / cell.n)
        return problem

    def run(self, seed: int = 0, batch: int = N, limit: float | None = None) -> MethodRun:
        """Sample as the runner does."""
        cell = self.cell(seed, batch)
        problem = self.problem(cell, limit)
        samples = sample_in_batches(self.method, problem, cell)
        return MethodRun(samples, problem.meter.work())

    @cached_property
    def first(self) -> MethodRun:
        """The run that the others are compared with."""
        return self.run()

    def answers(self) -> list[Tensor]:
        """What the flow and the reward say at fixed points, and their state."""
        x = self.problem(self.cell()).x0()
        t, condition = torch.full((N,), 0.5), self.cell().condition
        with torch.no_grad():
            flow, reward = self.bound.task.flow, self.bound.reward
            found = [flow.velocity(x, t, condition), reward(x, self.bound.task.sentence(condition))]
        if isinstance(flow, nn.Module):
            flags = [flow.training, *(p.requires_grad for p in flow.parameters())]
            found.append(torch.tensor(flags))
        return found
