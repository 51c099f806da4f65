"""A guided flow with times of its own, later than 0, and guidance in an interval."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from bench.api import Condition, Linear, Method, NoParams, Problem, Target, Task, UserError
from bench.core.metering import Meter
from bench.core.timing import Timing, timing_of
from bench.core.values import ProblemSpec
from bench.runner.instances import Instances
from bench.runner.problems import make_problem
from tests.worlds.guided import Sum, guided_cell

FIRST, LONGEST, SCALE = 0.15, 60, 1.5
INTERVAL = (0.3, 0.7)


def own_times(steps: int) -> list[float]:
    """From FIRST, dense near 1; no more than LONGEST steps."""
    if steps > LONGEST:
        raise UserError(f"this schedule has {LONGEST} steps at the most: choose fewer")
    even = [k / steps for k in range(steps + 1)]
    return [FIRST + (1 - FIRST) * s * (1.6 - 0.6 * s) for s in even]


def own_rows(t: float) -> int:
    """Guided inside the interval."""
    return 2 if INTERVAL[0] <= t < INTERVAL[1] else 1


class Network(nn.Module):
    """E[x1 | x_t] of N(label, I), which counts the rows that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.rows = nn.Parameter(torch.tensor([[0.0, 0.0], [0.5, -0.5]])), 0

    def forward(self, x: Tensor, t: Tensor, label: int) -> Tensor:
        self.rows += len(x)
        t, mean = t[:, None], self.mean[label]
        return mean + t * (x - t * mean) / (t**2 + (1 - t) ** 2)


class ScheduledFlow(nn.Module):
    """D(x; none) + w (D(x; label) - D(x; none)) in the interval, D(x; label) outside."""

    def __init__(self) -> None:
        super().__init__()
        self.event_shape, self.interpolant, self.network = (2,), Linear(), Network()
        self.asked: list[float] = []

    def times(self, steps: int) -> list[float]:
        return own_times(steps)

    def rows(self, t: float) -> int:
        return own_rows(t)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        self.asked += t.tolist()
        told = self.network(x, t, 1)
        inside = torch.tensor([own_rows(round(u, 6)) == 2 for u in t.tolist()])
        if bool(inside.any()):
            none = self.network(x[inside], t[inside], 0)
            told = told.index_put((inside,), none + SCALE * (told[inside] - none))
        return self.interpolant.velocity(told, x, t)


class Scheduled(Task[NoParams]):
    """The flow, set where a plan sees it."""

    guided = True
    event_shape = (2,)

    def __init__(self, params: NoParams) -> None:
        super().__init__(params)
        self.flow = ScheduledFlow()

    def trainable_flow(self) -> nn.Module:
        return ScheduledFlow()


class Late(Task[NoParams]):
    """The same flow, made when it is asked for, and no word of its times before."""

    guided = True
    event_shape = (2,)

    @cached_property
    def flow(self) -> ScheduledFlow:  # type: ignore[override]
        return ScheduledFlow()


class Said(Late):
    """The same, with the word."""

    def timing(self) -> Timing:
        return timing_of(ScheduledFlow())


SPEC = ProblemSpec((2,), guided=True, timing=Scheduled(NoParams()).timing())


def scheduled_instances(method: Method[Any], task: Task[Any] | None = None) -> Instances:
    """A method on such a task, by default a new `Scheduled`, with a linear reward."""
    target = Target(Sum(NoParams()), 1.0, 1)
    return Instances(Scheduled(NoParams()) if task is None else task, target, method)


def scheduled_problem(method: Method[Any], n: int, task: Task[Any] | None = None) -> Problem:
    """The metered problem of n samples."""
    instances = scheduled_instances(method, task)
    return make_problem(guided_cell(1, n), instances, Meter(), range(n))
