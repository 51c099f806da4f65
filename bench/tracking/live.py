"""MLflow while something runs: finished cells of a suite, losses of a training."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from bench.core.cells import Planned
from bench.core.secrets import redacted
from bench.record.attempt import Attempt
from bench.record.store import Store
from bench.record.tables import cell_row, ending_of
from bench.tracking.artifacts import clean, make_record
from bench.tracking.database import connect, experiment_of
from bench.tracking.mirror import Mirror


class Guarded:
    """Calls MLflow until that fails, says so once, and then leaves it alone."""

    def __init__(self, what: str) -> None:
        self.what, self.broken = what, False

    def __call__(self, action: Callable[[], None]) -> None:
        if self.broken:
            return
        try:
            action()
        except Exception as error:  # the boundary: tracking must never end a run
            self.broken = True
            told = f"warning: MLflow no longer follows {self.what}: {error}"
            print(redacted(told), file=sys.stderr)


class Follower:
    """Projects finished cells while a suite runs, now and then; told by the driver.

    Args:
        store: the run.
        every: seconds between projections, at least.
    """

    def __init__(self, store: Store, every: float = 15.0) -> None:
        self.store, self.every = store, every
        self.guarded = Guarded(f"'{store.name}'")
        self.waiting: list[Planned] = []
        self.mirror: Mirror | None = None
        self.last = time.monotonic()

    def __call__(self, row: Planned, attempt: Attempt) -> None:
        """A cell was stored."""
        self.waiting.append(row)
        if time.monotonic() - self.last >= self.every:
            self.guarded(self._project)
            self.waiting.clear()
            self.last = time.monotonic()

    def _project(self) -> None:
        if self.mirror is None:
            self.mirror = Mirror(self.store)
            self.mirror.reopen()
        for row in self.waiting:
            ending = ending_of(self.store.index, row)
            if ending.stored is not None:
                metrics = [asdict(metric) for metric in self.store.index.metrics(row.id).values()]
                self.mirror.put(make_record(cell_row(row, ending), metrics))


class TrainingLog:
    """Losses of a training as one run; a training that goes on continues the run it had begun."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.guarded = Guarded(f"'{title}'")
        self.client: Any = None
        self.run = ""
        atexit.register(self.close)

    def __call__(self, stage: str, step: int, losses: Mapping[str, float]) -> None:
        """Log the losses of a stage at a step."""
        self.guarded(lambda: self._log(stage, step, losses))

    def _log(self, stage: str, step: int, losses: Mapping[str, float]) -> None:
        if self.client is None:
            self._open()
        from mlflow.entities import Metric

        at = time.time_ns() // 1_000_000
        named = {f"{clean(stage)}/{clean(key)}": value for key, value in losses.items()}
        metrics = [Metric(key, value, at, step) for key, value in named.items()]
        self.client.log_batch(self.run, metrics)

    def _open(self) -> None:
        store = Store(os.environ.get("TILTBENCH_ROOT") or "runs", "training")
        self.client = connect(store)
        experiment = experiment_of(self.client, store)
        query = f"tags.`tiltbench.training` = '{self.title}' and attributes.status = 'RUNNING'"
        begun = self.client.search_runs([experiment], query, max_results=1)
        tags = {"tiltbench.training": self.title}
        run = begun[0] if begun else self.client.create_run(experiment, None, tags, self.title)
        self.run = run.info.run_id

    def close(self) -> None:
        """Mark the run as finished; called when the process ends."""
        if self.run:
            self.guarded(lambda: self.client.set_terminated(self.run))


def training_log(title: str) -> TrainingLog:
    """A callable (stage, step, losses) that logs a training to MLflow and never fails it."""
    return TrainingLog(title)
