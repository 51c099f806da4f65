"""Base samples in place of data, for fits on a task that comes without what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bench.core.integrate import euler, integrate
from bench.core.problem import Problem
from bench.core.values import OwnSamples
from bench.core.workers import WorkerGroup, joined, own_rows


@dataclass(frozen=True)
class OwnData:
    """Samples of the base flow under the condition of a fit, made once for it.

    By Euler's method on the flow's own times, with noise of the fit's own, when the fit first asks
    for data.  They are work like any other of the fit: `problem` charges its ledger, and
    `ProblemSpec.data_calls` predicts it.  Two fits never share them, so that what one costs does
    not depend on the other; a fit that goes on after it was killed makes them again, at the same
    cost.

    batch: how many are made at a time.  group: the workers that make them together.
    """

    problem: Problem
    asked: OwnSamples
    batch: int
    group: WorkerGroup

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n uniform picks (n, *event_shape)."""
        made = self.samples
        return made[torch.randint(len(made), (n,), generator=generator)]

    @cached_property
    def samples(self) -> Tensor:
        """(samples, *event_shape), kept on the host."""
        own = own_rows(self.group, self.asked.samples)
        starts = range(own.start, own.stop, self.batch)
        made = torch.cat([self._made(range(k, min(k + self.batch, own.stop))) for k in starts])
        return joined(self.group, made)

    @torch.no_grad()
    def _made(self, rows: range) -> Tensor:
        problem = self.problem.for_rows(rows)
        grid = problem.grid(self.asked.steps)
        x0 = problem.started(problem.noise("own-data", 0, problem.event_shape), grid)
        return integrate(euler(problem.flow.velocity), x0, grid).cpu()
