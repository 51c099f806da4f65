"""A run: plan, skip what is stored, execute the rest, write the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

from bench.core.cells import Cell, Planned
from bench.core.work import Budget
from bench.plan.expand import expand
from bench.plan.suite import Suite
from bench.record.store import Store, Stored
from bench.record.tables import outcome_of, write_tables
from bench.runner.cell import Payload, reevaluate
from bench.runner.executors import Executor, Job
from bench.runner.measuring import wanted_metrics
from bench.runner.pilots import Pilots


class Watcher(Protocol):
    """Told about progress; the command line draws a bar."""

    def begin(self, total: int, workers: int) -> None: ...
    def finished(self, row: Planned, payload: Payload) -> None: ...


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
    jobs: dict[str, Job] = {}
    for row in plan:
        if row.status != "pending" or row.id in jobs or not _wanted(store, row, retry_failed):
            continue
        fit = None if row.fit is None else store.last(row.fit.id)
        if row.fit is not None and (fit is None or not fit.ok):
            continue
        fitted = None if row.fit is None or fit is None else store.fitted(row.fit.id, fit.attempt)
        jobs[row.id] = _job(row.cell, row.limit, wanted_metrics(row.cell.task), fitted)
    return list(jobs.values())


def pending_fits(store: Store, plan: list[Planned], retry_failed: bool) -> dict[str, Planned]:
    """The first row of every fit that planned cells need and that is not stored, by fit."""
    rows: dict[str, Planned] = {}
    for row in plan:
        if row.status == "pending" and row.fit is not None and row.fit.id not in rows:
            budget = str(row.budget or "")
            if _missing(store.last(row.fit.id), budget, retry_failed):
                rows[row.fit.id] = row
    return rows


def _wanted(store: Store, row: Planned, retry_failed: bool) -> bool:
    return _missing(store.last(row.id), str(row.limit or ""), retry_failed)


def _missing(stored: Stored | None, budget: str, retry_failed: bool) -> bool:
    """Whether a cell is to be run; failures are run again only when asked.

    A cell that never finished, or whose worker died, is always run, and so is one that another
    budget stopped.
    """
    if stored is None or str(stored.result["reason"]).startswith("WorkerLost"):
        return True
    stopped = stored.result["status"] == "over_budget" and stored.result.get("budget") != budget
    return stopped or (retry_failed and not stored.ok)


def _job(cell: Cell, budget: Budget | None, metrics: list[str], fitted: bytes | None = None) -> Job:
    limits = asdict(budget) if budget else None
    return Job(cell.id, cell.to_json(), limits, metrics, cell.threads, fitted)


def run_suite(
    suite: Suite,
    store: Store,
    executor: Callable[[], Executor],
    watcher: Watcher,
    retry_failed: bool = False,
    after_cell: Callable[[Planned, Payload], None] | None = None,
) -> Outcome:
    """Execute what is missing of a suite, fits first, and write its tables.

    `executor` is a factory so that nothing is started when there is nothing to do.
    """
    store.open()
    plan = expand(suite, pilots_of(store))
    store.save_suite(suite.model_dump(mode="json"))
    outcome = Outcome(plan)
    rows = {row.id: row for row in plan if row.status == "pending"}
    fits = pending_fits(store, plan, retry_failed)
    outcome.remeasured = remeasure(store, list(rows.values()))
    running: list[Executor] = []

    def run(jobs: list[Job], row_of: Mapping[str, Planned]) -> None:
        def sink(payload: Payload) -> None:
            row = row_of[payload.cell]
            cell = row.fit.cell if row.fit and row.fit.id == payload.cell else row.cell
            store.save(cell, payload)
            outcome.executed += 1
            watcher.finished(row, payload)
            if after_cell is not None:
                after_cell(row, payload)

        if jobs:
            running[:] = running or [executor()]
            watcher.begin(len(jobs), running[0].workers)
            running[0].run(jobs, sink)

    try:
        run([_job(row.fit.cell, row.budget, []) for row in fits.values() if row.fit], fits)
        jobs = pending_jobs(store, plan, retry_failed)
        outcome.cached = len(rows) - len(jobs)
        run(jobs, rows)
    finally:
        if outcome.executed or outcome.remeasured or not store.has("results.parquet"):
            write_tables(store, plan)
    outcome.statuses = _count(store, plan)
    return outcome


PILOTS = "pilots.json"


def pilots_of(store: Store) -> Pilots:
    """Pilots that remember their matches in the run's folder."""

    def read() -> bytes | None:
        return store.read(PILOTS) if store.has(PILOTS) else None

    return Pilots(read, lambda data: store.write(PILOTS, data))


def remeasure(store: Store, rows: list[Planned]) -> int:
    """Measure stored samples with metrics that are new or have a new version."""
    from bench.core import plugins

    count = 0
    for row in rows:
        stored = store.last(row.id)
        if stored is None or not stored.ok:
            continue
        have = set(store.metrics(row.id, stored.attempt))
        missing = [
            name
            for name in wanted_metrics(row.cell.task)
            if f"{name}@{plugins.load('metrics', name).version}" not in have
        ]
        if missing:
            data = store.samples(row.id, stored.attempt)
            found = reevaluate(row.cell.to_json(), data, missing)
            store.save_metrics(row.id, found.metrics, stored.attempt)
            count += 1
    return count


def _count(store: Store, plan: list[Planned]) -> dict[str, int]:
    """Rows by status."""
    counts: dict[str, int] = {}
    for row in plan:
        status = outcome_of(store, row).status
        counts[status] = counts.get(status, 0) + 1
    return counts
