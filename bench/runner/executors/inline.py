"""Cells in this process; imports neither Ray nor MLflow."""

from __future__ import annotations

from bench.runner.cell import Job
from bench.runner.executors.base import Sink
from bench.runner.stopping import go_on


class Inline:
    """One after another."""

    workers = 1

    def run(self, jobs: list[Job], sink: Sink) -> None:
        """Run the jobs in order."""
        for job in jobs:
            attempt = job.run()
            go_on()  # or else the attempt of a plugin that was interrupted would be stored
            sink(attempt)
