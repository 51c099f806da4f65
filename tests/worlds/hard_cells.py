"""Jobs that crash, hang, or are killed; a worker imports them from here."""

from __future__ import annotations

import os
import signal
import time
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


def _crash_once(job: HardJob) -> None:
    if len(job.mark.read_bytes()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


DEEDS = {
    "": lambda job: None,
    "segfault": lambda job: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda job: os._exit(7),
    "killed": lambda job: os.kill(os.getpid(), signal.SIGKILL),
    "killed once": _crash_once,
    "hang": lambda job: time.sleep(600),
}
