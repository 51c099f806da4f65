"""An attempt: everything that running a cell sends back, and how it reads in the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from sys import intern
from typing import Any

from bench.record.seals import Damaged, checksum, sealed, unsealed
from bench.record.statuses import STATUSES

BULK = ("samples", "fitted", "metrics", "scores", "curve", "log")
"""What lies in files of its own beside the result."""

TOLD = ("work", "costs", "info", "machine")
"""What a result tells under names of its own."""

LOST = "WorkerLost"
"""Begins the reason of an attempt whose worker died: it is run again without being asked."""


@dataclass(frozen=True)
class MetricRow:
    """One metric of a cell, with what its class declares; `value` is None where it refused.

    accuracy: how often people choose as a learned judge does, as published, and where.
    condition: under which, in a cell that holds many; "" elsewhere.
    """

    metric: str
    version: str
    implementation: str = ""
    direction: str = "none"
    summary: str = ""
    rank: int = 1000
    measures: str = ""
    floor: bool = False
    value: float | None = None
    standard_error: float | None = None
    n: int = 0
    note: str = ""
    accuracy: str = ""
    accuracy_source: str = ""
    condition: str = ""

    @property
    def measured(self) -> str:
        """Metric and version: what was measured once is not measured again under it."""
        return f"{self.metric}@{self.version}"

    @property
    def key(self) -> str:
        """The same with the condition, of which a cell may hold many."""
        return f"{self.measured} {self.condition}" if self.condition else self.measured

    def lean(self) -> MetricRow:
        """The same, with texts that are in memory once however many rows have them."""
        return MetricRow(**_once(vars(self)))


@dataclass(frozen=True)
class Attempt:
    """How one execution of a cell ended, with all that it made; everything can be pickled.

    work: columns of `Work.flat`, of all samples.  costs: by unit, per returned sample or of the
    whole fit.  scores: per sample, by metric.  curve: scalars by step.  machine: where it ran.
    budget: what was enforced.  warmup: seconds before anything was timed.  measured: keys of the
    metrics that were stored with it; None in records that do not say.  files: checksums of the
    files that were stored beside it, by name; None in records from before there were checksums.
    """

    cell: str
    status: str
    reason: str = ""
    work: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    info: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    machine: Mapping[str, Any] = field(default_factory=dict)
    budget: str = ""
    warmup: float = 0.0
    measured: tuple[str, ...] | None = None
    files: Mapping[str, str] | None = None
    samples: bytes = b""
    fitted: bytes = b""
    metrics: tuple[MetricRow, ...] = ()
    scores: Mapping[str, list[float]] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] = ()
    log: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.status == "ok"

    @property
    def lost(self) -> bool:
        """Whether its worker died, which is nobody's answer."""
        return self.reason.startswith(LOST)

    def lean(self) -> Attempt:
        """The same, with names and texts that are in memory once however many attempts have them.

        Without that they are most of what a run of 100,000 cells takes.
        """
        told: dict[str, Any] = {name: _once(getattr(self, name)) for name in TOLD}
        if self.measured is not None:
            told["measured"] = tuple(map(_shared, self.measured))
        if self.files is not None:
            told["files"] = {_shared(name): checksum for name, checksum in self.files.items()}
        return replace(self, **told, status=_shared(self.status), budget=_shared(self.budget))

    def result(self) -> bytes:
        """JSON of everything but the bulk, with its checksum."""
        return sealed({f.name: getattr(self, f.name) for f in fields(self) if f.name not in BULK})

    @staticmethod
    def of_result(data: bytes) -> Attempt:
        """The inverse of `result`; fields of other versions of the schema are left out.

        Raises Damaged where the data are no result, or not the one that was written.
        """
        content, seal = unsealed(data)
        if seal is None and "files" in content:
            raise Damaged("lacks its checksum")
        known = {f.name for f in fields(Attempt)}
        kept = {k: v for k, v in content.items() if k in known}
        _refuse_implausible(kept)
        return Attempt(**kept).lean()


def _once(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and texts of a record as the one string that every equal one is."""
    return {_shared(key): _shared(value) for key, value in content.items()}


def _shared(value: Any) -> Any:
    return intern(value) if type(value) is str else value


def _refuse_implausible(content: Mapping[str, Any]) -> None:
    """Raise Damaged unless the fields that everything reads are what they should be."""
    told = [content.get(name, {}) for name in TOLD]
    measured, files = content.get("measured"), content.get("files")
    texts = [content.get(name, "") for name in ("cell", "reason", "budget")]
    times = [content.get(name, 0.0) for name in ("seconds", "warmup")]
    good = (
        content.get("status") in STATUSES
        and "cell" in content
        and all(isinstance(each, dict) for each in told)
        and all(isinstance(each, str) for each in texts)
        and all(isinstance(each, int | float) for each in times)
        and all(isinstance(v, int | float) for each in told[:2] for v in each.values())
        and (measured is None or (isinstance(measured, list) and _are_texts(measured)))
        and (files is None or (isinstance(files, dict) and _are_texts(files.values())))
    )
    if not good:
        raise Damaged("is no result of a cell")


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(each, str) for each in values)


def lost(cell: str, why: str) -> Attempt:
    """The attempt of a cell whose worker died."""
    return Attempt(cell, "failed", f"{LOST}: {why}")


@dataclass(frozen=True)
class Stored:
    """A finished attempt of the record, under its number; the bulk stays in its files.

    seal: checksum of its result, which changes with everything that is stored of it.
    """

    number: int
    attempt: Attempt
    seal: str = ""

    @property
    def ok(self) -> bool:
        return self.attempt.ok

    @staticmethod
    def read(number: int, cell: str, data: bytes) -> Stored:
        """The attempt of a cell that a result holds; raises Damaged."""
        attempt = Attempt.of_result(data)
        if attempt.cell != cell:
            raise Damaged(f"is the result of another cell, {attempt.cell!r}")
        return Stored(number, attempt, checksum(data))

    @property
    def verified(self) -> bool:
        """Whether there are checksums that vouch for it."""
        return self.attempt.files is not None
