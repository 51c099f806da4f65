"""What a cell made until it ended, and how: errors of a method become statuses, never exceptions,
so that one bad cell does not end a suite.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.metering import OverBudget, TimeIsUp
from bench.core.returned import BadReturn, plain_numbers
from bench.core.secrets import redacted
from bench.core.units import UNITS
from bench.core.work import Work
from bench.record.attempt import LOST, MetricRow
from bench.runner import memory


@dataclass(frozen=True)
class CellEnding:
    """With which status a cell ended, why, and what its log keeps."""

    status: str = "ok"
    reason: str = ""
    log: str = ""


GOOD = CellEnding()

GONE = CellEnding("failed", f"{LOST}: another worker of the fit has ended")
"""Of a worker that waits for one that does not come."""

STOPPED: dict[type[Exception], str] = {
    OverBudget: "over_budget",
    TimeIsUp: "timeout",
    FloatingPointError: "diverged",
    BadReturn: "failed",
}
"""Errors that are an answer; every other one is a failure, with its traceback."""

LONGEST = 2000
"""Characters of a reason; the log has all of it."""


def ended_by(error: BaseException) -> CellEnding:
    """The ending that an error is."""
    for kind, status in STOPPED.items():
        if isinstance(error, kind):
            return CellEnding(status, said_by(error))
    log = storable("".join(traceback.format_exception(error)))
    return CellEnding("failed", f"{type(error).__name__}: {said_by(error)}", log)


def ends_process(error: BaseException) -> bool:
    """Whether an error ends this process, rather than a plugin that would like to.

    Ctrl-C, and what Ray raises in a worker that it stops.
    """
    if not isinstance(error, SystemExit):
        return isinstance(error, KeyboardInterrupt)
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "ray" in Path(frames[-1].filename).parts


def said_by(error: BaseException) -> str:
    """The message of an error that anybody may have written, as a text that can be stored."""
    try:
        said = str(error)
    except Exception:
        said = "(its message cannot be read)"
    said = storable(said)  # whole: the half of a secret is not known as one
    return said if len(said) <= LONGEST else f"{said[:LONGEST]} ..."


def storable(text: str) -> str:
    """A text without secrets, in which what is no Unicode is written out."""
    return redacted(text.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True)
class CellResult:
    """What a cell made, until it ended; the fields are those of an `Attempt`."""

    ending: CellEnding = GOOD
    work: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, float] = field(default_factory=dict)
    warmup: float = 0.0
    samples: bytes = b""
    fitted: bytes = b""
    metrics: tuple[MetricRow, ...] = ()
    scores: Mapping[str, list[float]] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] = ()


class Curve(list[Mapping[str, float]]):
    """Scalars as a method logs them, a row a step."""

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
        self.append({"step": int(step), **plain_numbers(scalars, "the method logged")})


def spent(work: Work, per: int) -> tuple[dict[str, float], dict[str, float]]:
    """Work in rows, and in every unit: per returned sample, or of a whole fit."""
    rows = {**work.flat(), "peak_bytes": float(memory.peak())}
    return rows, {unit: work.cost(unit) / per for unit in UNITS}
