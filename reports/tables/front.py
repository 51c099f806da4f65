"""The rows that nothing cheaper equals, in every unit: the text of the figure of fronts."""

from __future__ import annotations

import math

from bench.core.units import UNITS
from reports.data.comparisons import deciding
from reports.data.front import OnFront, fronts
from reports.data.summary import ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableGrid, TableRow
from reports.tables.headline import method_cell
from reports.text.labels import ARROWS, budget_label
from reports.text.numbers import DASH, decimals, percent, scientific, seconds, short

Fronts = dict[str, dict[str, list[OnFront]]]
"""By metric and unit."""


def metric_fronts(summary: Summary, problem: ProblemKey) -> Fronts:
    """Of the metric that decides and of the reward."""
    metrics = dict.fromkeys([*deciding(summary, problem)[:1], "reward"])
    directed = [m for m in metrics if summary.has(problem, m) and summary.info[m].direction in WAYS]
    made = {m: fronts(summary, problem, m, summary.info[m].direction) for m in directed}
    return {metric: found for metric, found in made.items() if found}


WAYS = ("higher", "lower")


def front_grid(summary: Summary, found: Fronts, looks: MethodLooks) -> TableGrid | None:
    """A group per metric and unit; None where nothing has a cost."""
    groups = [
        RowGroup(
            f"{metric} {ARROWS[summary.info[metric].direction]} against {unit}",
            [_line(row, metric, unit, looks) for row in rows],
        )
        for metric, by_unit in found.items()
        for unit, rows in by_unit.items()
    ]
    return TableGrid(COLUMNS, groups, [NOTE]) if groups else None


COLUMNS = [
    Column("method", numeric=False),
    Column("budget", numeric=False),
    Column("cost", "per returned sample, in the unit of the group", better="lower"),
    Column("value", "mean with its 95 % interval"),
    Column("on the front", "probability, over draws of what the means might be", better="higher"),
]

NOTE = (
    "on the front: no row without a mark that costs no more is better; its probability is over the "
    "seeds that all rows have, and a dash where there are no two of them; what a fit costs once is "
    "not in the cost of a sample"
)


def _line(row: OnFront, metric: str, unit: str, looks: MethodLooks) -> TableRow:
    value = row.entry.estimate(metric)
    chance = percent(row.chance) if math.isfinite(row.chance) else DASH
    return TableRow([
        method_cell(row.entry, looks),
        grid.text(budget_label(row.entry.budget)),
        grid.number(cost_text(row.cost, unit), row.cost),
        grid.estimate_cell(value, decimals([value])),
        grid.number(chance, row.chance),
    ])  # fmt: skip


def cost_text(cost: float, unit: str) -> str:
    """In the unit's own words."""
    if UNITS[unit].timed:
        return seconds(cost)
    return scientific(cost) if cost >= 1e6 else short(cost)
