"""The machine's pace: what makes seconds that were measured at different moments comparable.

A shared or warm machine is now faster, now slower, by more than the tenth within which methods of
one budget should agree.  Between any two pilots a fixed piece of work is timed, the yardstick, and
a pilot's time is read in yardsticks.  The run's first yardstick says how long one is, so every
method of a run is matched at the same pace.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bench.core import accelerator
from bench.core.noise import NoiseSource
from bench.runner.cells import Cell
from bench.runner.staging import stage

AT_LEAST = 0.2
"""Seconds over which a yardstick is timed."""

ENOUGH = 5.0
"""Seconds of readings after which their median counts."""

REPEATS = 5
"""Readings of short work whose median counts, however little time they took."""


class Yardstick:
    """One forward of the flow of a cell's task, on as many rows as a batch of the cell's."""

    def __init__(self, cell: Cell) -> None:
        task = stage(cell).task
        rows = min(cell.n, cell.batch)
        x = NoiseSource(0, "yardstick").normal("x0", 0, task.event_shape, range(rows))
        t = torch.full((rows,), 0.5)
        self._call: Callable[[], Tensor] = lambda: task.flow.velocity(x, t, cell.condition)
        self._calls = 1
        self.seconds()  # loads what is loaded once
        self._calls = max(1, round(AT_LEAST / self.seconds()))

    @torch.no_grad()
    def seconds(self) -> float:
        """What one forward takes now."""
        started = time.perf_counter()
        for _ in range(self._calls):
            self._call()
        accelerator.settle()
        return (time.perf_counter() - started) / self._calls


class Pace:
    """Seconds as they would be had the machine kept the pace of the first yardstick.

    length: seconds of that yardstick; None takes it now.
    """

    def __init__(self, cell: Cell, length: float | None = None) -> None:
        self._yardstick = Yardstick(cell)
        self.length = self._typical() if length is None else length

    def _typical(self) -> float:
        return statistics.median(self._yardstick.seconds() for _ in range(REPEATS))

    def seconds(self, run: Callable[[], float]) -> float:
        """Median of a few readings of `run`'s seconds, each between two yardsticks."""
        ratios: list[float] = []
        started, before = time.perf_counter(), self._yardstick.seconds()
        while len(ratios) < REPEATS and (not ratios or time.perf_counter() - started < ENOUGH):
            took, after = run(), self._yardstick.seconds()
            ratios.append(2 * took / (before + after))
            before = after
        return self.length * statistics.median(ratios)
