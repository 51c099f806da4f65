"""Cells as trials of one Ray Tune run.

Workers leave their attempts in a mailbox actor; the driver takes them out and writes the store.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.core.params import UserError
from bench.plan.resources import requested
from bench.record.attempt import lost
from bench.runner.cell import Job
from bench.runner.executors.base import Sink
from bench.runner.executors.parcels import taken_along
from bench.runner.executors.ray_cluster import cluster
from bench.runner.executors.ray_nodes import check_nodes
from bench.runner.nodes import Machine


class RayTune:
    """One Tuner over cell ids with reused actors.

    Args:
        address: of a running cluster; None starts one on this machine.
        workers: cells at once on a cluster of our own; None takes every core.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address = address
        self.workers = workers or os.cpu_count() or 1

    def run(self, jobs: list[Job], sink: Sink) -> None:
        """Run the jobs as trials; a trial that dies without an answer is a failed cell."""
        with cluster(self.address, self.workers) as ray:
            if self.address:
                check_nodes(ray, (job.cell for job in jobs))
            _tune(ray, jobs, sink, self.workers, joined=bool(self.address))


ROUNDS = 4
"""Times that cells are handed out whose workers died before they had answered."""

BACK_OFF = 2.0
"""Seconds before the second round, doubled for every further one."""


def _tune(ray: Any, jobs: list[Job], sink: Sink, workers: int, joined: bool) -> None:
    """Run all jobs; those whose workers died once more, with new workers, after a while.

    What was begun in every round and never answered is lost; what was never begun stays pending,
    and UserError says so.  A cluster that was joined is used by all its cores, and by nodes like
    this one.
    """
    from bench.runner.executors.ray_trial import Courier, Mailbox, beside_the_driver

    with one_sentence():
        mailbox = beside_the_driver(ray, Mailbox)
        courier = Courier(ray, mailbox, sink)
        for k in range(ROUNDS):
            left = [job for job in jobs if job.id not in courier.delivered]
            if not left:
                return
            time.sleep(k and BACK_OFF * 2 ** (k - 1))
            _round(ray, left, mailbox, courier, None if joined else workers)
        begun = ray.get(mailbox.begun.remote())
    left = [job for job in jobs if job.id not in courier.delivered]
    for job in left:
        if job.id in begun:
            died = f"the worker died {begun[job.id]} times before it answered"
            sink(lost(job.id, f"{died}; {courier.why}" if courier.why else died))
    never = sum(job.id not in begun for job in left)
    if never:
        raise UserError(
            f"Ray could not begin {never} of {len(jobs)} cells in {ROUNDS} rounds: "
            f"{courier.why or 'its workers ended before'}. What has finished is stored; the same "
            "command goes on"
        )


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """What Ray and Tune raise, for people."""
    from ray import tune
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, tune.TuneError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error.__cause__, RayError):
            raise  # a fault of ours
        raise UserError(
            f"Ray stopped working ({said(error)}): what has finished is stored; the same "
            "command goes on"
        ) from error


def _round(ray: Any, jobs: list[Job], mailbox: Any, courier: Any, workers: int | None) -> None:
    """One Tune run over jobs; no number of workers means a cluster that was joined."""
    import tempfile

    from ray import tune
    from ray.exceptions import RayError

    from bench.runner.executors.ray_trial import CellTrainable, by_reference, quiet_run

    asked = {job.id: requested(job.cell) for job in jobs}
    driver = None if workers else Machine.here()
    parcels = by_reference(ray, (replace(job, local=taken_along(job.cell, ray)) for job in jobs))
    trainable = tune.with_resources(
        tune.with_parameters(CellTrainable, jobs=parcels, mailbox=mailbox, driver=driver),
        lambda config: tune.PlacementGroupFactory([asked[config["cell"]]]),
    )
    with tempfile.TemporaryDirectory(prefix="tiltbench-") as scratch:
        tuner = tune.Tuner(
            trainable,
            param_space={"cell": tune.grid_search([job.id for job in jobs])},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers or 0),
            run_config=quiet_run("cells", scratch, courier, retries=0),
        )
        try:
            tuner.fit()
        except (RayError, tune.TuneError, RuntimeError) as error:
            # Tune gives up on what it does not know; the next round begins anew.
            if courier.error is None and not courier.understands(str(error)):
                raise
    if courier.error is not None:
        raise courier.error


def said(error: Exception) -> str:
    """The first line of an error of Ray, whose messages are long."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
