"""What a cell occupies while it runs: `resources: {gpu: 0.5, cpu: 2, memory: 16GiB}` in a suite.

Ray schedules by it; nothing of it decides the samples.  `rows: 64` bounds the posterior draws that
are scored or differentiated at once, for a card that others use as well.  `limit: 600` ends the
process of a cell that has not ended after so many seconds, whatever it does, and `memory: 16GiB`
that of a cell which holds more of the host's memory.  A part of a card lets several cells share it.
Cells on the CPU take no card, whatever a suite says for those that have one.  `workers: 4` lets
four processes share each batch of a fit, each with these resources to itself; with `fsdp: true`
they share the trained weights as well, of which each then holds a quarter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from bench.core.cells import Cell
from bench.core.params import UserError

BYTES = {"": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def read_resources(given: Any) -> dict[str, float]:
    """{"cpu": 1.0, "gpu": 0.5, "memory": bytes, "rows": 64.0} of what is given, or a UserError."""
    if not isinstance(given, dict) or not set(given) <= set(READERS):
        raise UserError(
            f"resources are a mapping of {', '.join(list(READERS)[:-1])} and {list(READERS)[-1]}: "
            "{gpu: 0.5, memory: 16GiB}"
        )
    found = {name: READERS[name](value) for name, value in given.items()}
    if found.get("workers", 1) > 1 and found.get("gpu", 1) < 1:
        raise UserError("resources: workers of a fit take a whole card each: leave gpu out")
    if found.get("fsdp") and found.get("workers", 1) == 1:
        raise UserError("resources: fsdp divides weights among workers: give workers as well")
    return found


SHARING = ("workers", "fsdp")
"""What says how a fit is shared."""


def workers_of(cell: Cell) -> int:
    """How many workers share the fit; 1 for a cell that samples."""
    return int(cell.resources.get("workers", 1)) if cell.part == "fit" else 1


def divides_weights(cell: Cell) -> bool:
    """Whether the workers of a fit hold a part each of what it trains."""
    return workers_of(cell) > 1 and bool(cell.resources.get("fsdp"))


def unshared(resources: Mapping[str, float]) -> dict[str, float]:
    """The same where fits are not shared: what runs side by side are the trials of a sweep."""
    return {name: value for name, value in resources.items() if name not in SHARING}


WAITING = 2.0**26
"""Bytes of memory that Ray sets aside for a process that waits for the workers of its fit."""


def requested(cell: Cell) -> dict[str, float]:
    """What Ray sets aside for a cell, in Ray's names: for a fit that is shared, only what waits."""
    return of_worker(cell) if workers_of(cell) == 1 else {"memory": WAITING}


def of_worker(cell: Cell) -> dict[str, float]:
    """What one process of a cell takes: by default its threads, and a whole card."""
    on_card = cell.device != "cpu"
    asked = {
        "CPU": cell.resources.get("cpu", float(cell.threads)),
        "GPU": cell.resources.get("gpu", 1.0) if on_card else 0.0,
        "memory": cell.resources.get("memory", 0.0),
    }
    return {name: amount for name, amount in asked.items() if amount or name == "CPU"}


def _count(name: str) -> Any:
    def read(value: Any) -> float:
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not known or not (value >= 0 and math.isfinite(value)) or (value > 1 and value % 1):
            raise UserError(f"resources: {name} is a part of one or a whole number, not {value!r}")
        return float(value)

    return read


def _bytes(value: Any) -> float:
    found = re.fullmatch(
        r"([0-9.]+(?:e[0-9]+)?)\s*([KMG]I?B)?", str(value).upper().replace("E", "e")
    )
    if found is None:
        raise UserError(f"resources: memory is a size such as 16GiB, not {value!r}")
    return float(found[1]) * BYTES[found[2] or ""]


def _whole(name: str) -> Any:
    def read(value: Any) -> float:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UserError(f"resources: {name} is a whole number from 1, not {value!r}")
        return float(value)

    return read


def _limit(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not (value > 0 and math.isfinite(value)):
        raise UserError(f"resources: limit is a number of seconds above 0, not {value!r}")
    return float(value)


def _switch(name: str) -> Any:
    def read(value: Any) -> float:
        if not isinstance(value, bool):
            raise UserError(f"resources: {name} is true or false, not {value!r}")
        return float(value)

    return read


READERS = {
    "cpu": _count("cpu"),
    "gpu": _count("gpu"),
    "memory": _bytes,
    "rows": _whole("rows"),
    "limit": _limit,
    "workers": _whole("workers"),
    "fsdp": _switch("fsdp"),
}
