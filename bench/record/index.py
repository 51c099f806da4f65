"""What a run holds of its cells, read once per command: each cell is listed and read at most once.

The driver is the only writer, so what it saves goes into the index and is never read back.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import Any

import pandas as pd

from bench.core.cells import Cell
from bench.record import layout
from bench.record.attempt import Attempt, MetricRow, Stored
from bench.record.files import RunFiles

Metrics = dict[str, MetricRow]
"""Rows by metric and version."""


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

    def last(self, cell: str) -> Stored | None:
        """The last finished attempt, preferring one that is ok."""
        if cell not in self._last:
            self._last[cell] = self._read_last(cell)
        return self._last[cell]

    def _read_last(self, cell: str) -> Stored | None:
        """An attempt without a result never happened."""
        finished: list[Stored] = []
        for number in reversed(self._attempts(cell)):
            data = self._files.found(layout.attempt(cell, number, layout.RESULT))
            if data is None:
                continue
            finished.append(Stored(number, Attempt.of_result(data)))
            if finished[-1].ok:
                return finished[-1]
        return finished[0] if finished else None

    def _attempts(self, cell: str) -> list[int]:
        """Numbers of the attempts begun, finished or not."""
        if cell not in self._numbers:
            self._numbers[cell] = sorted(map(int, self._files.names(layout.attempts(cell))))
        return self._numbers[cell]

    def metrics(self, cell: str) -> Metrics:
        """What was measured on the last attempt."""
        if cell not in self._metrics:
            self._metrics[cell] = self._read_metrics(cell)
        return self._metrics[cell]

    def _read_metrics(self, cell: str) -> Metrics:
        stored, data = self.last(cell), self._files.found(layout.metrics_file(cell))
        if stored is None or data is None:
            return {}
        known = {f.name for f in fields(MetricRow)}
        kept: dict[str, dict[str, Any]] = json.loads(data)
        return {
            key: MetricRow(**{k: v for k, v in row.items() if k in known})
            for key, row in kept.items()
            if row["attempt"] == stored.number
        }

    def measured(self, cell: str) -> set[str]:
        """Keys of the metrics that the last attempt has; its result says so."""
        stored = self.last(cell)
        told = None if stored is None else stored.attempt.measured
        return set(self.metrics(cell) if told is None else told)

    def samples(self, cell: str) -> bytes:
        """The packed samples of the last attempt."""
        return self._files.read(self._file(cell, layout.SAMPLES))

    def fitted(self, cell: str) -> bytes:
        """The weights that a fit left."""
        return self._files.read(self._file(cell, layout.FITTED))

    def scores(self, cell: str) -> pd.DataFrame | None:
        """Per-sample scores of the last attempt."""
        data = self._files.found(self._file(cell, layout.SCORES))
        return None if data is None else pd.read_parquet(io.BytesIO(data))

    def _file(self, cell: str, name: str) -> str:
        stored = self.last(cell)
        assert stored is not None, f"{cell} has no attempt"
        return layout.attempt(cell, stored.number, name)

    # -- writing ---------------------------------------------------------------------------------

    def save(self, cell: Cell, attempt: Attempt) -> int:
        """Store a finished attempt, its result last; returns its number."""
        number = max(self._attempts(cell.id), default=0) + 1
        self._files.write(layout.cell_file(cell.id), cell.to_json().encode())
        for name, data in _bulk(attempt).items():
            self._files.write(layout.attempt(cell.id, number, name), data)
        metrics = {row.key: row for row in attempt.metrics}
        stored = Stored(number, replace(attempt, **_NO_BULK, measured=tuple(metrics)))
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
        kept = replace(stored.attempt, measured=tuple(metrics))
        self._write_result(cell, replace(stored, attempt=kept))

    def _write_metrics(self, cell: str, metrics: Metrics, number: int) -> None:
        """In the order of their keys, in memory as in the file."""
        self._metrics[cell] = {key: metrics[key] for key in sorted(metrics)}
        rows = {k: {**asdict(r), "attempt": number} for k, r in self._metrics[cell].items()}
        self._files.write(layout.metrics_file(cell), json.dumps(rows, sort_keys=True).encode())

    def _write_result(self, cell: str, stored: Stored) -> None:
        name = layout.attempt(cell, stored.number, layout.RESULT)
        self._files.write(name, stored.attempt.result())
        if _preferred(stored, self.last(cell)):
            self._last[cell] = stored

    def _forget(self, cell: str) -> None:
        """A cell that has ended needs neither checkpoints nor shards any more."""
        self._files.remove(layout.work(cell))


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
