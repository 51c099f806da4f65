"""Would the conclusion be another one if failures counted, or if compute were counted otherwise?

Failed cells: a comparison leaves out, on both sides, what failed on one.  Here every cell of an
entry that was planned and has no finite value counts as the worst value that any entry has in the
same condition: a method that fails where it is hard cannot gain by it.

Units of compute: a budget makes methods equal in one unit.  In another unit their costs differ, and
each method's metric is read, between its own budgets (linear in the logarithm of the cost), at the
largest cost that all of them reach; a method is not continued beyond its budgets, so that one whose
smallest budget is dearer is out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.core.units import UNITS
from reports.data.comparisons import fair_entries, leading, unmarked, winner
from reports.data.replicates import NO_FIT, Row
from reports.data.run import conditions_of
from reports.data.statistics import mean_of
from reports.data.summary import Entry, ProblemKey, Summary


@dataclass(frozen=True)
class Conclusion:
    """Who leads, and whether clearly."""

    leader: str
    clear: bool


@dataclass(frozen=True)
class FailureSensitivity:
    """The conclusion from what both have, the one with failures as the worst, and who failed."""

    as_compared: Conclusion
    failures_worst: Conclusion
    failed: tuple[tuple[str, int, int], ...]
    """Label, cells without a value, cells planned."""

    @property
    def holds(self) -> bool:
        """Whether both say the same."""
        return self.as_compared == self.failures_worst


def failure_sensitivity(
    entries: Sequence[Entry], metric: str, direction: str
) -> FailureSensitivity | None:
    """Of the entries at one budget; None without a direction or two entries with a value."""
    fair = fair_entries(entries, metric)
    first = _conclusion(fair, metric, direction)
    if first is None or len(fair) < 2:
        return None
    filled = [with_failures(e, fair, metric, direction) for e in fair]
    second = _conclusion(filled, metric, direction)
    assert second is not None
    lost = [(e.method, _missing(e, metric), len(e.cells)) for e in fair]
    return FailureSensitivity(first, second, tuple(one for one in lost if one[1]))


def _conclusion(entries: Sequence[Entry], metric: str, direction: str) -> Conclusion | None:
    top = leading(entries, metric, direction)
    if top is None:
        return None
    return Conclusion(top.method, winner(entries, metric, direction) is not None)


def _missing(entry: Entry, metric: str) -> int:
    return len(entry.cells) - len(entry.estimate(metric).rows)


def with_failures(entry: Entry, entries: Sequence[Entry], metric: str, direction: str) -> Entry:
    """The entry with its failed cells as the worst value that anybody has in their condition."""
    found = entry.estimate(metric)
    absent = _absent(entry, found.rows)
    rows = [Row(c, s, _worst(c, entries, metric, direction), fit=fit) for c, s, fit in absent]
    estimate = mean_of([*found.rows, *rows], found.sentences, found.note)
    return replace(entry, estimates={**entry.estimates, metric: estimate})


def _absent(entry: Entry, rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Condition, seed and fit of the cells without a value.

    Of several fits that share a seed those that are not there; of a fit for every seed a new one.
    """
    cells = zip(conditions_of(entry.cells), entry.cells["seed"], strict=True)
    planned = Counter((c, int(s)) for conditions, s in cells for c in conditions)
    fits = {row.fit for row in rows}
    there = {(row.condition, row.seed, row.fit) for row in rows}
    if len(fits) > 1 and max(planned.values()) == 1:
        seen = {(c, s) for c, s, _ in there}
        lost = [key for key in planned if key not in seen]
        return [(c, s, max(fits) + 1 + k) for k, (c, s) in enumerate(lost)]
    every = [
        (c, s, fit)
        for (c, s), count in planned.items()
        for fit in ([NO_FIT] if fits == {NO_FIT} else range(count))
    ]
    return [cell for cell in every if cell not in there]


def _worst(condition: str, entries: Sequence[Entry], metric: str, direction: str) -> float:
    rows = [row for e in entries for row in e.estimate(metric).rows]
    here = [row.value for row in rows if row.condition == condition]
    known = here or [row.value for row in rows]
    return min(known) if direction == "higher" else max(known)


@dataclass(frozen=True)
class UnitSensitivity:
    """Who leads at equal cost in every unit; None where no cost is common to two methods.

    spread: by how much the costs of the methods differ in that unit where the budget says they are
    equal, the largest over the smallest.
    """

    leaders: dict[str, str | None]
    spread: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether every unit that can say names the same leader."""
        return len({name for name in self.leaders.values() if name}) <= 1


def unit_sensitivity(
    summary: Summary, problem: ProblemKey, metric: str, direction: str
) -> UnitSensitivity:
    """The leader at equal cost, by unit, over all budgets of a problem."""
    budgets = [fair_entries(summary.of(problem, b), metric) for b in summary.budgets(problem)]
    competing = [[e for e in unmarked(entries) if e.is_contestant] for entries in budgets]
    units = [name for name in UNITS if any(e.cost(name) > 0 for es in competing for e in es)]
    return UnitSensitivity(
        {unit: _leader(competing, metric, direction, unit) for unit in units},
        {unit: max(_cost_ratios(competing, unit)) for unit in units},
    )


def _cost_ratios(budgets: Sequence[Sequence[Entry]], unit: str) -> list[float]:
    """The dearest over the cheapest, of every budget that costs anything."""
    costs = [[cost for e in entries if (cost := e.cost(unit)) > 0] for entries in budgets]
    return [max(found) / min(found) for found in costs if found]


def _leader(
    budgets: Sequence[Sequence[Entry]], metric: str, direction: str, unit: str
) -> str | None:
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in (e for entries in budgets for e in entries):
        if (cost := entry.cost(unit)) > 0:
            point = (math.log(cost), entry.estimate(metric).mean)
            curves.setdefault(entry.method, []).append(point)
    if len(curves) < 2:
        return None
    ends = [(min(points)[0], max(points)[0]) for points in curves.values()]
    at = min(high for _, high in ends)
    reached = {m: sorted(p) for m, p in curves.items() if min(p)[0] <= at + 1e-9}
    if len(reached) < 2:
        return None
    values = {m: float(np.interp(at, *np.transpose(points))) for m, points in reached.items()}
    pick = max if direction == "higher" else min
    return pick(values, key=lambda method: values[method])
