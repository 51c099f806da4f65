"""Cells as trials of one Ray Tune run.

Workers leave their attempts in a mailbox actor; the driver takes them out and writes the store.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from bench.core.params import UserError
from bench.plan.resources import requested
from bench.record.attempt import lost
from bench.runner.cell import Job
from bench.runner.executors.base import Sink
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


@contextlib.contextmanager
def cluster(address: str | None, workers: int) -> Iterator[Any]:
    """Ray, started or joined, and left as it was found."""
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_WARN_THRESHOLD_S": "60",
        "RAY_DEDUP_LOGS": "1",
        "RAY_worker_niceness": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    os.environ.update({key: os.environ.get(key, value) for key, value in quiet.items()})
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address:
        options["address"] = address
    else:
        options |= {"num_cpus": workers, "include_dashboard": False}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if not address:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"cannot join the Ray cluster at {address} ({reason}): start one with the same "
            "Python and Ray ('ray start --head'), or leave --address out"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _tune(ray: Any, jobs: list[Job], sink: Sink, workers: int, joined: bool) -> None:
    """Run the jobs; on a cluster that was joined by all its cores, and by nodes like this one."""
    import tempfile

    from ray import tune

    from bench.runner.executors.ray_trial import (
        CellTrainable,
        Courier,
        Mailbox,
        beside_the_driver,
        by_reference,
        quiet_run,
    )

    mailbox = beside_the_driver(ray, Mailbox)
    courier = Courier(ray, mailbox, sink)
    asked = {job.id: requested(job.cell) for job in jobs}
    driver = Machine.here() if joined else None
    trainable = tune.with_resources(
        tune.with_parameters(
            CellTrainable, jobs=by_reference(ray, jobs), mailbox=mailbox, driver=driver
        ),
        lambda config: tune.PlacementGroupFactory([asked[config["cell"]]]),
    )
    with tempfile.TemporaryDirectory(prefix="tiltbench-") as scratch:
        tuner = tune.Tuner(
            trainable,
            param_space={"cell": tune.grid_search([job.id for job in jobs])},
            tune_config=tune.TuneConfig(
                reuse_actors=True, max_concurrent_trials=0 if joined else workers
            ),
            run_config=quiet_run("cells", scratch, courier),
        )
        tuner.fit()
    if courier.error is not None:
        raise courier.error
    for job in jobs:
        if job.id not in courier.delivered:
            sink(lost(job.id, "the worker died before it answered"))
