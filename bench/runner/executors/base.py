"""What an executor is."""

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
