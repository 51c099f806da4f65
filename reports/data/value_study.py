"""What `bench study value --run RUN` kept with a run: estimates of V and grad V against a truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.record import layout
from bench.record.seals import Damage
from reports.data.run import RunTables

FAMILIES = {
    "map": "#0072b2",
    "glass": "#d55e00",
    "sde": "#009e73",
    "gaussian": "#aa4499",
    "exact": "#222222",
}
"""Colour of a family of posterior samplers; `map-4` is of the family `map`."""

OTHER = "#6b4c16"

REFERENCE = "reference"
"""Beginning of the names of rows that compare the truth with itself."""

ERRORS = {
    "V": "rmse",
    "grad V, G": "relative-rmse",
    "grad V, GF": "relative-rmse",
}
"""Of every quantity the statistic that is its error."""

STATISTICS = {*ERRORS.values(), "pearson", "cosine"}
"""Those of one sampler; a study also holds differences between two."""


@dataclass(frozen=True)
class Estimate:
    """A statistic of a sampler's estimates from N draws at a time, and its 95 % interval.

    evaluations: of networks behind one draw.  cost: behind all N, which may share the first.
    """

    t: float
    sampler: str
    evaluations: int
    draws: int
    quantity: str
    statistic: str
    value: float
    low: float
    high: float
    cost: int

    @property
    def of_reference(self) -> bool:
        """Whether it says how well the truth is known, and not how good a sampler is."""
        return self.sampler.startswith(REFERENCE)


@dataclass(frozen=True)
class ValueStudy:
    """A study of one task and reward."""

    task: str
    reward: str
    contexts: int
    truth: str
    estimates: tuple[Estimate, ...]

    @property
    def times(self) -> list[float]:
        """Of the contexts, small ones first."""
        return sorted({one.t for one in self.estimates})

    @property
    def samplers(self) -> list[str]:
        """In the order of the study, without the reference."""
        return list(dict.fromkeys(one.sampler for one in self.estimates if not one.of_reference))

    def errors(self, quantity: str, t: float) -> list[Estimate]:
        """The errors in a quantity at a time."""
        key = (quantity, ERRORS[quantity], t)
        return [one for one in self.estimates if (one.quantity, one.statistic, one.t) == key]


def value_studies(run: RunTables) -> list[ValueStudy]:
    """The studies of a run, by task and reward; what cannot be read is in `run.damaged`."""
    found = [_read(run, path) for path in sorted(run.path.glob(layout.value_study("*")))]
    return sorted((s for s in found if s is not None), key=lambda s: (s.task, s.reward))


def _read(run: RunTables, path: Path) -> ValueStudy | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        known = [row for row in said["rows"] if row["statistic"] in STATISTICS]
        rows = tuple(_estimate(row, said["rows_per_draw"]) for row in known)
        about = str(said["task"]), str(said["reward"]), int(said["contexts"]), str(said["truth"])
    except (ValueError, KeyError, TypeError) as error:
        run.index.damaged.append(Damage(path.name, f"cannot be read ({error})"))
        return None
    return ValueStudy(*about, rows) if rows else None


def _estimate(row: Mapping[str, Any], per_draw: Mapping[str, int]) -> Estimate:
    first, draws, sampler = int(row["evaluations"]), int(row["draws"]), str(row["sampler"])
    return Estimate(
        float(row["t"]), sampler, first, draws, str(row["quantity"]), str(row["statistic"]),
        float(row["value"]), float(row["low"]), float(row["high"]),
        first + (draws - 1) * int(per_draw.get(sampler, first)),
    )  # fmt: skip
