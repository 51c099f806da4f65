"""The Ray side of a sweep: a thin Searcher in front of the desk, and one Tuner for all trials.

Ray Tune never sees a parameter: a configuration is a cell id, and the job behind it waits in an
actor.  Nothing is ever restored from Ray; what was run is in the store.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from bench.runner.cell import Payload
from bench.runner.executors import Job
from bench.runner.ray_cell import CellTrainable, Courier, Mailbox, quiet_run
from sweeps.desk import Desk


class Counter(Mailbox):
    """The mailbox, where jobs are left as well as payloads."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[str, Job] = {}

    def order(self, job: Job) -> None:
        """Leave a job; it stays until its payload is taken, for workers that are started again."""
        self._jobs[job.id] = job

    def job(self, cell: str) -> Job:
        """The job of a cell."""
        return self._jobs[cell]

    def take(self, cell: str) -> Payload | None:
        """Take a payload, once; its job is done with."""
        payload = super().take(cell)
        if payload is not None:
            self._jobs.pop(cell, None)
        return payload


class Ordered:
    """The jobs at the counter, read like a dictionary by the trainable."""

    def __init__(self, counter: Any) -> None:
        self._counter = counter

    def __getitem__(self, cell: str) -> Job:
        import ray

        job: Job = ray.get(self._counter.job.remote(cell))
        return job


class DeskSearcher(Searcher):  # type: ignore[misc]  # ray is untyped
    """Hands out the desk's next cell; what came of it reaches the desk through the courier."""

    def __init__(self, desk: Desk, ray: Any, counter: Any) -> None:
        super().__init__()
        self._desk, self._ray, self._counter = desk, ray, counter
        self._cells: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher for a restore that never happens here."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """A cell id, None while the desk must wait, FINISHED at the end."""
        job = self._desk.next()
        if job is None:
            return Searcher.FINISHED if self._desk.finished else None
        self._ray.get(self._counter.order.remote(job))
        self._cells[trial_id] = job.id
        return {"cell": job.id}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A worker that died without an answer is a failed cell."""
        cell = self._cells.pop(trial_id, "")
        if cell in self._desk.busy:
            reason = "WorkerLost: the worker died before it answered"
            self._desk.took(Payload(cell, "failed", reason))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a sweep is planned again from the store."""


def run(ray: Any, desk: Desk, threads: int) -> None:
    """Run the desk's cells as trials with reused actors until it is finished."""
    # All first actors start together; later trials wait for one of them to be free.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(desk.limit)
    counter = ray.remote(Counter).options(num_cpus=0).remote()
    courier = Courier(ray, counter, desk.took)
    trainable = tune.with_resources(
        tune.with_parameters(CellTrainable, jobs=Ordered(counter), mailbox=counter),
        {"cpu": threads},
    )
    with tempfile.TemporaryDirectory(prefix="tiltbench-") as scratch:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=DeskSearcher(desk, ray, counter), num_samples=-1, reuse_actors=True
            ),
            run_config=quiet_run("sweep", scratch, courier),
        ).fit()
    if courier.error is not None:
        raise courier.error
