"""Errors of value estimates: the text of their figure."""

from __future__ import annotations

import math

from reports.data.value_study import ERRORS, Estimate, ValueStudy
from reports.figures.value_study import colour_of
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.text.numbers import fixed, rows

PLACES = 3
TIP = "95 % interval over contexts"


def value_grid(study: ValueStudy) -> TableGrid:
    """A group per time, a row per sampler and N, a column per quantity."""
    asked = {quantity for one in study.estimates for quantity in [one.quantity]}
    quantities = [q for q in ERRORS if q in asked]
    columns = [
        Column("sampler", numeric=False),
        Column("N", "draws of the posterior behind an estimate"),
        Column("evaluations", "of networks behind an estimate", better="lower"),
        *(Column(f"{q}: {ERRORS[q]}", TIP, "error", better="lower") for q in quantities),
    ]
    groups = [
        RowGroup(f"t = {t:g}", [_line(found, quantities) for found in _rows(study, t)])
        for t in study.times
    ]
    return TableGrid(columns, groups, _notes(study))


def _rows(study: ValueStudy, t: float) -> list[dict[str, Estimate]]:
    """By quantity, of every sampler and number of draws."""
    found: dict[tuple[str, int], dict[str, Estimate]] = {}
    for quantity in ERRORS:
        for one in study.errors(quantity, t):
            found.setdefault((one.sampler, one.draws), {})[quantity] = one
    return list(found.values())


def _line(found: dict[str, Estimate], quantities: list[str]) -> TableRow:
    first = next(iter(found.values()))
    colour = "" if first.of_reference else colour_of(first.sampler)
    return TableRow([
        grid.text(first.sampler, colour=colour, code=True),
        grid.number(str(first.draws), first.draws),
        grid.number(rows(first.cost), first.cost),
        *(_error(found.get(quantity)) for quantity in quantities),
    ])  # fmt: skip


def _error(one: Estimate | None) -> TableCell:
    if one is None or not math.isfinite(one.value):
        return grid.number("", math.nan)
    ends = f"{fixed(one.low, PLACES)} to {fixed(one.high, PLACES)}"
    return grid.number(fixed(one.value, PLACES), one.value, minor=ends, tip=TIP)


def _notes(study: ValueStudy) -> list[str]:
    compared = any(one.of_reference for one in study.estimates)
    return grid.unique([
        f"against {study.truth}, {study.contexts} contexts per time; intervals are over contexts",
        "V is the value function log E[e^r(x1) | x_t], G its gradient by differentiating rewards, "
        "GF without; a relative error of 1 is what an estimate of 0 has",
        "reference/2: one half of the reference against the other; no sampler can be expected to "
        "be nearer to it" if compared else "",
    ])  # fmt: skip
