"""Hands out the cells of all studies, and takes and stores what came of them.

Executors of every kind ask the dispatcher, in the driver's process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.core.cells import Cell
from bench.record.attempt import Attempt
from bench.record.store import Store
from bench.runner.cell import Job
from sweeps.study import Study, lag

Notify = Callable[[Study, Attempt], None]


class Dispatcher:
    """Cells of several studies, at most `workers` at a time and one that waits.

    Args:
        studies: served in this order; a later one gets what an earlier one must wait for.
        store: written to here and nowhere else.
        workers: cells at once; several have one more handed out, so that a free one finds it.
        notify: called after an attempt was stored.
    """

    def __init__(
        self, studies: Sequence[Study], store: Store, workers: int, notify: Notify = lambda *_: None
    ) -> None:
        self.studies, self.store, self.limit, self.notify = studies, store, lag(workers), notify
        self.busy: dict[str, tuple[Study, Cell]] = {}

    @property
    def finished(self) -> bool:
        """Whether every study has its last cell."""
        return not self.busy and all(study.finished for study in self.studies)

    def next(self) -> Job | None:
        """The next job, or None while one must wait and at the end."""
        if len(self.busy) >= self.limit:
            return None
        for study in self.studies:
            found = study.next(set(self.busy))
            if found is not None:
                cell, job = found
                self.busy[job.id] = (study, cell)
                return job
        return None

    def put_back(self, job: Job) -> None:
        """Return a job that was not begun."""
        self.busy.pop(job.id)

    def took(self, attempt: Attempt) -> None:
        """Store an attempt and tell its study."""
        study, cell = self.busy[attempt.cell]
        self.store.index.save(cell, attempt)
        study.ends.remember(cell, attempt, attempt.metrics)
        self.busy.pop(attempt.cell)
        self.notify(study, attempt)
