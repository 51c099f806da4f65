"""Cells one after another in a process of their own, which may crash or be ended.

The process serves many cells, as a worker of Ray does, and is replaced when it dies.
"""

from __future__ import annotations

import math
import multiprocessing as mp
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType

from bench.record.attempt import Attempt, lost
from bench.runner.cell import Job
from bench.runner.executors.base import Sink
from bench.runner.limits import LOOK, ended, hard_limit, memory_limit, swollen
from bench.runner.memory import resident
from bench.runner.output import Bounded, forward, take_descriptors
from bench.runner.stopping import go_on


class Processes:
    """One after another, isolated from the driver and limited in time and memory."""

    workers = 1

    def run(self, jobs: list[Job], sink: Sink) -> None:
        """Run the jobs in order."""
        with Child() as child:
            for job in jobs:
                attempt = child.run(job)
                go_on()
                sink(attempt)


KILLED = (
    "its process was killed, perhaps for want of memory: lower `batch`, or let "
    "`resources: {memory: 4GiB}` say how much it may hold"
)


def _look(left: float, allowed: float | None) -> float | None:
    """Seconds until the next look at a process that may hold so much memory; None for no look."""
    if allowed:
        return min(left, LOOK)
    return None if left == math.inf else left


class Child:
    """A process that runs jobs; another one takes its place when it has died."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._ours: Connection | None = None
        self._shown = Bounded(None)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end()

    def run(self, job: Job) -> Attempt:
        """The attempt of a job, whatever becomes of the process."""
        connection = self._connection()
        self._shown.count = 0
        connection.send(job)
        try:
            beyond = self._beyond_its_limits(job, connection)
            if beyond is not None:
                self._end()
                return beyond
            attempt: Attempt = connection.recv()
        except (EOFError, OSError):
            return self._died(job)
        return attempt

    def _beyond_its_limits(self, job: Job, connection: Connection) -> Attempt | None:
        """Wait for the answer; the attempt of a cell that takes too long or too much memory."""
        assert self._process is not None and self._process.pid is not None
        budget, allowed = str(job.budget or ""), memory_limit(job.cell)
        limit = hard_limit(job.cell)
        end = math.inf if limit is None else time.monotonic() + limit
        while (left := end - time.monotonic()) > 0:
            if connection.poll(_look(left, allowed)):
                return None
            if allowed and (held := resident(self._process.pid)) > allowed:
                return swollen(job.cell, budget, held)
        return ended(job.cell, budget)

    def _connection(self) -> Connection:
        if self._ours is None:
            context = mp.get_context("spawn")
            self._ours, theirs = context.Pipe()
            printed, output = context.Pipe(duplex=False)
            self._process = context.Process(target=serve, args=(theirs, output), daemon=True)
            self._process.start()
            for end in (theirs, output):  # so that the child's end is the end of both
                end.close()
            self._shown = forward(printed)
            self._ours.recv()  # ready: what it imports takes no cell's time
        return self._ours

    def _died(self, job: Job) -> Attempt:
        """A process that somebody killed was lost; one that crashed was crashed by its cell."""
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        self._end()
        if code == -signal.SIGKILL:
            return lost(job.id, KILLED)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        said = f"its process ended {how}, without an answer"
        return Attempt(job.id, "failed", said, budget=str(job.budget or ""))

    def _end(self) -> None:
        process, connection = self._process, self._ours
        self._process = self._ours = None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.join()


def serve(connection: Connection, output: Connection) -> None:
    """Run jobs until the driver has no more, or is gone."""
    take_descriptors(output)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, who ends this process
    try:
        connection.send(None)
        while True:
            job: Job = connection.recv()
            connection.send(job.run())
    except (EOFError, OSError):
        return
