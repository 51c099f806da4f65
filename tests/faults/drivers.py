"""A driver in a process of its own, to which something happens at one of its writes.

Where it happens is counted in syncs and renames of files, so that a seed finds the same place on a
fast machine and on a slow one.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.interrupted import Interrupted
from bench.runner.stopping import EXIT_CODE, stoppable

Deed = Callable[[], None]
"""What happens; called in the driver."""

LONGEST = 900.0
"""Seconds after which a driver hangs."""


@dataclass(frozen=True)
class End:
    """How a driver ended: its exit code (minus a signal's number), and what was said of it."""

    code: int
    said: str

    @property
    def whole(self) -> bool:
        """Whether it ran to its end."""
        return self.code == 0


def at_once(number: signal.Signals) -> Deed:
    """The driver receives a signal."""
    return lambda: os.kill(os.getpid(), number)


def driven(drive: Callable[[], object], deed: Deed | None = None, after: int = 0) -> End:
    """Drive a run in a process to which `deed` happens at its `after`-th operation on files.

    Raises AssertionError for a driver that hangs, or that ends with an exception: a run that is
    stopped says so, and nothing else of this is the user's to mend.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os._exit(_drive(drive, deed, after, write))
    os.close(write)
    try:
        code = _waited(child)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    said = b"".join(iter(lambda: os.read(read, 4096), b"")).decode()
    os.close(read)
    assert code in (0, EXIT_CODE, -signal.SIGKILL), f"the driver ended with {code}: {said}"
    return End(code, said)


def _waited(child: int) -> int:
    """The exit code of a process; AssertionError if it takes too long."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    raise AssertionError(f"a driver did not end within {LONGEST:g} s")


def _drive(drive: Callable[[], object], deed: Deed | None, after: int, said: int) -> int:
    """The life of a driver; returns its exit code."""
    if deed is not None:
        _let_happen(deed, after, said)
    try:
        with stoppable("stopped"):
            drive()
    except Interrupted:
        return EXIT_CODE
    except BaseException:
        os.write(said, traceback.format_exc().encode())
        return 1
    return 0


def _let_happen(deed: Deed, after: int, said: int) -> None:
    """Let `deed` happen in the `after`-th sync or rename of this process."""
    left = [after]

    def counting(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any) -> Any:
            left[0] -= 1
            if left[0] == -1:
                what = Path(given[1]).name if name == "rename" else "a file"
                os.write(said, f"{name} of {what}".encode())
                deed()
            return own(*given)

        return operation

    os.fsync = counting("sync", os.fsync)
    Path.replace = counting("rename", Path.replace)  # type: ignore[method-assign]


# -- a cluster ------------------------------------------------------------------------------------


class Head:
    """A cluster of two cores on this machine, kept by a process of its own.

    This process never joins it, so that drivers may be forked from it.
    """

    def __enter__(self) -> Head:
        self._ours, theirs = os.pipe()
        read, write = os.pipe()
        self._keeper = os.fork()
        if self._keeper == 0:
            os.close(self._ours), os.close(write)
            os._exit(_keep(theirs, read))
        os.close(theirs), os.close(read)
        self._end = write
        self.address, raylet = os.read(self._ours, 4096).decode().split()
        self.raylet = int(raylet)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        os.waitpid(self._keeper, 0)
        os.close(self._ours)

    def a_worker_dies(self) -> None:
        """One of the processes that compute cells is killed, if there is one now."""
        for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
            with suppress(OSError):
                words = (process / "stat").read_text().rpartition(")")[2].split()
                named = (process / "cmdline").read_bytes()
                if int(words[1]) == self.raylet and named.startswith(b"ray::CellTrainable"):
                    os.kill(int(process.name), signal.SIGKILL)
                    return


def _keep(said: int, until: int) -> int:
    """Start a cluster, say where, and end it when nobody holds the other end of `until`."""
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        (raylet,) = made.head_node.all_processes["raylet"]
        os.write(said, f"{made.address} {raylet.process.pid}".encode())
        while os.read(until, 1):
            pass
    finally:
        made.shutdown()
    return 0
