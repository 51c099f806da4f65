"""Ray as a run of ours finds it: started or joined, quiet, and left as it was."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from bench.core.params import UserError
from bench.runner.executors.ray_watch import watched
from bench.runner.stopping import listen


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
