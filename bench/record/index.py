"""What a run holds of its cells, read once per command: each cell is listed and read at most once.

The driver is the only writer, so what it saves goes into the index and is never read back.
What is damaged counts as if it had never been stored, and is listed in `damaged`; the driver sets
it aside.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from sys import intern
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetFile
from safetensors import SafetensorError

from bench.core.cells import Cell
from bench.record import layout
from bench.record.attempt import Attempt, MetricRow, Stored
from bench.record.files import RunFiles
from bench.record.seals import Damage, Damaged, checksum, sealed, unsealed, verified

T = TypeVar("T")

Metrics = dict[str, MetricRow]
"""Rows by metric, version and, in a cell of many, condition."""


class Index:
    """The cells of a run.

    Args:
        files: the run's files.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._numbers: dict[str, list[int]] = {}
        self._last: dict[str, Stored | None] = {}
        self._metrics: dict[str, Metrics] = {}
        self._void: set[tuple[str, int]] = set()
        self._aside = 0
        self.damaged: list[Damage] = []
        """What was found to be damaged, in the order in which it was read."""

    def last(self, cell: str) -> Stored | None:
        """The last finished attempt, preferring one that is ok."""
        if cell not in self._last:
            self._last[cell] = self._read_last(cell)
        return self._last[cell]

    def _read_last(self, cell: str) -> Stored | None:
        """An attempt without a result never happened."""
        finished: list[Stored] = []
        for number in reversed(self._attempts(cell)):
            found = self._read_attempt(cell, number)
            if found is None:
                continue
            finished.append(found)
            if found.ok:
                return found
        return finished[0] if finished else None

    def _read_attempt(self, cell: str, number: int) -> Stored | None:
        name = layout.attempt(cell, number, layout.RESULT)
        data = None if (cell, number) in self._void else self._files.found(name)
        if data is None:
            return None
        try:
            return Stored.read(number, cell, data)
        except Damaged as damage:
            self.damaged.append(Damage(name, str(damage)))
            return None

    def _attempts(self, cell: str) -> list[int]:
        """Numbers of the attempts begun, finished or not."""
        if cell not in self._numbers:
            names = self._files.names(layout.attempts(cell))
            self._numbers[cell] = sorted(int(name) for name in names if name.isdecimal())
        return self._numbers[cell]

    def metrics(self, cell: str) -> Metrics:
        """What was measured on the last attempt."""
        if cell not in self._metrics:
            self._metrics[cell] = self._read_metrics(cell)
        return self._metrics[cell]

    def _read_metrics(self, cell: str) -> Metrics:
        stored, name = self.last(cell), layout.metrics_file(cell)
        data = None if stored is None else self._files.found(name)
        if stored is None or (data is None and not stored.attempt.measured):
            return {}
        try:
            rows = _metric_rows(_present(data), stored.number)
            found = {f"{row.metric}@{row.version}" for row in rows.values()}
            if not found >= set(stored.attempt.measured or ()):
                raise Damaged("lacks metrics that were measured")
            return rows
        except Damaged as damage:
            self.damaged.append(Damage(name, str(damage)))
            # What is gone counts as never measured: it is measured again.
            bare = replace(stored.attempt, measured=())
            self._last[cell] = replace(stored, attempt=bare, seal="")
            return {}

    def measured(self, cell: str) -> set[str]:
        """Keys of the metrics that the last attempt has; its result says so."""
        stored = self.last(cell)
        told = None if stored is None else stored.attempt.measured
        return set(_measured(self.metrics(cell)) if told is None else told)

    def samples(self, cell: str) -> bytes:
        """The packed samples of the last attempt; raises Damaged, and the attempt is void."""
        return self._bulk_of(cell, layout.SAMPLES)

    def fitted(self, cell: str) -> bytes:
        """The weights that a fit left; raises Damaged, and the fit is void."""
        return self._bulk_of(cell, layout.FITTED)

    def scores(self, cell: str) -> pa.Table | None:
        """Per-sample scores of the last attempt; raises Damaged, and the attempt is void.

        A table of Arrow: to make a frame of each takes ten times longer than to read them all.
        """
        data = self._files.found(self._file(cell, layout.SCORES))
        if data is None and layout.SCORES not in (self._last_files(cell) or ()):
            return None
        try:
            found = self._checked(cell, layout.SCORES, data)
            # One thread: to start some takes longer than to read a few columns.
            return ParquetFile(pa.BufferReader(found)).read(use_threads=False)
        except (OSError, ValueError) as error:  # pyarrow's are both
            raise self.void(cell, layout.SCORES, str(error)) from error

    def beside(self, cell: str, number: int, name: str) -> bytes | None:
        """A file beside the result of an attempt; None where it is missing or damaged.

        For pictures and curves of a page, which do without; nothing is computed from them.
        """
        stored, file = self.last(cell), layout.attempt(cell, number, name)
        files = stored.attempt.files if stored is not None and stored.number == number else None
        told, data = None if files is None else files.get(name), self._files.found(file)
        try:
            return data if data is None and told is None else verified(_present(data), told)
        except Damaged as damage:
            self.damaged.append(Damage(file, str(damage)))
            return None

    def read_beside(
        self, cell: str, number: int, name: str, read: Callable[[bytes], T]
    ) -> T | None:
        """What `read` makes of a file beside a result; None where it is missing or damaged.

        In a record from before there were checksums damage shows only here.
        """
        data = self.beside(cell, number, name)
        try:
            return None if data is None else read(data)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            why = f"cannot be read ({str(error).partition(chr(10))[0]})"
            self.damaged.append(Damage(layout.attempt(cell, number, name), why))
            return None

    def curve(self, cell: str, number: int) -> pd.DataFrame | None:
        """What an attempt logged, with its `step`s; None where it is missing or damaged."""
        return self.read_beside(cell, number, layout.CURVE, _curve)

    def _bulk_of(self, cell: str, name: str) -> bytes:
        try:
            return self._checked(cell, name, self._files.found(self._file(cell, name)))
        except Damaged as damage:
            raise self.void(cell, name, str(damage)) from damage

    def _checked(self, cell: str, name: str, data: bytes | None) -> bytes:
        files = self._last_files(cell)
        return verified(_present(data), None if files is None else files.get(name))

    def _last_files(self, cell: str) -> Mapping[str, str] | None:
        """Checksums of the files of the last attempt."""
        stored = self.last(cell)
        return None if stored is None else stored.attempt.files

    def void(self, cell: str, name: str, why: str) -> Damaged:
        """A file of the last attempt is damaged: the attempt counts as if it never happened."""
        stored = self.last(cell)
        assert stored is not None, f"{cell} has no attempt"
        self.damaged.append(Damage(layout.attempt(cell, stored.number, name), why))
        self._void.add((cell, stored.number))
        del self._last[cell]
        self._metrics.pop(cell, None)
        return Damaged(f"{name} of {cell} {why}")

    @property
    def unverified(self) -> int:
        """Attempts among those read so far that no checksum vouches for."""
        return sum(s is not None and s.ok and not s.verified for s in self._last.values())

    def _file(self, cell: str, name: str) -> str:
        stored = self.last(cell)
        assert stored is not None, f"{cell} has no attempt"
        return layout.attempt(cell, stored.number, name)

    # -- writing ---------------------------------------------------------------------------------

    def save(self, cell: Cell, attempt: Attempt) -> int:
        """Store a finished attempt, its result last; returns its number."""
        number = max(self._attempts(cell.id), default=0) + 1
        self._files.write(layout.cell_file(cell.id), cell.to_json().encode())
        bulk = _bulk(attempt)
        for name, data in bulk.items():
            self._files.write(layout.attempt(cell.id, number, name), data)
        metrics = {row.key: row for row in attempt.metrics}
        files = {name: checksum(data) for name, data in bulk.items()}
        kept = replace(attempt, **_NO_BULK, measured=_measured(metrics), files=files)
        stored = Stored(number, kept.lean())
        if _preferred(stored, self.last(cell.id)):
            self._write_metrics(cell.id, metrics, number)
        self._write_result(cell.id, stored)
        self._numbers[cell.id] = [*self._attempts(cell.id), number]
        if not attempt.lost:  # what its worker left is gone on from
            self._forget(cell.id)
        return number

    def add_metrics(self, cell: str, rows: Iterable[MetricRow]) -> None:
        """Add what was measured later on the last attempt; other rows stay."""
        stored = self.last(cell)
        assert stored is not None, f"{cell} has no attempt"
        metrics = self.metrics(cell) | {row.key: row for row in rows}
        self._write_metrics(cell, metrics, stored.number)
        kept = replace(stored.attempt, measured=_measured(metrics))
        self._write_result(cell, replace(stored, attempt=kept))

    def _write_metrics(self, cell: str, metrics: Metrics, number: int) -> None:
        """In the order of their keys, in memory as in the file."""
        self._metrics[cell] = {intern(key): metrics[key].lean() for key in sorted(metrics)}
        rows = {k: {**asdict(r), "attempt": number} for k, r in self._metrics[cell].items()}
        self._files.write(layout.metrics_file(cell), sealed(rows))

    def _write_result(self, cell: str, stored: Stored) -> None:
        name, data = layout.attempt(cell, stored.number, layout.RESULT), stored.attempt.result()
        self._files.write(name, data)
        stored = replace(stored, seal=checksum(data))
        if _preferred(stored, self.last(cell)):
            self._last[cell] = stored

    def set_aside(self) -> list[Damage]:
        """Rename what was found damaged since the last call, so that nobody reads it again."""
        new, self._aside = self.damaged[self._aside :], len(self.damaged)
        void = [layout.attempt(cell, number, layout.RESULT) for cell, number in self._void]
        # The result first: without it the attempt never happened, whatever else is left of it.
        files = [damage.file for damage in new if damage.file.startswith(layout.CELLS)]
        for name in dict.fromkeys([*void, *files]):
            self._files.set_aside(name)
        for cell, stored in list(self._last.items()):
            if stored is not None and layout.metrics_file(cell) in files:
                self._write_result(cell, stored)
        return new

    def forget_ended(self) -> None:
        """Remove what cells left whose driver was killed right after their attempt was stored."""
        for cell in self._files.names(layout.WORK):
            stored = self.last(cell)
            if stored is not None and not stored.attempt.lost:
                self._forget(cell)

    def _forget(self, cell: str) -> None:
        """A cell that has ended needs neither checkpoints nor shards any more."""
        self._files.remove(layout.work(cell))


def _curve(data: bytes) -> pd.DataFrame:
    """A curve from its file; raises ValueError for a table of something else."""
    frame = pd.read_parquet(io.BytesIO(data))
    if "step" not in frame:
        raise ValueError("it has no steps")
    return frame


def _present(data: bytes | None) -> bytes:
    """The data of a file that has to be there; raises Damaged."""
    if data is None:
        raise Damaged("is missing")
    return data


def _metric_rows(data: bytes, number: int) -> Metrics:
    """The rows of an attempt in a file of metrics; raises Damaged."""
    content, seal = unsealed(data)
    known = {f.name for f in fields(MetricRow)}
    try:
        return {
            intern(key): MetricRow(**{k: v for k, v in row.items() if k in known}).lean()
            for key, row in content.items()
            if row["attempt"] == number
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise Damaged("holds no metrics" if seal is None else "is of another version") from error


def _measured(metrics: Metrics) -> tuple[str, ...]:
    """Metrics and versions of rows."""
    return tuple(dict.fromkeys(row.measured for row in metrics.values()))


def _preferred(new: Stored, before: Stored | None) -> bool:
    """Whether a new attempt takes the place of the last: never a bad one that of a good one."""
    return new.ok or before is None or not before.ok


_NO_BULK: dict[str, Any] = {
    "samples": b"",
    "fitted": b"",
    "metrics": (),
    "scores": {},
    "curve": (),
    "log": "",
}


def _bulk(attempt: Attempt) -> dict[str, bytes]:
    """The files beside a result, by name; what an attempt lacks is no file."""
    files = {
        layout.SAMPLES: attempt.samples,
        layout.FITTED: attempt.fitted,
        layout.CURVE: parquet(pd.DataFrame(list(attempt.curve))) if attempt.curve else b"",
        layout.SCORES: parquet(pd.DataFrame(dict(attempt.scores))) if attempt.scores else b"",
        layout.LOG: attempt.log.encode(),
    }
    return {name: data for name, data in files.items() if data}


def parquet(frame: pd.DataFrame) -> bytes:
    """A frame as the bytes of a file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
