"""Jobs that crash, hang, or are killed; a worker imports them from here."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.record.attempt import Attempt
from bench.runner.cell import Job


@dataclass(frozen=True)
class HardJob(Job):
    """Does one thing, and otherwise ends well.

    deed: what.  mark: a file that counts how often it was begun, a byte each.
    """

    deed: str = ""
    mark: Path = Path("/dev/null")

    def run(self) -> Attempt:
        """Do it."""
        with self.mark.open("ab") as file:
            file.write(b"x")
        DEEDS[self.deed](self)
        return Attempt(self.id, "ok")


@dataclass(frozen=True)
class Unopenable(Job):
    """A job whose parcel ends whatever process opens it, before the cell is begun."""

    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (1,)


def _crash_once(job: HardJob) -> None:
    if len(job.mark.read_bytes()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def _hog(_job: HardJob) -> None:
    """Hold more and more memory, for which somebody should end it: 1 GiB a second, to 6 GiB."""
    held = []
    for _ in range(96):
        held.append(b"x" * 2**26)
        time.sleep(0.06)
    del held
    time.sleep(600)


def _flood(_job: HardJob) -> None:
    """A hundred megabytes on both streams, by Python and by the process's own descriptors."""
    line = "x" * 99 + "\n"
    for _ in range(250):
        sys.stdout.write(line * 1000)
        sys.stderr.write(line * 1000)
    sys.stdout.flush()
    for descriptor in (1, 2):
        for _ in range(25):
            os.write(descriptor, line.encode() * 10_000)


DEEDS = {
    "": lambda job: None,
    "segfault": lambda job: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda job: os._exit(7),
    "killed": lambda job: os.kill(os.getpid(), signal.SIGKILL),
    "killed once": _crash_once,
    "hang": lambda job: time.sleep(600),
    "hog": _hog,
    "flood": _flood,
}
