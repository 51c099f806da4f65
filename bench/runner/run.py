"""A run: plan, skip what is stored, execute the rest, write the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from bench.core import plugins
from bench.core.cells import Planned, PlannedFit
from bench.core.interrupted import Interrupted
from bench.core.params import UserError
from bench.core.returned import BadReturn
from bench.plan.expand import expand
from bench.plan.suite import Suite
from bench.record import layout
from bench.record.attempt import Attempt, Stored
from bench.record.files import RunFiles
from bench.record.index import Index
from bench.record.lease import alone
from bench.record.seals import Damage, Damaged
from bench.record.store import Store
from bench.record.tables import ending_of, tables_are_current, write_tables
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
    """What a run did.

    projected: whether tables were made again.  damaged: files that were set aside, whose content
    was computed again.  unverified: good attempts from before files had checksums.
    """

    plan: list[Planned]
    executed: int = 0
    cached: int = 0
    remeasured: int = 0
    projected: bool = False
    statuses: dict[str, int] = field(default_factory=dict)
    damaged: list[Damage] = field(default_factory=list)
    unverified: int = 0

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
    jobs = (_job_of(store, row) for row in ready)
    return [job for job in jobs if job is not None]


def _job_of(store: Store, row: Planned) -> Job | None:
    """The job of a row; None where what its fit left is damaged, and is fitted again first."""
    try:
        return sampling_job(store, row, wanted_metrics(row.cell.task))
    except Damaged:
        return None


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
    may_replace: bool = False,
    held: bool = False,
) -> Outcome:
    """Execute what is missing of a suite, fits first, and write its tables; may be Interrupted.

    `executor` is a factory so that nothing is started when there is nothing to do.  Raises
    UserError while another driver runs it, unless the caller says that it is `held`, and for the
    name of a run of another suite unless its tables may be replaced.
    """
    try:
        store.open()
    except UserError as error:
        return _nothing_to_do(suite, store, error)
    with nullcontext() if held else alone(store):
        plan = expand(suite, pilots_of(store))
        if not may_replace:
            refuse_another(store, suite, plan)
        store.save_suite(suite.model_dump(mode="json"))
        return _execute(plan, store, executor, watcher, retry_failed, after_cell)


def _nothing_to_do(suite: Suite, store: Store, error: UserError) -> Outcome:
    """What there is of a run that cannot be written to, if nothing is missing; else the error."""
    plan = expand(suite, Pilots(store.pilots)) if store.exists() else []
    rows = [row for row in plan if row.status == "pending"]
    if not plan or any(_missing(store.index, row, retry_failed=False) for row in rows):
        raise error
    statuses = dict(Counter(ending_of(store.index, row).status for row in plan))
    cached = len({row.id for row in rows})
    return Outcome(plan, cached=cached, statuses=statuses, unverified=store.index.unverified)


def refuse_another(store: Store, suite: Suite, plan: list[Planned]) -> None:
    """UserError if the run holds cells of another suite, and none of this one.

    A suite that grows, or that is planned anew by other versions, goes on.
    """
    stored = store.found(layout.SUITE)
    if stored is None or stored == store.suite_text(suite.model_dump(mode="json")):
        return
    known = set(store.names(layout.CELLS))
    mine = {row.id for row in plan} | {row.fit.id for row in plan if row.fit is not None}
    if known and mine and not known & mine:
        raise UserError(
            f"the run '{store.name}' holds {len(known)} cells of another suite and none of this "
            "one, which would replace its tables: give this suite another --name"
        )


def _execute(
    plan: list[Planned],
    store: Store,
    executor: Callable[[], Executor],
    watcher: Watcher,
    retry_failed: bool,
    after_cell: Callable[[Planned, Attempt], None] | None,
) -> Outcome:
    """Execute what is missing of a plan, and write its tables."""
    outcome, index = Outcome(plan), store.index
    rows = {row.id: row for row in plan if row.status == "pending"}
    running: list[Executor] = []
    index.forget_ended()

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

    def execute() -> None:
        outcome.remeasured += remeasure(index, rows.values())
        fits = pending_fits(index, plan, retry_failed)
        run([fitting_job(store, row) for row in fits.values()], fits)
        jobs = pending_jobs(store, plan, retry_failed)
        outcome.cached = len(rows) - len(jobs)
        run(jobs, rows)

    try:
        execute()
        # Whatever was damaged counts as never stored; making tables reads more than resuming does.
        while not _projected(store, plan, outcome):
            execute()
    except KeyboardInterrupt as error:
        # Without tables, which may take long: stale ones are made again by whoever wants them.
        done = sum(index.last(cell) is not None for cell in rows)
        raise Interrupted(
            f"{done} of {len(rows)} cells of '{store.name}' are done; the same command goes on"
        ) from error
    except BaseException:
        _projected(store, plan, outcome)
        raise
    outcome.statuses = dict(Counter(ending_of(index, row).status for row in plan))
    outcome.unverified = index.unverified
    return outcome


def _projected(store: Store, plan: list[Planned], outcome: Outcome) -> bool:
    """Make the tables if they are stale; False if something was damaged, which is set aside."""
    store.present()  # or else all of it would count as damaged, and be computed again
    if not tables_are_current(store, plan):
        write_tables(store, plan)
        outcome.projected = True
    damaged = store.index.set_aside()
    outcome.damaged += damaged
    return not damaged


def pilots_of(store: Store) -> Pilots:
    """Pilots that remember their matches in the run's folder."""
    return Pilots(store.pilots, store.save_pilots)


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
            count += _remeasured(index, row, missing)
    return count


def _remeasured(index: Index, row: Planned, missing: list[str]) -> bool:
    """Measure the stored samples of a row; False where they are damaged, and the attempt void."""
    try:
        samples = index.samples(row.id)
    except Damaged:
        return False
    try:
        index.add_metrics(row.id, reevaluate(row.cell, samples, missing))
    except Damaged as damage:  # samples without a checksum that nothing can read
        index.void(row.id, layout.SAMPLES, str(damage))
        return False
    except BadReturn as error:
        raise UserError(f"measuring stored samples of {row.method_label} again: {error}") from error
    return True
