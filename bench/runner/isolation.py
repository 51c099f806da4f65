"""A cell leaves its process as it found it, whatever its plugins did to what is global.

Workers run many cells.  A default dtype, a grad mode, a working directory or a variable of the
environment that one plugin sets would decide the numbers of the next cell, on this worker alone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.core.seeding import seeded


def _nothing(_before: Any, _after: Any) -> str:
    return ""


@dataclass(frozen=True)
class Global:
    """What belongs to the whole process: how it is read, put back, and what of it changed."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    which: Callable[[Any, Any], str] = _nothing


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # somebody removed it
        return None


OF_LIBRARIES = ("KMP_", "TORCHINDUCTOR_", "TRITON_")
"""Variables that scikit-learn and PyTorch set for themselves when they are imported."""


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(OF_LIBRARIES)}


def _set_environment(before: Mapping[str, str]) -> None:
    for name in _environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _variables(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Names of variables that differ; their values may be secret."""
    names = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
    return f" ({', '.join(names[:5])})"


def _set_device(before: torch.device) -> None:
    # No default device is faster than one that is the CPU.
    torch.set_default_device(None if before.type == "cpu" else before)


def _handlers() -> dict[signal.Signals, Any]:
    return {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}


def _set_handlers(before: Mapping[signal.Signals, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for kind, handler in before.items():
            signal.signal(kind, handler)


GLOBALS: dict[str, Global] = {
    "the default dtype": Global(torch.get_default_dtype, torch.set_default_dtype),
    "the default device": Global(torch.get_default_device, _set_device),
    "the grad mode": Global(torch.is_grad_enabled, torch.set_grad_enabled),
    "the number of threads": Global(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": Global(
        torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    ),
    "the precision of products": Global(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "NumPy's handling of errors": Global(np.geterr, lambda before: np.seterr(**before)),
    "the working directory": Global(_working_directory, os.chdir),
    "the environment": Global(_environment, _set_environment, _variables),
    "the search path of modules": Global(
        lambda: list(sys.path), lambda before: sys.path.__setitem__(slice(None), before)
    ),
    "the handlers of signals": Global(_handlers, _set_handlers),
}
"""What is put back after every cell, by what it is called."""


class Changes(list[str]):
    """What was found changed."""

    def __str__(self) -> str:
        return f"a plugin changed {', '.join(self)}; put back" if self else ""


@contextmanager
def isolated(label: str) -> Iterator[Changes]:
    """Global generators seeded by the label; afterwards everything global is as it was before.

    Yields what was changed, which is known at the end.
    """
    before, changes = {name: each.read() for name, each in GLOBALS.items()}, Changes()
    with seeded(label):
        try:
            yield changes
        finally:
            for name, value in before.items():
                if (now := GLOBALS[name].read()) != value:
                    changes.append(name + GLOBALS[name].which(value, now))
                    with suppress(OSError):  # the directory was removed
                        GLOBALS[name].write(value)
