"""Where cells run: in this process, or as trials of one Ray Tune run.

Both yield payloads as they finish.  Ray workers leave theirs in a mailbox actor; only the driver
writes to the store.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from bench.runner.cell import Payload, execute


@dataclass(frozen=True)
class Job:
    """A cell to run: its id, its JSON, its budget, the metrics to measure, and the weights that
    its fit left.
    """

    id: str
    cell: str
    budget: dict[str, Any] | None
    metrics: list[str]
    threads: int = 1
    fitted: bytes | None = None

    def run(self) -> Payload:
        """Execute it here."""
        return execute(self.cell, self.budget, self.metrics, self.fitted)


Sink = Callable[[Payload], None]


class Executor(Protocol):
    """Runs jobs and hands every payload to a sink, in the driver's process."""

    workers: int

    def run(self, jobs: list[Job], sink: Sink) -> None: ...


class Inline:
    """One after another in this process; imports neither Ray nor MLflow."""

    workers = 1

    def run(self, jobs: list[Job], sink: Sink) -> None:
        """Run the jobs in order."""
        for job in jobs:
            sink(job.run())


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
        """Run the jobs as trials; a trial that dies without a payload is a failed cell."""
        with cluster(self.address, self.workers) as ray:
            _tune(ray, jobs, sink, None if self.address else self.workers)


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
    ray.init(**options)
    try:
        yield ray
    finally:
        ray.shutdown()


def _tune(ray: Any, jobs: list[Job], sink: Sink, workers: int | None) -> None:
    import tempfile

    from ray import tune

    from bench.runner.ray_cell import CellTrainable, Courier, Mailbox, quiet_run

    mailbox = ray.remote(Mailbox).options(num_cpus=0).remote()
    courier = Courier(ray, mailbox, sink)
    threads = max(job.threads for job in jobs)
    trainable = tune.with_resources(
        tune.with_parameters(CellTrainable, jobs={job.id: job for job in jobs}, mailbox=mailbox),
        {"cpu": threads},
    )
    with tempfile.TemporaryDirectory(prefix="tiltbench-") as scratch:
        tuner = tune.Tuner(
            trainable,
            param_space={"cell": tune.grid_search([job.id for job in jobs])},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers or 0),
            run_config=quiet_run("cells", scratch, courier),
        )
        tuner.fit()
    if courier.error is not None:
        raise courier.error
    for job in jobs:
        if job.id not in courier.delivered:
            sink(Payload(job.id, "failed", "WorkerLost: the worker died before it answered"))


def make_executor(kind: str, address: str | None, workers: int | None) -> Executor:
    """`inline` or `ray`."""
    return Inline() if kind == "inline" else RayTune(address, workers)
