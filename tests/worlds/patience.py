"""Time limits of an idle machine, on one that is shared."""

from __future__ import annotations

import os


def allowed(seconds: float) -> float:
    """The limit times how many processes wait for each core, of late; itself on an idle machine."""
    waiting = max(os.getloadavg()) / (os.cpu_count() or 1)
    return seconds * max(1.0, waiting)
