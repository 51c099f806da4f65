"""One driver per sweep: the operating system holds the lock and drops it when the driver dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from bench.core.params import UserError

NAME = "sweep.lock"


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Hold the sweep in `folder`; UserError names the driver that holds it already.

    A lock file left by a driver that was killed is taken over: what counts is the lock on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(
                f"another driver runs this sweep ({_owner(file.read())}): wait for it, end it, or "
                "give this sweep another --name"
            ) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        file.flush()
        yield


def _owner(text: str) -> str:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return "it has only just started"
    return f"process {found['pid']} on {found['host']}"
