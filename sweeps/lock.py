"""One driver per sweep: the operating system holds the lock and drops it when the driver dies."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bench.core.params import UserError

LOCK, OWNER = "sweep.lock", "sweep.owner.json"
"""What is locked, and who did: apart, since not every system lets others read what is locked."""


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Hold the sweep in `folder`; UserError names the driver that holds it already.

    A lock file left by a driver that was killed is taken over: what counts is the lock on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / OWNER
    try:
        held = FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"another driver runs this sweep ({_said(owner)}): wait for it, end it, or "
            "give this sweep another --name"
        ) from None
    with held:
        owner.write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}), "utf-8")
        try:
            yield
        finally:
            owner.unlink(missing_ok=True)


def _said(owner: Path) -> str:
    try:
        found = json.loads(owner.read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return "it has only just started"
    return f"process {found['pid']} on {found['host']}"
