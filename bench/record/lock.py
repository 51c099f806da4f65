"""One driver per run or sweep: the operating system drops the lock when the driver dies.

What is locked and who did so are two files, since not every system lets others read what is
locked.  A run on a remote file system has no lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bench.core.params import UserError

LOCK, OWNER = "run.lock", "run.owner.json"
"""What is locked, and who holds it, in the folder of a run or of a sweep."""


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Hold the run or the sweep in `folder`; UserError names the driver that holds it already.

    A lock file left by a driver that was killed is taken over: what counts is the lock on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / OWNER
    try:
        held = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"another driver runs '{folder.name}' ({_said(owner)}): wait for it, end it, or "
            "give another --name"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot lock {folder / LOCK} ({error.strerror or error}): remove what is there, or "
            "see that it can be written to, and repeat the command"
        ) from error
    with held:
        with contextlib.suppress(OSError):  # a full disk: what counts is the lock
            owner.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}), "utf-8")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                owner.unlink(missing_ok=True)


def held(folder: Path, what: str = "run") -> bool:
    """Whether a driver holds the run, or the sweep, in `folder` now."""
    file = folder / f"{what}.lock"
    if not file.exists():
        return False
    try:
        with FileLock(file).acquire(blocking=False):
            return False
    except Timeout:
        return True


def _said(owner: Path) -> str:
    try:
        found = json.loads(owner.read_text("utf-8"))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has only just started"
