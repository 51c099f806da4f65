"""Which row has which flag, at a glance: methods down, kinds of flags across."""

from __future__ import annotations

from collections.abc import Sequence

from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.tables.headline import method_column
from reports.text.labels import budget_label
from reports.text.reward_hacking import KINDS, Flag

MARKS = ("collapsed", "maximises")


def flag_matrix(
    summary: Summary, problem: ProblemKey, flags: Sequence[Flag], looks: MethodLooks
) -> TableGrid | None:
    """A count per row and kind, with the sentences as tips; None where nothing is flagged."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for flag in flags:
        found.setdefault((flag.method, flag.budget, flag.kind), []).append(flag.text)
    for entry in summary.of(problem):
        for mark in entry.marks:
            found.setdefault((entry.method, entry.budget, mark.kind), []).append(mark.text)
    kinds = [kind for kind in (*MARKS, *KINDS) if any(key[2] == kind for key in found)]
    if not kinds:
        return None
    head, name = method_column(looks)
    groups = [
        RowGroup(budget_label(budget), [
            TableRow([name(e), *(_count(found, e, kind) for kind in kinds)])
            for e in summary.of(problem, budget) if e.is_contestant and len(e.done)
        ])
        for budget in summary.budgets(problem)
    ]  # fmt: skip
    return TableGrid([head, *map(Column, kinds)], [g for g in groups if g.lines], [NOTE])


NOTE = "the number of sentences below that say so; ·: not flagged"


def _count(found: dict[tuple[str, str, str], list[str]], entry: Entry, kind: str) -> TableCell:
    texts = found.get((entry.method, entry.budget, kind), [])
    shown = str(len(texts)) if texts else "·"
    return grid.number(shown, float(len(texts)), warn=bool(texts))
