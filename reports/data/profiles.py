"""Performance profiles: in what share of cells a method is as near to the law as asked for.

Distances of different tasks have different units, so each is taken as a share of the base model's
own, its mean under the same condition: 1 is no nearer than where one started.  The profile of a
method is the share of its planned cells (tasks, rewards, conditions, seeds) at or below tau
(Agarwal et al., arXiv 2108.13264); a cell without a result reaches no tau.  The interval is that of
a bootstrap over seeds, none for fewer than five.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from reports.data.aggregates import Aggregate, Values, bootstrapped
from reports.data.run import conditions_of
from reports.data.summary import Entry, ProblemKey, Summary

THRESHOLDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the base model's distance."""

DRAWS = 200

Cell = tuple[ProblemKey, str, int]
"""Problem, condition and seed."""


def shares_left(summary: Summary, budget: str) -> dict[str, Values]:
    """(problems and conditions, seeds) of every contestant at a budget; NaN without a result."""
    found: dict[str, dict[Cell, float]] = defaultdict(dict)
    for problem in summary.problems:
        metric = summary.distance(problem)
        for entry in summary.of(problem, budget) if metric else ():
            base = summary.base(entry)
            if entry.is_contestant and base is not None and base.estimate(str(metric)).known:
                found[entry.method].update(_of_entry(entry, base, str(metric)))
    return {method: _array(cells) for method, cells in found.items()}


def _of_entry(entry: Entry, base: Entry, metric: str) -> Iterator[tuple[Cell, float]]:
    start, values = _means(base, metric), defaultdict(list)
    for row in entry.estimate(metric).rows:
        values[row.condition, row.seed].append(row.value / start.get(row.condition, math.nan))
    cells = zip(conditions_of(entry.cells), entry.cells["seed"], strict=True)
    for condition, seed in ((c, int(s)) for conditions, s in cells for c in conditions):
        own = values.get((condition, seed), [math.nan])
        yield (entry.problem, condition, seed), sum(own) / len(own)


def _means(base: Entry, metric: str) -> Mapping[str, float]:
    """By condition; nothing where the base model is at the law, which no share can be taken of."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in base.estimate(metric).rows:
        found[row.condition].append(row.value)
    means = {condition: sum(values) / len(values) for condition, values in found.items()}
    return {condition: mean for condition, mean in means.items() if mean > 0}


def _array(cells: Mapping[Cell, float]) -> Values:
    keys = list(dict.fromkeys((problem, condition) for problem, condition, _ in cells))
    seeds = sorted({seed for *_, seed in cells})
    return np.array([[cells.get((*key, seed), math.nan) for seed in seeds] for key in keys])


def reached(values: Values, thresholds: Sequence[float] = THRESHOLDS) -> list[Aggregate]:
    """The profile at every threshold, with intervals."""
    return [bootstrapped(lambda stack, at=tau: _share(stack, at), values, draws=DRAWS)
            for tau in thresholds]  # fmt: skip


def _share(stack: Values, tau: float) -> Values:
    shares: Values = (stack <= tau).mean((1, 2))
    return shares
