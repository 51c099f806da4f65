"""What every task must keep: its flow, its data, its conditions."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bench.conformance.findings import (
    CHECK_ROWS,
    CHECK_TOLERANCE,
    Check,
    Skipped,
    apart,
    check_params,
    check_tensor,
    expect,
    globals_kept,
)
from bench.core import plugins
from bench.core.conditions import RowConditions
from bench.core.integrate import euler, filled, integrate
from bench.core.noise import NoiseSource
from bench.core.params import UserError
from bench.core.tasks import Task
from bench.core.timing import timing_of

CHECK_TIMES = (0.01, 0.5, 0.99)

STEPS = 20
"""Of a base sample; a schedule of so many must be stated."""


@dataclass
class TaskSubject:
    """A task, made afresh when the checks want another."""

    cls: type[Task[Any]]
    params: Any

    @cached_property
    def task(self) -> Task[Any]:
        """The task under test."""
        return self.cls(self.params)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.task.event_shape)

    @cached_property
    def condition(self) -> Any:
        """The first condition of the report."""
        return self.task.conditions("report")[0]

    def normal(
        self, name: str, rows: int = CHECK_ROWS, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """Standard normals (rows, *shape)."""
        source = NoiseSource(0, "conformance")
        return source.normal(name, 0, self.shape if shape is None else shape, range(rows))

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """b_t(x) without a graph."""
        with torch.no_grad():
            return self.task.flow.velocity(x, t, self.condition)

    def noised(self, t: float) -> Tensor:
        """CHECK_ROWS points as the flow meets them at time t: real data noised, or base noise."""
        x0, x1 = self.normal("x0"), self.normal("x1")
        if self.task.decode is not None:
            with suppress(UserError):  # a pipeline comes without the data that it was trained on
                x1 = self.task.draw_data(CHECK_ROWS, torch.Generator().manual_seed(0))
        else:
            data = self.task.data("report")
            if data is not None and data[:CHECK_ROWS].shape == x0.shape:
                x1 = data[:CHECK_ROWS].to(x0)
        return self.task.flow.interpolant.noised(x1, x0, filled(t, x0))


def velocity(s: TaskSubject) -> None:
    """The flow's velocity is finite float32 of the shape of x, and x stays as it is."""
    expect(tuple(s.task.flow.event_shape) == s.shape, "task and flow differ in event_shape")
    expect(hasattr(s.task.flow, "interpolant"), "the flow names no interpolant, such as Linear()")
    for t in CHECK_TIMES:
        x = s.noised(t)
        given = x.clone()
        check_tensor(f"the velocity at t = {t}", s.velocity(x, filled(t, x)), tuple(x.shape))
        expect(torch.equal(given, x), "velocity changes its argument: work on a copy")


def parameters(s: TaskSubject) -> None:
    """Params is a frozen dataclass with valid defaults."""
    check_params(s.cls, search_ranges=False)


def reproducible(s: TaskSubject) -> None:
    """Another process builds the same flow, and building it changes no global state.

    An ordinary module draws its first weights from torch's generator, before they are loaded.
    """
    with globals_kept(drawing=True):
        other = TaskSubject(s.cls, s.params)
        x = s.noised(0.5)
        b = other.velocity(x, filled(0.5, x))
    same = torch.equal(b, s.velocity(x, filled(0.5, x)))
    expect(same, "two instances with the same parameters have different velocities: seed them")


def batch_size(s: TaskSubject) -> None:
    """A row's velocity does not depend on the rows beside it, nor on their times."""
    x = s.noised(0.5)
    t = torch.linspace(0.1, 0.9, len(x))
    alone = [s.velocity(x[k : k + 1], t[k : k + 1]) for k in range(len(x))]
    gap = apart(s.velocity(x, t), torch.cat(alone))
    expect(
        gap <= CHECK_TOLERANCE,
        f"velocities of single rows differ from those of a batch by {gap:.1e}",
    )


def gradient(s: TaskSubject) -> None:
    """Gradients pass through the velocity, as steering needs."""
    x = s.noised(0.5).requires_grad_()
    b = s.task.flow.velocity(x, filled(0.5, x), s.condition)
    expect(b.requires_grad, "no gradient passes through the velocity: remove no_grad or detach")
    check_tensor("the gradient of the velocity", torch.autograd.grad(b.sum(), x)[0], tuple(x.shape))


def base_samples(s: TaskSubject) -> None:
    """Integrating the flow from noise, over its own times if it has any, gives finite samples."""
    timing, x0 = timing_of(s.task.flow), s.normal("x0")
    grid = timing.grid(STEPS)
    x = integrate(euler(s.velocity), timing.started(x0, grid), grid)
    check_tensor("a base sample", x, x0.shape)


def timing(s: TaskSubject) -> None:
    """A flow's own times and rows are what the task says of them while planning."""
    own, said = timing_of(s.task.flow), TaskSubject(s.cls, s.params).task.timing()
    if not any(told.scheduled or told.rows for told in (own, said)):
        raise Skipped("the flow has no times or rows of its own")
    same = own.scheduled == said.scheduled and (own.rows is None) == (said.rows is None)
    expect(same, "the flow has times or rows that timing() does not return: plans would miss them")
    expect(own.grid(STEPS) == said.grid(STEPS), f"times({STEPS}) and timing() differ")
    if own.rows is not None:
        for k in range(STEPS + 1):
            t = k / STEPS
            expect(own.rows_at(t) == said.rows_at(t) >= 1, f"rows({t}) and timing() differ")


def conditions(s: TaskSubject) -> None:
    """Every split has at least one condition, and conditions are plain JSON values."""
    for split in ("report", "tune"):
        found = s.task.conditions(split)
        expect(bool(found), f"conditions('{split}') is empty: return [None] if there are none")
        expect(
            json.loads(json.dumps(found)) == list(found),
            f"conditions('{split}') must be numbers, strings, None or mappings of these",
        )


def rows_of_conditions(s: TaskSubject) -> None:
    """A flow that hears a condition for every row hears each as it does alone."""
    told = tuple(s.task.conditions("report")[:2])
    if not getattr(s.task.flow, "hears_rows", False) or len(told) < 2:
        raise Skipped("the flow hears one condition at a time, or there is only one")
    x, half = s.noised(0.5), CHECK_ROWS // 2
    t, counts = torch.linspace(0.1, 0.9, CHECK_ROWS), [half, CHECK_ROWS - half]
    with torch.no_grad():
        b = s.task.flow.velocity(x, t, RowConditions(told, tuple(counts)))
        parts = zip(torch.split(x, counts), torch.split(t, counts), told, strict=True)
        gap = apart(b, torch.cat([s.task.flow.velocity(*part) for part in parts]))
    expect(gap <= CHECK_TOLERANCE, f"rows of two conditions differ from each alone by {gap:.1e}")


def data(s: TaskSubject) -> None:
    """Real data, if there are any, are finite float32 of the task's data shape; has_data knows."""
    x = s.task.data("report")
    told = s.task.has_data("report")
    expect(told == (x is not None), f"has_data('report') is {told}, and data('report') is not so")
    if x is None:
        raise Skipped("the task has no data")
    check_tensor("data('report')", x, (len(x), *s.task.data_shape))


def decode(s: TaskSubject) -> None:
    """The decoder, if there is one, gives finite data, and gradients pass through it."""
    if s.task.decode is None:
        raise Skipped("the task has no decoder")
    z = s.noised(0.99).requires_grad_()
    x = s.task.decode(z)
    check_tensor("a decoded sample", x.detach(), (len(z), *s.task.data_shape))
    expect(x.requires_grad, "no gradient passes through decode: remove no_grad or detach")
    check_tensor("the decoder's gradient", torch.autograd.grad(x.sum(), z)[0], tuple(z.shape))


def metrics(s: TaskSubject) -> None:
    """Every metric that the task names is installed."""
    unknown = [name for name in s.cls.metrics if name not in plugins.points("metrics")]
    expect(not unknown, f"unknown metrics: {', '.join(unknown)}")
    expect(bool(s.cls.metrics), "the task names no metrics")


def render(s: TaskSubject) -> None:
    """Rendered samples are uint8 of shape (n, height, width, 3)."""
    x = s.noised(0.99)
    images = s.task.render(x if s.task.decode is None else s.task.decode(x).detach())
    if images is None:
        raise Skipped("the task renders no images")
    expect(images.dtype == torch.uint8, f"render must give uint8, not {str(images.dtype)[6:]}")
    right = images.dim() == 4 and images.shape[0] == CHECK_ROWS and images.shape[3] == 3
    expect(right, f"render must give (n, height, width, 3), not {tuple(images.shape)}")


CHECKS: tuple[Check[TaskSubject], ...] = (
    velocity,
    parameters,
    reproducible,
    batch_size,
    gradient,
    base_samples,
    timing,
    conditions,
    rows_of_conditions,
    data,
    decode,
    metrics,
    render,
)
