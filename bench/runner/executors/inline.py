"""Cells in this process; imports neither Ray nor MLflow."""

from __future__ import annotations

from bench.runner.cell import Job
from bench.runner.executors.base import Sink


class Inline:
    """One after another."""

    workers = 1

    def run(self, jobs: list[Job], sink: Sink) -> None:
        """Run the jobs in order."""
        for job in jobs:
            sink(job.run())
