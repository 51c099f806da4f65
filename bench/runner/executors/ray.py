"""Cells as trials of one Ray Tune run.

Workers leave their attempts in a mailbox actor; the driver takes them out and writes the store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from bench.core.params import UserError
from bench.plan.resources import requested
from bench.record.attempt import lost
from bench.runner.cell import Job
from bench.runner.executors.base import Sink
from bench.runner.executors.parcels import packed
from bench.runner.executors.ray_nodes import check_nodes
from bench.runner.executors.ray_watch import watched
from bench.runner.nodes import Machine
from bench.runner.stopping import listen


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
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would end the run as if it had finished
        "RAY_DEDUP_LOGS": "1",
        "RAY_ROTATION_MAX_BYTES": str(2**24),  # of what a worker prints, kept once more
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "RAY_worker_niceness": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths that a user typed start from the working folder
    }
    os.environ.update({key: os.environ.get(key, value) for key, value in quiet.items()})
    import ray

    _keep_secrets()
    # A worker that dies is answered for here; Tune would print its traceback.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address:
        options["address"] = address
    else:
        # One of our own, also where somebody else's cluster runs on this machine.
        options |= {"address": "local", "num_cpus": workers, "include_dashboard": False}
    try:
        _knock(address)
        ray.init(**options)
    except (OSError, RuntimeError, ValueError) as error:
        if not address:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"cannot join the Ray cluster at {address} ({reason}): start one with the same "
            "Python and Ray ('ray start --head'), or leave --address out"
        ) from error
    listen()  # Ray has a handler of SIGTERM, which ends the driver without a word
    try:
        with watched(ray):
            yield ray
    finally:
        ray.shutdown()


def _keep_secrets() -> None:
    """Take keys of AWS out of what Tune hands to workers: Ray writes all of that into its logs.

    Workers of a cluster of our own inherit them all the same; other nodes have their own.
    """
    from ray.tune.execution import class_cache

    handed: set[str] = class_cache.ENV_VARS_TO_PROPAGATE
    handed.difference_update([name for name in handed if name.startswith("AWS_")])


PATIENCE = 5.0
"""Seconds until an address that does not answer is given up."""


def _knock(address: str | None) -> None:
    """Raise OSError where nothing listens at host:port: Ray itself would try for ten minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


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
    parcels = by_reference(ray, (packed(job, ray) for job in jobs))
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
