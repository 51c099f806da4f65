"""Memory of a cell: its peak, and freed memory that stays with the worker while it runs.

Workers run many cells, and the kernel's high-water mark is that of the whole life of a process.
Linux lets a process lower its own mark; elsewhere the figure is that of the worker so far.
psutil knows the resident set of the moment and, except on Windows, no peak.

glibc hands the top of its heap back after a step, or does not, by the luck of the heap's layout:
none or 45,000 page faults in one run of the same method, up to a tenth of its time.  For what is
larger than 32 MiB it asks the kernel, and hands it back, each time: half of the time of a step that
weighs 64 posterior draws of 4,096 points.  A worker therefore keeps what is freed, of any size,
until the cell has ended, so that seconds are those of the method.
"""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

from bench.core import accelerator

STATUS, MARKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LOWER_THE_MARK = "5"
"""See proc_pid_clear_refs(5)."""


KEPT = {-1: 2**31 - 1, -4: 0}
"""Values of mallopt(3): M_TRIM_THRESHOLD, the largest there is, and M_MMAP_MAX, which keeps large
blocks in the heap, where the thresholds for a map of its own end at 32 MiB."""


def keep_freed() -> None:
    """Tell glibc not to give freed memory back by itself; elsewhere this does nothing."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    for parameter, value in KEPT.items():
        if tune is not None and tune(parameter, value) != 1:
            raise OSError(f"mallopt({parameter}, {value}) was refused")


def return_freed() -> None:
    """Give back what earlier cells have freed, so that it is in nobody else's peak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_TAKEN_OVER = [0]
"""The peak of an earlier process that this cell goes on from."""


def reset() -> None:
    """Start a new peak."""
    _TAKEN_OVER[0] = 0
    return_freed()
    accelerator.reset_peak()
    with suppress(OSError):  # no /proc, or one that is read-only: the mark stays, as said above
        MARKS.write_text(LOWER_THE_MARK, encoding="ascii")


def peak() -> int:
    """Bytes: the largest of host memory and of device memory since `reset`."""
    return max(_host(), accelerator.peak_bytes(), *_TAKEN_OVER)


def take_over(peak: int) -> None:
    """Count in the peak of a process that made a part of this cell and is gone."""
    _TAKEN_OVER[0] = max(peak, *_TAKEN_OVER)


def _host() -> int:
    if STATUS.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
        if found:
            return 1024 * int(found.group(1))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def resident(process: int) -> int:
    """Bytes of the host's memory that a process holds now; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):  # no /proc, or the process has just ended
        return 0
    return pages * resource.getpagesize()
