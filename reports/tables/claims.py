"""A claim's pairs of rows as a table, the least favourable first."""

from __future__ import annotations

import math

from reports.data.verdicts import OUTCOMES, Evidence, Verdict
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.text.labels import budget_label
from reports.text.numbers import short

MOST = 12
"""Pairs of a claim that the page shows; `bench claims` has them all."""


def evidence_grid(verdict: Verdict) -> TableGrid | None:
    """None for a claim that was not measured."""
    if not verdict.evidence:
        return None
    pairs = sorted(verdict.evidence, key=_place)
    more = len(pairs) - MOST
    left = [f"{more} more pairs are in `bench claims RUN --json`"] if more > 0 else []
    notes = list(dict.fromkeys(e.note for e in pairs[:MOST] if e.note))
    group = RowGroup("", [TableRow(_cells(e)) for e in pairs[:MOST]])
    return TableGrid(_columns(verdict), [group], [*notes, *left])


def _place(found: Evidence) -> tuple[int, float]:
    order = {"does not hold": 0, "cannot be told": 1, "holds": 2}
    low = found.low if math.isfinite(found.low) else -math.inf
    return order.get(found.outcome, len(OUTCOMES)), low


def _columns(verdict: Verdict) -> list[Column]:
    metric = verdict.claim.metric
    return [
        Column("where", numeric=False),
        Column("row", numeric=False),
        Column("against", numeric=False),
        Column(metric, "of the row"),
        Column("of the other", f"{metric} of the row it is held against"),
        Column("advantage", "above 0 where the claim holds", better="higher"),
        Column("95 %", "interval of the advantage"),
        Column("k", "repetitions: seeds, fits or prompts"),
        Column("says", numeric=False),
    ]


def _cells(found: Evidence) -> list[TableCell]:
    ends = f"{short(found.low)} to {short(found.high)}" if math.isfinite(found.low) else "–"
    return [
        grid.text(f"{found.problem.title}, {budget_label(found.budget)}"),
        grid.text(found.row, code=True),
        grid.text(found.other, code=bool(found.other)),
        grid.number(short(found.value), found.value),
        grid.number(short(found.against), found.against),
        grid.number(short(found.advantage), found.advantage),
        grid.number(ends, found.low),
        grid.number(str(found.repetitions or "–"), found.repetitions),
        grid.text(found.outcome),
    ]
