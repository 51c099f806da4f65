"""The Ray side of a sweep: a thin Searcher that asks the dispatcher, one Tuner for all.

Ray Tune never sees a parameter: a configuration is a cell id, and the job behind it waits in an
actor.  Nothing is ever restored from Ray; what was run is in the store.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from bench.core.params import UserError
from bench.record.attempt import Attempt, lost
from bench.runner.cell import Job
from bench.runner.executors.parcels import taken_along
from bench.runner.executors.ray_trial import (
    CellTrainable,
    Courier,
    Mailbox,
    beside_the_driver,
    quiet_run,
)
from bench.runner.nodes import Machine
from sweeps.dispatcher import Dispatcher


class JobMailbox(Mailbox):
    """A mailbox where jobs are left as well as attempts."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[str, Job] = {}

    def post(self, job: Job) -> None:
        """Leave a job; it stays until its attempt is taken, for workers that are started again."""
        self._jobs[job.id] = job

    def job(self, cell: str) -> Job:
        """The job of a cell."""
        return self._jobs[cell]

    def take(self, cell: str) -> Attempt | None:
        """Take an attempt, once; its job is done with."""
        attempt = super().take(cell)
        if attempt is not None:
            self._jobs.pop(cell, None)
        return attempt


class PostedJobs:
    """The jobs in the mailbox, read like a dictionary by the trainable."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def __getitem__(self, cell: str) -> Job:
        import ray

        job: Job = ray.get(self._mailbox.job.remote(cell))
        return job


class CellSearcher(Searcher):  # type: ignore[misc]  # ray is untyped
    """Suggests the dispatcher's next cell; what came of it goes back to it through the courier."""

    def __init__(self, dispatcher: Dispatcher, ray: Any, mailbox: Any, courier: Courier) -> None:
        super().__init__()
        self._dispatcher, self._ray, self._mailbox = dispatcher, ray, mailbox
        self._courier = courier
        self._cells: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher for a restore that never happens here."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """A cell id, None while the dispatcher must wait, FINISHED at the end."""
        job = self._dispatcher.next()
        if job is None:
            return Searcher.FINISHED if self._dispatcher.finished else None
        self._ray.get(
            self._mailbox.post.remote(replace(job, local=taken_along(job.cell, self._ray)))
        )
        self._cells[trial_id] = job.id
        return {"cell": job.id}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A worker that died without an answer is a failed cell; one that never began ends it all.

        A cell that was not begun has no attempt: the same command goes on with it.
        """
        cell = self._cells.pop(trial_id, "")
        if cell not in self._dispatcher.busy or self._courier.error is not None:
            return
        if cell in self._ray.get(self._mailbox.begun.remote()):
            self._dispatcher.took(lost(cell, "the worker died before it answered"))
            return
        self._courier.error = UserError(
            f"Ray could not begin a cell: {self._courier.why or 'its workers ended before'}. What "
            "has finished is stored; the same command goes on"
        )

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a sweep is planned again from the store."""


def run(
    ray: Any, dispatcher: Dispatcher, resources: dict[str, float], driver: Machine | None = None
) -> None:
    """Run the dispatcher's cells as trials with reused actors until it is finished.

    driver: the machine that workers of a cluster have to be like; None for workers of this one.
    """
    # All first actors start together; later trials wait for one of them to be free.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(dispatcher.limit)
    mailbox = beside_the_driver(ray, JobMailbox)
    courier = Courier(ray, mailbox, dispatcher.took)
    trainable = tune.with_resources(
        tune.with_parameters(
            CellTrainable, jobs=PostedJobs(mailbox), mailbox=mailbox, driver=driver
        ),
        tune.PlacementGroupFactory([resources]),
    )
    with tempfile.TemporaryDirectory(prefix="tiltbench-") as scratch:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=CellSearcher(dispatcher, ray, mailbox, courier),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=quiet_run("sweep", scratch, courier),
        ).fit()
    if courier.error is not None:
        raise courier.error
