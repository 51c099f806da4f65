"""Running a sweep: tune every method with equal work, then report default and tuned."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.plan.expand import expand
from bench.plan.resources import requested
from bench.plan.suite import Block, Suite
from bench.record.attempt import Attempt
from bench.record.lease import alone
from bench.record.store import Store
from bench.record.tables import write_tables
from bench.runner.executors.base import Executor
from bench.runner.executors.ray import RayTune
from bench.runner.executors.ray_cluster import cluster
from bench.runner.executors.ray_nodes import check_nodes
from bench.runner.nodes import Machine
from bench.runner.run import Watcher, pilots_of, run_suite
from sweeps import sweep_file, tables
from sweeps.dashboard import export_sqlite
from sweeps.dispatcher import Dispatcher
from sweeps.importance import importance_table
from sweeps.planner import Planner
from sweeps.spec import Spec, checked
from sweeps.study import Study


class SweepWatcher(Watcher, Protocol):
    """Told about progress, also of trials."""

    def trial(self, study: Study, attempt: Attempt) -> None: ...


class Silent:
    """A watcher that says nothing."""

    def begin(self, total: int, workers: int) -> None:
        """Called before cells are run."""

    def finished(self, row: Any, attempt: Attempt) -> None:
        """Called after a reporting cell."""

    def trial(self, study: Study, attempt: Attempt) -> None:
        """Called after a tuning cell."""


@dataclass
class Swept:
    """What a sweep did."""

    spec: Spec
    store: Store
    studies: list[Study]
    executed: int = 0

    @property
    def failed(self) -> int:
        """Methods without a single trial that completed."""
        return sum(study.best is None for study in self.studies)


def run_sweep(
    spec: Spec,
    store: Store,
    executor: Callable[[], Executor],
    watcher: SweepWatcher | None = None,
    report: bool = True,
    dashboard: bool = False,
    session: contextlib.ExitStack | None = None,
) -> Swept:
    """Run what is missing of a sweep, and of the comparison of default and tuned on fresh seeds.

    A Ray session that is needed stays open until `session` is closed, by default until the end.

    Raises UserError for a second driver, and for whatever cannot be swept.
    """
    spec, watcher = checked(spec), watcher or Silent()
    store.open()
    with alone(store), contextlib.ExitStack() as own:
        runner = executor()
        swept = Swept(spec, store, _studies(spec, store, runner.workers))
        try:
            _tune(swept, runner, session or own, watcher)
        finally:
            _write_trials(swept)
        if report:
            _report(swept, runner, watcher)
        if dashboard:
            export_sqlite(store.folder, swept.studies)
    return swept


def _studies(spec: Spec, store: Store, workers: int) -> list[Study]:
    """The studies of all methods, with the proposals that are stored already."""
    kept, pilots = sweep_file.read_trials(store, spec), pilots_of(store)
    studies = [Study(spec, Planner(spec, m, pilots), store, workers) for m in spec.methods]
    for study in studies:
        study.restore(kept.get(study.id, []))
        study.asked = lambda: sweep_file.write_sweep(store, spec, studies)
    return studies


def _tune(
    swept: Swept, runner: Executor, session: contextlib.ExitStack, watcher: SweepWatcher
) -> None:
    """Run the cells of all trials, in one Ray session if in any."""

    def told(study: Study, attempt: Attempt) -> None:
        swept.executed += 1
        watcher.trial(study, attempt)

    dispatcher = Dispatcher(swept.studies, swept.store, runner.workers, told)
    sweep_file.write_sweep(swept.store, swept.spec, swept.studies)
    first = dispatcher.next()
    if first is None:
        return
    dispatcher.put_back(first)
    if isinstance(runner, RayTune):
        from sweeps.searcher import run

        ray = session.enter_context(cluster(runner.address, runner.workers))
        if runner.address:
            check_nodes(ray, [first.cell])
        driver = Machine.here() if runner.address else None
        run(ray, dispatcher, requested(first.cell), driver)
        return
    while (job := dispatcher.next()) is not None:
        runner.run([job], dispatcher.took)


def reporting_suite(spec: Spec, name: str, studies: Sequence[Study]) -> Suite:
    """Default and tuned configurations on reporting seeds."""
    labels = [[s.label, *([s.best.label] if s.best else [])] for s in studies]
    block = Block(
        tasks=[spec.task],
        rewards=[spec.reward],
        methods=list(dict.fromkeys(label for pair in labels for label in pair)),
        budgets=[spec.budget],
        seeds=list(spec.seeds),
        n=spec.n,
        batch=spec.batch,
        threads=spec.threads,
        seconds=spec.seconds,
        device=spec.device,
        dtype=spec.dtype,
        resources=spec.resources,
    )
    said = f"Default and tuned by {spec.trials} trials of {spec.sampler} on seeds of their own."
    return Suite(name=name, description=said, blocks=[block])


def _report(swept: Swept, runner: Executor, watcher: SweepWatcher) -> None:
    """Run default and tuned on reporting seeds; write every table."""
    spec, store, studies = swept.spec, swept.store, swept.studies
    suite = reporting_suite(spec, store.name, studies)
    swept.executed += run_suite(suite, store, lambda: runner, watcher, held=True).executed
    reported = expand(suite, pilots_of(store))
    # Tables hold the cells of trials too: MLflow shows them, reports leave them out.
    write_tables(store, [*reported, *tables.tuning_rows(studies)])
    results = store.table("results")
    store.save_table("tuning", tables.selection_table(studies, results, store.name))
    store.save_table("importance", importance_table(studies))


def _write_trials(swept: Swept) -> None:
    if any(study.trials for study in swept.studies):
        swept.store.save_table("trials", tables.trials_table(swept.studies))
