"""A run: plan, skip what is stored, execute the rest, write the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from bench.runner.cells import Planned, expand
from bench.runner.execute import Payload, reevaluate, wanted_metrics
from bench.runner.executors import Executor, Job
from bench.runner.pilots import Pilots
from bench.runner.store import Store
from bench.runner.suite import Suite
from bench.runner.tables import write_tables


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
    """Jobs for planned cells without a good attempt; failures are run again only when asked.

    A cell that never finished, or whose worker died, is always run.
    """
    jobs: dict[str, Job] = {}
    for row in plan:
        if row.status != "pending" or row.id in jobs:
            continue
        stored = store.last(row.id)
        lost = stored is not None and str(stored.result["reason"]).startswith("WorkerLost")
        if stored is not None and not lost and (stored.ok or not retry_failed):
            continue
        budget = asdict(row.budget) if row.budget else None
        metrics = wanted_metrics(row.cell.task)
        jobs[row.id] = Job(row.id, row.cell.to_json(), budget, metrics, row.cell.threads)
    return list(jobs.values())


def run_suite(
    suite: Suite,
    store: Store,
    executor: Callable[[], Executor],
    watcher: Watcher,
    retry_failed: bool = False,
    after_cell: Callable[[Planned, Payload], None] | None = None,
) -> Outcome:
    """Execute what is missing of a suite and write its tables.

    `executor` is a factory so that nothing is started when there is nothing to do.
    """
    store.open()
    plan = expand(suite, pilots_of(store))
    store.save_suite(suite.model_dump(mode="json"))
    outcome = Outcome(plan)
    jobs = pending_jobs(store, plan, retry_failed)
    rows = {row.id: row for row in plan if row.status == "pending"}
    outcome.cached = len(rows) - len(jobs)
    outcome.remeasured = remeasure(store, list(rows.values()))

    def sink(payload: Payload) -> None:
        row = rows[payload.cell]
        store.save(row.cell, payload)
        outcome.executed += 1
        watcher.finished(row, payload)
        if after_cell is not None:
            after_cell(row, payload)

    try:
        if jobs:
            running = executor()
            watcher.begin(len(jobs), running.workers)
            running.run(jobs, sink)
    finally:
        if jobs or outcome.remeasured or not store.has("results.parquet"):
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
    seen: dict[str, Any] = {}
    for row in plan:
        if row.status == "pending" and row.id not in seen:
            stored = store.last(row.id)
            seen[row.id] = stored.result["status"] if stored else "pending"
        status = seen.get(row.id, row.status) if row.status == "pending" else row.status
        counts[status] = counts.get(status, 0) + 1
    return counts
