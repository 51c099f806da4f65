"""What work done once comes to: from how many samples on it pays off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

from reports.data.comparisons import deciding, unmarked
from reports.data.statistics import difference
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.compute import break_even, upfront
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.tables.headline import method_cell
from reports.text.labels import budget_label
from reports.text.numbers import DASH, scientific, short

WAYS = {False: "Counting the fit alone", True: "Counting the training of the map too"}

Pairs = list[tuple[Entry, Entry]]
"""The first costs more up front."""


@dataclass(frozen=True)
class BreakEven:
    """One way of counting: the pairs that cross, and what there is to say about the others."""

    caption: str
    table: TableGrid | None
    rest: str


def break_evens(summary: Summary, problem: ProblemKey, looks: MethodLooks) -> list[BreakEven]:
    """Any two methods at any two budgets, without and with the training of the map.

    A way in which no two of them differ up front is left out; what knows the closed form does not
    compete, nor what is marked; and nothing is called paid off against samples that are clearly
    better in what decides.
    """
    entries = [e for e in unmarked(summary.of(problem)) if len(e.done) and not e.is_closed_form]
    metric = next(iter(deciding(summary, problem)), "")
    lower = bool(metric) and summary.info[metric].direction == "lower"
    noun, found = summary.noun(problem), []
    for with_map, caption in WAYS.items():
        pairs = _differing(entries, with_map)
        costs = [p for p in pairs if math.isfinite(break_even(*p, with_map=with_map))]
        crossing = [p for p in costs if not (metric and _clearly_worse(*p, metric, lower))]
        table = _table(entries, crossing, looks, with_map) if crossing else None
        if pairs and (with_map is False or any(e.mean("map_paper_nfe") > 0 for e in entries)):
            found.append(BreakEven(caption, table, _rest(pairs, costs, crossing, metric, noun)))
    return found


def _clearly_worse(one: Entry, other: Entry, metric: str, lower: bool) -> bool:
    """Whether the interval of the difference lies on the wrong side of 0."""
    a, b = one.estimate(metric), other.estimate(metric)
    if not (a.known and b.known):
        return False
    gap = difference(a, b, as_drawn=True)
    worse = gap.mean if lower else -gap.mean
    return math.isfinite(gap.half) and worse > gap.half


def _differing(entries: list[Entry], with_map: bool) -> Pairs:
    once = [(entry, upfront(entry, with_map)) for entry in entries]
    pairs = combinations(once, 2)
    return [(b, a) if x < y else (a, b) for (a, x), (b, y) in pairs if x < y or x > y]


def _table(entries: list[Entry], crossing: Pairs, looks: MethodLooks, with_map: bool) -> TableGrid:
    """Who has a cost to recover, by row, from whom, by column."""
    ones, others = ({pair[i] for pair in crossing} for i in (0, 1))
    columns = [e for e in entries if e in others]
    heads = [Column(e.method, over=f"than at {budget_label(e.budget)}") for e in columns]
    groups = [
        RowGroup(
            f"at {budget_label(budget)}",
            [
                TableRow([method_cell(e, looks), *(_cell(e, other, with_map) for other in columns)])
                for e in entries
                if e in ones and e.budget == budget
            ],
        )
        for budget in dict.fromkeys(e.budget for e in entries if e in ones)
    ]
    return TableGrid([Column("method", numeric=False), *heads], groups)


def _cell(one: Entry, other: Entry, with_map: bool) -> TableCell:
    if upfront(one, with_map) == upfront(other, with_map):
        return grid.number("·", math.nan, tip="the same cost up front")
    value = break_even(one, other, with_map)
    if math.isnan(value):
        return grid.number(DASH, value)
    if not 0 < value < math.inf:
        return TableCell("never" if value else "always", sort=value if value == 0 else 1e300)
    first = math.floor(value) + 1
    return grid.number(short(first) if first < 1e7 else scientific(first), first, tip=f"{first:,}")


def _rest(pairs: Pairs, costs: Pairs, crossing: Pairs, metric: str, noun: str) -> str:
    """How many pairs never cross, and how many cross that are not of one quality."""
    parts = []
    crossed = {(id(one), id(other)) for one, other in costs}
    never = [pair for pair in pairs if (id(pair[0]), id(pair[1])) not in crossed]
    if never:
        level = sum(bool(one.budget) and one.budget == other.budget for one, other in never)
        matched = f" ({level} of them at one budget)" if level else ""
        parts.append(
            f"Of the {len(pairs)} pairs that differ up front, {len(never)} never cross{matched}: "
            f"there what costs more up front costs no less per {noun}."
        )
    if len(costs) > len(crossing):
        parts.append(
            f"{len(costs) - len(crossing)} more cross, but to samples that are clearly worse in "
            f"{metric}, and are left out."
        )
    return " ".join(parts)
