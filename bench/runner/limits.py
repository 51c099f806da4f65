"""When a cell is ended from outside, since it does not stop by itself.

A cell's `seconds` are kept by its meter, between calls; a method that sleeps or loops without a
call never hears of them.  `resources: {limit: 600, memory: 4GiB}` is kept by whoever runs the cell:
its process is ended after so many seconds, or when it holds so much of the host's memory.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.core.cells import Cell
from bench.record.attempt import Attempt
from bench.runner.memory import resident

GRACE = 300.0
"""Seconds for loading weights and for measuring, which a cell's `seconds` leave out."""


def hard_limit(cell: Cell) -> float | None:
    """Seconds after which a cell's process is ended: those of its resources, or by its `seconds`.

    None for a cell that says neither.
    """
    said = cell.resources.get("limit")
    if said is not None or cell.seconds is None:
        return said
    return 2 * cell.seconds + GRACE


def ended(cell: Cell, budget: str) -> Attempt:
    """The attempt of a cell that was ended at its hard limit."""
    said = f"its process was ended after {hard_limit(cell) or 0:g} s: it did not stop by itself"
    return Attempt(cell.id, "timeout", said, budget=budget)


LOOK = 0.05
"""Seconds between two looks at the memory of a process."""

GIB = 2.0**30


def memory_limit(cell: Cell) -> float | None:
    """Bytes of the host's memory that a cell's process may hold; None where nobody said."""
    return cell.resources.get("memory") or None


def swollen(cell: Cell, budget: str, held: float) -> Attempt:
    """The attempt of a cell whose process was ended for the memory that it held."""
    allowed = memory_limit(cell) or 0.0
    more = math.ceil(100 * held / GIB) / 100  # or 1.501 would be "1.50, more than the 1.50"
    said = (
        f"its process held {more:.2f} GiB of memory, more than the {allowed / GIB:.2f} GiB "
        "of its resources, and was ended: raise `resources: {memory: ...}` or lower `batch`, then "
        "repeat the command with --retry-failed"
    )
    return Attempt(cell.id, "failed", said, budget=budget)


@contextmanager
def bounded(cell: Cell, budget: str, tell: Callable[[Attempt], None]) -> Iterator[None]:
    """End this process, after telling so, when it holds more memory than its cell may.

    The watch is a thread, so that the memory of a call which keeps the interpreter to itself is
    seen after the call.
    """
    limit, ended = memory_limit(cell), threading.Event()
    if limit is None:
        yield
        return

    def watch() -> None:
        while not ended.wait(LOOK):
            if (held := resident(os.getpid())) > limit:
                tell(swollen(cell, budget, held))
                os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
