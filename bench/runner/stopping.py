"""Ctrl-C, SIGTERM and SIGHUP: a run stops within seconds, and the same command goes on.

Nothing has to be tidied up: whatever a killed driver leaves is a run that can be continued.  So the
first signal interrupts whatever the driver is doing, and a second one ends the process at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bench.core.interrupted import Interrupted

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What asks a driver to stop; not every system has all of them."""

EXIT_CODE = 130
"""Of a command that was stopped, as shells have it for Ctrl-C."""


_asked: list[signal.Signals] = []
_open: list[None] = []


def _stop(number: int, _frame: FrameType | None) -> None:
    if _asked:
        os._exit(EXIT_CODE)
    _asked.append(signal.Signals(number))
    raise KeyboardInterrupt


def go_on() -> None:
    """KeyboardInterrupt if the run was asked to stop and a plugin kept that to itself."""
    if _asked:
        raise KeyboardInterrupt


def listen() -> None:
    """Listen for signals, inside `stoppable`; again after a library put handlers of its own."""
    if _open and threading.current_thread() is threading.main_thread():
        for kind in SIGNALS:
            signal.signal(kind, _stop)


@contextmanager
def stoppable(said: str) -> Iterator[None]:
    """Signals that ask to stop become `Interrupted` with this message, unless it has its own."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {kind: signal.getsignal(kind) for kind in SIGNALS}
        _open.append(None)
        listen()
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(said) from error
    finally:
        _asked.clear()
        _open.clear()
        for kind, handler in before.items():
            signal.signal(kind, handler)
