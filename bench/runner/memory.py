"""Peak memory of a cell: the process's resident set, and the accelerator's where one is used.

Workers run many cells, and the kernel's high-water mark is that of the whole life of a process.
Linux lets a process lower its own mark; elsewhere the figure is that of the worker so far.
psutil knows the resident set of the moment and, except on Windows, no peak.
"""

from __future__ import annotations

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

from bench.core import accelerator

STATUS, MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LOWER_THE_MARK = "5"
"""See proc_pid_clear_refs(5)."""


def reset() -> None:
    """Start a new peak."""
    accelerator.reset_peak()
    with suppress(OSError):  # no /proc, or one that is read-only: the mark stays, as said above
        MARKS.write_text(LOWER_THE_MARK, encoding="ascii")


def peak() -> int:
    """Bytes: the largest of host memory and of device memory since `reset`."""
    return max(_host(), accelerator.peak_bytes())


def _host() -> int:
    if STATUS.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
        if found:
            return 1024 * int(found.group(1))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
