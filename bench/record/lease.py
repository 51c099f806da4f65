"""One driver per run where no operating system holds a lock: a lease, held by renewing it.

The file `driver.lease` is written only where there is none; an object store refuses the second of
two drivers itself (S3: If-None-Match).  Its driver renews it while it lives.  One that was killed
leaves a lease that nobody renews: after EXPIRES seconds of the store's own clock, or at once if its
process is known to be dead, the next driver takes it over.  Clocks jump: before a lease is taken
over for its age it is watched until it would have been renewed, by a clock that only runs on.  Two
drivers that take over the same lease in the same second settle it by reading back whose it is.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from bench.core.params import UserError
from bench.record.files import RunFiles, troubles
from bench.record.lock import driving, held

LEASE, CLOCK = "driver.lease", "driver.clock"
RENEW, EXPIRES = 20.0, 90.0
"""Seconds between two signs of life, and after the last of them until a lease may be taken."""
SETTLE = 1.0
"""Seconds until whoever took over reads back."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease."""

    token: str
    pid: int
    host: str

    @staticmethod
    def here() -> Holder:
        """This process, under a token of its own."""
        return Holder(uuid.uuid4().hex, os.getpid(), platform.node())

    def data(self) -> bytes:
        """As the content of the file."""
        return json.dumps(vars(self)).encode()

    @property
    def dead(self) -> bool:
        """Whether it was a process of this machine that has ended; this one holds what it knows."""
        if self.host != platform.node():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return self.pid == os.getpid() and self.token not in _HELD

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


_HELD: set[str] = set()
"""Tokens of this process."""


def alone(files: RunFiles) -> AbstractContextManager[None]:
    """Hold a run, or a sweep of its name, wherever it lies; UserError says who holds it already."""
    return driving(files.folder) if files.local else leased(files)


@contextmanager
def leased(files: RunFiles) -> Iterator[None]:
    """Hold a run that lies elsewhere; nothing for one on this machine.

    Raises UserError that names the driver that holds it already.
    """
    if files.local:
        yield
        return
    files.open()
    holder = Holder.here()
    _HELD.add(holder.token)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(files, holder, ended), daemon=True)
    try:
        _take(files, holder)
        renewing.start()
        yield
    finally:
        ended.set()
        if renewing.is_alive():
            renewing.join()
        _HELD.discard(holder.token)
        if _holder(files) == holder:
            files.remove(LEASE)


def driven(files: RunFiles) -> bool:
    """Whether somebody drives a run now, wherever it lies."""
    if files.local:
        return held(files.folder)
    holder = _holder(files)
    return holder is not None and not holder.dead and abs(_seconds_silent(files)) < EXPIRES


def _take(files: RunFiles, holder: Holder) -> None:
    """Write the lease, in place of one that nobody holds any more."""
    if files.create(LEASE, holder.data()):
        return
    before = _holder(files)
    if before is not None and not before.dead:
        silent = _seconds_silent(files)
        if 0 <= silent < EXPIRES or _is_renewed(files):
            seen = f"{silent:.0f} s ago" if 0 <= silent < EXPIRES else "just now"
            raise UserError(
                f"another driver runs '{files.name}' ({before}, {seen}): wait for it "
                f"or end it; what a killed one leaves is free after {EXPIRES:.0f} s"
            )
    files.remove(LEASE)
    taken = files.create(LEASE, holder.data())
    time.sleep(SETTLE)
    if not taken or _holder(files) != holder:
        raise UserError(f"another driver has just taken '{files.name}' over: wait for it")


def _is_renewed(files: RunFiles) -> bool:
    """Whether a lease whose stamp is old, or of the future, is renewed within its time."""
    before, end = files.modified(LEASE), time.monotonic() + RENEW + SETTLE
    while time.monotonic() < end:
        time.sleep(min(0.5, RENEW))
        if files.modified(LEASE) != before:
            return True
    return False


def _renew(files: RunFiles, holder: Holder, ended: threading.Event) -> None:
    """Write the lease again, until the driver has ended or somebody else holds it."""
    while not ended.wait(RENEW):
        with suppress(*troubles(), UserError):  # the next renewal may get through
            if _holder(files) != holder:
                return
            files.write(LEASE, holder.data())


def _holder(files: RunFiles) -> Holder | None:
    """Who holds the lease; None where nobody does, or nobody who can be read."""
    data = files.found(LEASE)
    try:
        return None if data is None else Holder(**json.loads(data))
    except (ValueError, TypeError):
        return None


def _seconds_silent(files: RunFiles) -> float:
    """Since the last sign of life, on the clock of the store: that of this machine may differ."""
    files.write(CLOCK, b"")
    now, then = files.modified(CLOCK), files.modified(LEASE)
    files.remove(CLOCK)
    return EXPIRES if now is None or then is None else (now - then).total_seconds()
