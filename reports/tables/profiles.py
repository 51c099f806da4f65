"""In what share of its cells a method is as near to the law as asked for: the profiles' values."""

from __future__ import annotations

import math

from reports.data.aggregates import Aggregate
from reports.data.profiles import THRESHOLDS, reached, shares_left
from reports.data.summary import Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.text.labels import budget_label
from reports.text.numbers import percent, short


def profile_grid(summary: Summary, budgets: list[str], looks: MethodLooks) -> TableGrid | None:
    """A group per budget, over all tasks and rewards; None without a distance and a base model."""
    groups = []
    for budget in budgets:
        found = shares_left(summary, budget)
        lines = [
            TableRow([
                grid.text(method, colour=looks[method].colour, code=True),
                *map(_cell, reached(values)),
                grid.number(str(values.size), values.size),
            ])
            for method, values in found.items()
        ]  # fmt: skip
        groups += [RowGroup(budget_label(budget), lines)] if lines else []
    return TableGrid(COLUMNS, groups, [NOTE]) if groups else None


COLUMNS = [
    Column("method", numeric=False),
    *(
        Column(
            f"≤ {short(tau)}", f"cells with at most {short(tau)} of that distance", better="higher"
        )
        for tau in THRESHOLDS
    ),
    Column("cells", "planned, over all tasks, rewards, conditions and seeds"),
]

NOTE = (
    "share of cells whose distance to the law is at most so much of the base model's own (1: no "
    "nearer than where it started; a cell without a result reaches nothing); ±: 95 % bootstrap "
    "interval over seeds, none for fewer than five"
)


def _cell(found: Aggregate) -> TableCell:
    half = found.high - found.value
    minor = f"± {percent(half)}" if math.isfinite(half) else ""
    return grid.number(percent(found.value), found.value, minor=minor, tip=NOTE if minor else "")
