"""The next cell of a trial that can run: a fit before the cells that sample from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bench.core.cells import Cell, Planned
from bench.record.store import Store
from bench.runner.cell import Job
from bench.runner.measuring import wanted_metrics
from bench.runner.run import fitting_job, sampling_job
from sweeps.cell_ends import CellEnds
from sweeps.planner import Planner
from sweeps.trials import Trial


@dataclass(frozen=True)
class OpenCells:
    """The cells of a study's trials that have not ended."""

    planner: Planner
    store: Store
    ends: CellEnds

    def first(self, trial: Trial, rounds: Iterable[int], busy: set[str]) -> tuple[Cell, Job] | None:
        """A cell, with its job, of the first round that is not complete; none of the `busy`."""
        assert trial.row is not None
        for index in rounds:
            rows = self.planner.round(trial.row, index)
            waiting = [row for row in rows if self.ends.of_row(row) is None]
            jobs = (self._job(row, busy) for row in waiting)
            found = next((job for job in jobs if job is not None), None)
            if found is not None or waiting:
                return found
        return None

    def _job(self, row: Planned, busy: set[str]) -> tuple[Cell, Job] | None:
        if row.fit is not None and self.ends.of_cell(row.fit.cell) is None:
            return None if row.fit.id in busy else (row.fit.cell, fitting_job(self.store, row))
        if row.id in busy:
            return None
        measured = {"reward", *self.planner.spec.objectives}
        metrics = [m for m in wanted_metrics(row.cell.task) if m in measured]
        return row.cell, replace(sampling_job(self.store, row, metrics), budget=row.budget)
