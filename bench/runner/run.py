"""A run: plan, skip what is stored, execute the rest, write the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bench.core import plugins
from bench.core.cells import Planned, PlannedFit
from bench.plan.expand import expand
from bench.plan.suite import Suite
from bench.record import layout
from bench.record.attempt import Attempt, Stored
from bench.record.files import RunFiles
from bench.record.index import Index
from bench.record.store import Store
from bench.record.tables import ending_of, write_tables
from bench.runner.cell import Job
from bench.runner.executors.base import Executor
from bench.runner.measuring import reevaluate, wanted_metrics
from bench.runner.pilots import Pilots
from bench.runner.shards import Shards


class Watcher(Protocol):
    """Told about progress; the command line draws a bar."""

    def begin(self, total: int, workers: int) -> None: ...
    def finished(self, row: Planned, attempt: Attempt) -> None: ...


@dataclass
class Outcome:
    """What a run did."""

    plan: list[Planned]
    executed: int = 0
    cached: int = 0
    remeasured: int = 0
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Cells that ended neither well nor by design."""
        bad = ("failed", "timeout", "diverged", "over_budget")
        return sum(self.statuses.get(status, 0) for status in bad)


def pending_jobs(store: Store, plan: list[Planned], retry_failed: bool) -> list[Job]:
    """Jobs for planned cells without a good attempt whose fit, if they need one, is there."""
    wanted: dict[str, Planned] = {}
    for row in plan:
        if row.status == "pending" and _missing(store.index, row, retry_failed):
            wanted.setdefault(row.id, row)
    ready = [row for row in wanted.values() if _fit_is_there(store.index, row.fit)]
    return [sampling_job(store, row, wanted_metrics(row.cell.task)) for row in ready]


def sampling_job(store: Store, row: Planned, metrics: Iterable[str]) -> Job:
    """The job of a row, with the weights that its fit left; it goes on behind shards it finds."""
    fitted = None if row.fit is None else store.index.fitted(row.fit.id)
    shards = Shards(RunFiles(store.root, store.name), row.id)
    return Job(row.cell, row.limit, tuple(metrics), fitted, shards=shards)


def fitting_job(store: Store, row: Planned) -> Job:
    """The job of a row's fit, which goes on where an earlier one was killed."""
    assert row.fit is not None
    return Job(row.fit.cell, row.budget, workdir=store.working_folder(row.fit.id))


def _fit_is_there(index: Index, fit: PlannedFit | None) -> bool:
    if fit is None:
        return True
    stored = index.last(fit.id)
    return stored is not None and stored.ok


def pending_fits(index: Index, plan: list[Planned], retry_failed: bool) -> dict[str, Planned]:
    """The first row of every fit that planned cells need and that is not stored, by fit."""
    rows: dict[str, Planned] = {}
    for row in plan:
        if row.status == "pending" and row.fit is not None:
            rows.setdefault(row.fit.id, row)
    return {
        fit: row
        for fit, row in rows.items()
        if _due(index.last(fit), str(row.budget or ""), retry_failed)
    }


def _missing(index: Index, row: Planned, retry_failed: bool) -> bool:
    return _due(index.last(row.id), str(row.limit or ""), retry_failed)


def _due(stored: Stored | None, budget: str, retry_failed: bool) -> bool:
    """Whether a cell is to be run; failures are run again only when asked.

    A cell that never finished, or whose worker died, is always run, and so is one that another
    budget stopped.
    """
    if stored is None or stored.attempt.lost:
        return True
    stopped = stored.attempt.status == "over_budget" and stored.attempt.budget != budget
    return stopped or (retry_failed and not stored.ok)


def run_suite(
    suite: Suite,
    store: Store,
    executor: Callable[[], Executor],
    watcher: Watcher,
    retry_failed: bool = False,
    after_cell: Callable[[Planned, Attempt], None] | None = None,
) -> Outcome:
    """Execute what is missing of a suite, fits first, and write its tables.

    `executor` is a factory so that nothing is started when there is nothing to do.
    """
    store.open()
    plan = expand(suite, pilots_of(store))
    store.save_suite(suite.model_dump(mode="json"))
    outcome, index = Outcome(plan), store.index
    rows = {row.id: row for row in plan if row.status == "pending"}
    fits = pending_fits(index, plan, retry_failed)
    outcome.remeasured = remeasure(index, rows.values())
    running: list[Executor] = []

    def run(jobs: list[Job], row_of: Mapping[str, Planned]) -> None:
        def sink(attempt: Attempt) -> None:
            row = row_of[attempt.cell]
            cell = row.fit.cell if row.fit and row.fit.id == attempt.cell else row.cell
            index.save(cell, attempt)
            outcome.executed += 1
            watcher.finished(row, attempt)
            if after_cell is not None:
                after_cell(row, attempt)

        if jobs:
            running[:] = running or [executor()]
            watcher.begin(len(jobs), running[0].workers)
            running[0].run(jobs, sink)

    try:
        run([fitting_job(store, row) for row in fits.values()], fits)
        jobs = pending_jobs(store, plan, retry_failed)
        outcome.cached = len(rows) - len(jobs)
        run(jobs, rows)
    finally:
        if outcome.executed or outcome.remeasured or not store.has(layout.table("results")):
            write_tables(store, plan)
    outcome.statuses = dict(Counter(ending_of(index, row).status for row in plan))
    return outcome


def pilots_of(store: Store) -> Pilots:
    """Pilots that remember their matches in the run's folder."""
    return Pilots(lambda: store.found(layout.PILOTS), lambda data: store.write(layout.PILOTS, data))


def remeasure(index: Index, rows: Iterable[Planned]) -> int:
    """Measure stored samples with metrics that are new or have a new version."""
    count = 0
    for row in rows:
        stored = index.last(row.id)
        if stored is None or not stored.ok:
            continue
        have = index.measured(row.id)
        missing = [
            name
            for name in wanted_metrics(row.cell.task)
            if f"{name}@{plugins.load('metrics', name).version}" not in have
        ]
        if missing:
            index.add_metrics(row.id, reevaluate(row.cell, index.samples(row.id), missing))
            count += 1
    return count
