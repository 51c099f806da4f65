"""What other seeds would say of the order: one table per problem, of what decides.

The aggregates are those of `data.aggregates` and `data.ranking`; rows with a mark, and what knows
the closed form, do not take part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reports.data.aggregates import Aggregate, bootstrapped, improvements, interquartile_means
from reports.data.comparisons import best_entry, deciding, fair_entries, unmarked
from reports.data.ranking import RankStability, rank_stability
from reports.data.resampling import Values
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.tables.headline import method_cell
from reports.text.labels import budget_label
from reports.text.numbers import DASH, percent, short

DRAWS = 200
"""Of the bootstrap: the error of an error is then a twentieth."""

LIKELY = 0.9
"""Ranks are given as the shortest range that holds a row's rank with this probability."""


def stability_grid(summary: Summary, problem: ProblemKey, looks: MethodLooks) -> TableGrid | None:
    """Of the largest budget of every unit; None where no two rows have two seeds in common."""
    metric = next(iter(deciding(summary, problem)), "")
    if not metric:
        return None
    direction = summary.info[metric].direction
    groups, notes = [], []
    for budget in largest(summary.budgets(problem)):
        entries = unmarked(fair_entries(summary.of(problem, budget), metric))
        stable = rank_stability(entries, metric, direction)
        if stable is None:
            continue
        best = best_entry((e for e in entries if e.is_baseline), metric, direction)
        lines = [
            TableRow([method_cell(e, looks), *_cells(stable, k, best, metric, direction)])
            for k, e in enumerate(stable.entries)
        ]
        groups.append(RowGroup(f"{budget_label(budget)}, by {metric}", lines))
        notes.append(_tau(budget, stable))
    return TableGrid(_columns(metric, direction), groups, [*NOTES, *notes]) if groups else None


def largest(budgets: list[str]) -> list[str]:
    """The last of every unit; they are sorted."""
    return list({budget.partition("=")[0]: budget for budget in budgets}.values())


def _columns(metric: str, direction: str) -> list[Column]:
    return [
        Column("method", numeric=False),
        Column("interquartile mean", f"of {metric}, over seeds and conditions", better=direction),
        Column("better than the best baseline", "probability that a run of it is", better="higher"),
        Column("the best", "probability of being the best row", better="higher"),
        Column("rank", f"the range that holds it with probability {LIKELY:.0%}", better="lower"),
    ]


NOTES = (
    "interquartile mean: the mean of the middle half of all values (Agarwal et al., 2021); ±: 95 % "
    "bootstrap interval over seeds, none for fewer than five seeds; that of the probability of "
    "being better is too wide, and covers 98 to 99 %",
    "the best and rank: over 4,000 draws of what the means might have been, shrunk towards one "
    "another, on the seeds that all rows have",
)


def _tau(budget: str, stable: RankStability) -> str:
    return (
        f"`{budget_label(budget)}`: Kendall's tau of the order seen and that on other seeds is "
        f"{stable.tau:.2f} on average (1: the same order, 0: any)"
    )


def _cells(
    stable: RankStability, k: int, baseline: Entry | None, metric: str, direction: str
) -> list[TableCell]:
    entry, chance = stable.entries[k], stable.chance[k]
    middle = bootstrapped(interquartile_means, _values(entry, metric), draws=DRAWS)
    first, last = likely_ranks(chance)
    ranks = f"{first}" if first == last else f"{first} to {last}"
    return [
        _aggregate(middle, short(middle.value)),
        _improved(entry, baseline, metric, direction),
        grid.number(percent(float(chance[0])), float(chance[0])),
        grid.number(ranks, first + last / 1000),
    ]


def _improved(entry: Entry, baseline: Entry | None, metric: str, direction: str) -> TableCell:
    if baseline is None or baseline is entry:
        return grid.number(DASH, math.nan, tip="this is the best baseline" if baseline else "")
    shared = sorted({r.condition for r in entry.estimate(metric).rows}
                    & {r.condition for r in baseline.estimate(metric).rows})  # fmt: skip
    if not shared:
        return grid.number(DASH, math.nan, tip="no condition in common")
    pair = [_values(e, metric, shared) for e in (entry, baseline)]
    found = bootstrapped(lambda a, b: improvements(a, b, direction), *pair, draws=DRAWS)
    return _aggregate(found, percent(found.value), tip=f"than `{baseline.method}`", share=True)


def _aggregate(found: Aggregate, text: str, tip: str = "", share: bool = False) -> TableCell:
    half = found.high - found.value
    shown = percent(half) if share else short(half)
    minor = f"± {shown}" if math.isfinite(half) else ""
    return grid.number(text, found.value, minor=minor, tip=tip)


def _values(entry: Entry, metric: str, conditions: Sequence[str] = ()) -> Values:
    """(conditions, repetitions); NaN where a cell has no value."""
    rows = entry.estimate(metric).rows
    names = list(conditions) or sorted({r.condition for r in rows})
    keys = sorted({(r.seed, r.fit) for r in rows})
    at = {(r.condition, (r.seed, r.fit)): r.value for r in rows}
    return np.array([[at.get((name, key), math.nan) for key in keys] for name in names])


def likely_ranks(chance: np.ndarray) -> tuple[int, int]:
    """First and last rank, from 1, of the shortest range of probability `LIKELY` or more."""
    total = np.concatenate([[0.0], np.cumsum(chance)])
    count = len(chance)
    ranges = [
        (i + 1, j)
        for width in range(1, count + 1)
        for i in range(count - width + 1)
        for j in [i + width]
        if total[j] - total[i] >= LIKELY - 1e-9
    ]
    return min(ranges, key=lambda found: (found[1] - found[0], found[0]), default=(1, count))
