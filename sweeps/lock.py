"""One driver per sweep; see `bench.record.lock`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from bench.record import lock

OWNER = "sweep.owner.json"
"""Says who holds the sweep in this folder."""


def driving(folder: Path) -> AbstractContextManager[None]:
    """Hold the sweep in `folder`; UserError names the driver that holds it already."""
    return lock.driving(folder, "sweep")
