"""The rows of a run, as trackers other than MLflow know runs: a method at a budget on a problem.

Config are its parameters, the summary means over its cells, the history means over them by step.
Read from the store alone; nothing here knows a tracker's client.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core.cells import digest
from bench.record.store import Store
from bench.tracking.artifacts import (
    Record,
    read_curve,
    read_files,
    read_losses,
    read_records,
)
from bench.tracking.parent import deciding_metrics

MOST_STEPS = 1000
"""Of a history; of a longer one steps at equal distances are kept, the last among them."""

Key = tuple[str, str, float, str, str]
"""Task, reward, strength, budget, label of the method."""


@dataclass(frozen=True)
class TrackedRow:
    """One row of a run.

    records: its cells that have a result.  fits: behind them.  headline: the metric that decides on
    its problem, a distance to the law where there is one; "" where nothing was measured.
    """

    run: str
    key: Key
    records: tuple[Record, ...]
    fits: tuple[str, ...]
    headline: str

    @property
    def id(self) -> str:
        """The same whenever the same row of a run of the same name is exported."""
        return digest([self.run, *self.key])[:16]

    @property
    def name(self) -> str:
        """The method with its parameters as they were asked for."""
        return self.key[-1]

    @property
    def group(self) -> str:
        """What rows are compared within."""
        task, reward, strength, budget, _ = self.key
        asked = reward if strength == 1 else f"{reward} x{strength:g}"
        return f"{task}/{asked}/{budget or 'as given'}"

    @property
    def ok(self) -> bool:
        """Whether any of its cells ended well."""
        return any(record.ok for record in self.records)

    @property
    def tags(self) -> list[str]:
        """By which people filter."""
        task, reward, _, budget, _ = self.key
        method = self.records[0].params["method"]
        state = "" if all(record.ok for record in self.records) else "failed cells"
        return list(dict.fromkeys(filter(None, [self.run, task, reward, method, budget, state])))

    @property
    def config(self) -> dict[str, Any]:
        """Parameters that all cells share, and the seeds and conditions in which they differ."""
        params = [record.params for record in self.records]
        names = dict.fromkeys(name for each in params for name in each)
        found: dict[str, Any] = {"run": self.run, "label": self.name}
        for name in names:
            values = list(dict.fromkeys(each.get(name, "") for each in params))
            if len(values) == 1 and name != "seed":
                found[name] = _value(values[0])
            else:
                found[f"{name}s"] = ", ".join(values)[:500]
        return found | ({"headline": self.headline} if self.headline else {})

    @property
    def summary(self) -> dict[str, float]:
        """Means over the cells that ended well; `deviation/` between them, of two and more."""
        done = [record.metrics for record in self.records if record.ok]
        found = {"cells": float(len(self.records)), "cells_failed": float(self._failed)}
        for name, values in _columns(done).items():
            found[name] = statistics.fmean(values)
            if len(values) > 1 and "/" not in name:
                found[f"deviation/{name}"] = statistics.stdev(values)
        return found | ({"headline": found[self.headline]} if self.headline in found else {})

    @property
    def _failed(self) -> int:
        return sum(not record.ok for record in self.records)


def read_rows(store: Store) -> list[TrackedRow]:
    """Every row of the run's tables that has a result, in their order."""
    records = {record.row: record for record in read_records(store)}
    cells = store.table("cells")
    grouped: dict[Key, list[Mapping[str, Any]]] = {}
    for cell in cells[cells["attempt"].notna()].to_dict("records"):
        key = (
            cell["task"],
            cell["reward"],
            float(cell["strength"]),
            cell["budget"],
            cell["method"],
        )
        grouped.setdefault(key, []).append({str(name): value for name, value in cell.items()})
    deciding = deciding_metrics(store)
    return [
        TrackedRow(
            store.name,
            key,
            tuple(records[f"{cell['cell']}@{cell['budget'] or 'none'}"] for cell in own),
            tuple(dict.fromkeys(cell["fit"] for cell in own if cell.get("fit"))),
            deciding.get(key[:3], ""),
        )
        for key, own in grouped.items()
    ]


def history(store: Store, row: TrackedRow) -> list[tuple[int, dict[str, float]]]:
    """What its methods and its fits logged, by step, means over cells and over fits."""
    points = [
        *(point for record in row.records for point in read_curve(store, record)),
        *(point for fit in row.fits for point in read_losses(store, fit)),
    ]
    by_step: dict[int, dict[str, list[float]]] = {}
    for name, value, step in points:
        by_step.setdefault(step, {}).setdefault(name, []).append(value)
    steps = _some(sorted(by_step))
    return [(k, {n: statistics.fmean(v) for n, v in by_step[k].items()}) for k in steps]


def picture_of(store: Store, row: TrackedRow) -> bytes | None:
    """A PNG of the samples of its first cell that has any."""
    found = (read_files(store, r).get("samples.png") for r in row.records if r.ok)
    return next(filter(None, found), None)


def _some(steps: Sequence[int]) -> list[int]:
    stride = -(-len(steps) // MOST_STEPS)
    return list(steps[::-1][:: stride or 1][::-1])


def _columns(metrics: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name, value in _pairs(metrics):
        found.setdefault(name, []).append(value)
    return found


def _pairs(metrics: Iterable[Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    return (pair for each in metrics for pair in each.items())


def _value(text: str) -> Any:
    """A parameter as what it was, a number or a switch; else its text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, int | float | bool) else text
