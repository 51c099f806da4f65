"""What is worth its cost: the rows that nothing cheaper equals, in every unit of compute.

Row i is on the front where no row that costs no more is better,

    better(m_i, m_j) for all j with c_j <= c_i,

over all budgets of a problem, for contestants without a mark; a maximiser would hold the dear end
of every front of rewards.  Means are uncertain and costs are counted, so a row is on the front with
a probability: its share of the draws of what the means might have been (`resampling`, the seeds
that all rows have).  The work of a fit, done once, is not in the cost of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.units import UNITS
from reports.data.comparisons import fair_entries, unmarked
from reports.data.resampling import plausible_means, shared_seeds
from reports.data.summary import Entry, ProblemKey, Summary

DRAWS = 1000


@dataclass(frozen=True)
class OnFront:
    """A row on the front by its means, its cost in the unit, and how probable that is."""

    entry: Entry
    cost: float
    chance: float


def competing(summary: Summary, problem: ProblemKey, metric: str) -> list[Entry]:
    """Contestants with a value and without a mark, at all budgets."""
    return [e for e in unmarked(fair_entries(summary.of(problem), metric)) if e.is_contestant]


def fronts(
    summary: Summary, problem: ProblemKey, metric: str, direction: str
) -> dict[str, list[OnFront]]:
    """By unit, cheapest first; without units that nothing was counted in."""
    entries = competing(summary, problem, metric)
    draws = _draws(entries, metric)
    found = {unit: _front(entries, metric, direction, unit, draws) for unit in UNITS}
    return {unit: front for unit, front in found.items() if front}


def _draws(entries: Sequence[Entry], metric: str) -> NDArray[np.float64] | None:
    """(draws, rows); None where the rows have no two seeds in common."""
    values = shared_seeds([e.estimate(metric) for e in entries])
    some = values.ndim == 2 and values.shape[1] > 1
    return plausible_means(values, DRAWS) if some else None


def _front(
    entries: Sequence[Entry],
    metric: str,
    direction: str,
    unit: str,
    draws: NDArray[np.float64] | None,
) -> list[OnFront]:
    costs = np.array([e.cost(unit) for e in entries])
    known = np.flatnonzero(costs > 0).tolist()
    if not known:
        return []
    means = np.array([entries[k].estimate(metric).mean for k in known])
    on = undominated(costs[known], means[None], direction)[0]
    nothing = np.full(len(known), math.nan)
    chance = nothing if draws is None else (
        undominated(costs[known], draws[:, known], direction).mean(0)
    )  # fmt: skip
    rows = zip(known, chance, on, strict=True)
    found = [OnFront(entries[k], float(costs[k]), float(c)) for k, c, there in rows if there]
    return sorted(found, key=lambda row: row.cost)


def undominated(
    costs: NDArray[np.float64], values: NDArray[np.float64], direction: str
) -> NDArray[np.bool_]:
    """Of (draws, rows) values with (rows,) costs: who is as good as all that cost no more."""
    signed = -values if direction == "higher" else values
    order = np.argsort(costs, kind="stable")
    best = np.minimum.accumulate(signed[:, order], axis=1)
    last = np.searchsorted(costs[order], costs, side="right") - 1
    found: NDArray[np.bool_] = signed <= best[:, last]
    return found
