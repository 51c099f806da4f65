"""What work done once comes to: from how many images on it pays off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

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
    compete.
    """
    entries = [e for e in summary.of(problem) if len(e.done) and not e.is_closed_form]
    found = []
    for with_map, caption in WAYS.items():
        pairs = _differing(entries, with_map)
        crossing = [p for p in pairs if math.isfinite(break_even(*p, with_map=with_map))]
        table = _table(entries, crossing, looks, with_map) if crossing else None
        if pairs and (with_map is False or any(e.mean("map_paper_nfe") > 0 for e in entries)):
            found.append(BreakEven(caption, table, _rest(pairs, crossing)))
    return found


def _differing(entries: list[Entry], with_map: bool) -> Pairs:
    ordered = [
        (b, a) if upfront(a, with_map) < upfront(b, with_map) else (a, b)
        for a, b in combinations(entries, 2)
    ]
    return [(a, b) for a, b in ordered if upfront(a, with_map) > upfront(b, with_map)]


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


def _rest(pairs: Pairs, crossing: Pairs) -> str:
    """How many pairs never cross."""
    rest = [pair for pair in pairs if pair not in crossing]
    if not rest:
        return ""
    level = sum(bool(one.budget) and one.budget == other.budget for one, other in rest)
    matched = f" ({level} of them at one budget)" if level else ""
    return (
        f"Of the {len(pairs)} pairs that differ up front, {len(rest)} never cross{matched}: there "
        "what costs more up front costs no less per image."
    )
