"""A metric by condition: rows of methods, columns of conditions.

The mean of a cell of the map is over the seeds and fits of one method under one condition.  Few
conditions have a column each.  Of many there are two views: all of them in `PARTS` parts of equal
size, from those that are hard for all methods to those that are easy, and by name the
`DIVIDING` ones on which the methods are furthest apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.data.comparisons import deciding
from reports.data.summary import Entry, ProblemKey, Summary

PARTS, DIVIDING = 8, 8
MOST_COLUMNS = PARTS + DIVIDING

Values = NDArray[np.float64]
"""(entries, conditions), NaN where a method has nothing."""


@dataclass(frozen=True)
class ConditionMap:
    """A metric of the entries at one budget, by condition; conditions in order of appearance."""

    metric: str
    direction: str
    entries: tuple[Entry, ...]
    conditions: tuple[str, ...]
    values: Values

    @property
    def many(self) -> bool:
        """Whether conditions are put together."""
        return len(self.conditions) > MOST_COLUMNS

    def columns(self) -> list[tuple[str, list[int]]]:
        """Titles, "" for a condition that is shown by itself, and the places of conditions."""
        if not self.many:
            return [("", [k]) for k in range(len(self.conditions))]
        parts = np.array_split(self.hardest_first(), PARTS)
        named = [(f"{k + 1} of {PARTS}", part.tolist()) for k, part in enumerate(parts)]
        return [*named, *(("", [k]) for k in self.dividing())]

    def hardest_first(self) -> NDArray[np.intp]:
        """Places of the conditions by their mean over those that compete, the worst first."""
        means = _mean(self._compared(), axis=0)
        worst_first = means if self.direction == "higher" else -means
        return np.argsort(np.nan_to_num(worst_first, nan=math.inf), kind="stable")

    def dividing(self) -> list[int]:
        """Places of the conditions on which the best and the worst row are furthest apart."""
        values = self._compared()
        known = ~np.isnan(values)
        high = np.where(known, values, -math.inf).max(0)
        low = np.where(known, values, math.inf).min(0)
        apart = np.where(known.sum(0) > 1, high - low, -math.inf)
        order: list[int] = np.argsort(-apart, kind="stable").tolist()
        return order[:DIVIDING]

    def _compared(self) -> Values:
        """Of contestants, where there are any."""
        rows = [k for k, entry in enumerate(self.entries) if entry.is_contestant]
        return self.values[rows] if rows else self.values

    def mean(self, row: int, places: Sequence[int]) -> float:
        """Of a row over some conditions; NaN where any is missing: others would be compared."""
        return float(self.values[row, list(places)].mean())


def mapped_metrics(summary: Summary, problem: ProblemKey) -> list[str]:
    """What decides, the reward and its judge: those with a value under several conditions."""
    wanted = dict.fromkeys(
        [*deciding(summary, problem)[:1], "reward", *filter(None, [summary.judge(problem)])]
    )
    return [
        m
        for m in wanted
        if summary.has(problem, m)
        and any(len(by_condition(entry, m)) > 1 for entry in summary.of(problem))
    ]


def by_condition(entry: Entry, metric: str) -> Mapping[str, float]:
    """Means over seeds and fits."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in entry.estimate(metric).rows:
        found[row.condition].append(row.value)
    return {condition: sum(values) / len(values) for condition, values in found.items()}


def condition_map(
    summary: Summary, problem: ProblemKey, metric: str, budget: str
) -> ConditionMap | None:
    """The map at a budget; None where no entry has two conditions."""
    rows = [(entry, by_condition(entry, metric)) for entry in summary.of(problem, budget)]
    known = [(entry, values) for entry, values in rows if values]
    conditions = tuple(dict.fromkeys(c for _, values in known for c in values))
    if len(conditions) < 2:
        return None
    grid = np.array([[values.get(c, math.nan) for c in conditions] for _, values in known])
    direction = summary.info[metric].direction
    return ConditionMap(metric, direction, tuple(e for e, _ in known), conditions, grid)


def _mean(values: Values, axis: int) -> Values:
    """Of what is known; NaN where nothing is."""
    count = (~np.isnan(values)).sum(axis)
    total: Values = np.nansum(values, axis)
    return np.where(count > 0, total / np.maximum(count, 1), math.nan)
