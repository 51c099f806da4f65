"""What an executor is, and the ones there are by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bench.record.attempt import Attempt
from bench.runner.cell import Job

Sink = Callable[[Attempt], None]
"""Takes every attempt as it ends, in the driver's process: only the driver writes."""


class Executor(Protocol):
    """Runs jobs and hands every attempt to a sink."""

    workers: int

    def run(self, jobs: list[Job], sink: Sink) -> None: ...


def inline(_address: str | None, _workers: int | None) -> Executor:
    """One after another in this process."""
    from bench.runner.executors.inline import Inline

    return Inline()


def ray(address: str | None, workers: int | None) -> Executor:
    """As trials of Ray Tune, on this machine or a cluster."""
    from bench.runner.executors.ray import RayTune

    return RayTune(address, workers)


EXECUTORS: dict[str, Callable[[str | None, int | None], Executor]] = {"ray": ray, "inline": inline}
"""By name, from the address of a cluster and the number of workers; imported when asked for."""
