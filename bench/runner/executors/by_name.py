"""The executors by name, each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from bench.core.extras import need
from bench.runner.executors.base import Executor


def inline(_address: str | None, _workers: int | None) -> Executor:
    """One after another in this process, which a crash ends and no hard limit protects."""
    from bench.runner.executors.inline import Inline

    return Inline()


def ray(address: str | None, workers: int | None) -> Executor:
    """As trials of Ray Tune, on this machine or a cluster; UserError where Ray is not installed."""
    need("ray")
    from bench.runner.executors.ray import RayTune

    return RayTune(address, workers)


def process(_address: str | None, _workers: int | None) -> Executor:
    """One after another in a process of their own."""
    from bench.runner.executors.process import Processes

    return Processes()


EXECUTORS: dict[str, Callable[[str | None, int | None], Executor]] = {
    "ray": ray,
    "inline": inline,
    "process": process,
}
"""Made from the address of a cluster and the number of workers."""
