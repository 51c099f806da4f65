"""The headline tables of the page, and the tests behind them."""

from __future__ import annotations

import math
from collections.abc import Callable

from reports.data.comparisons import (
    floor_ratio,
    winners,
)
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, ImageCost, RowGroup, TableCell, TableGrid, TableRow
from reports.text.credibility import credibility_notes
from reports.text.labels import ARROWS, budget_label
from reports.text.numbers import DASH, decimals, fixed, percent, scientific, seconds, short
from reports.text.price import price_note
from reports.text.replication import replication_notes

Made = tuple[Column, Callable[[Entry], TableCell]]
"""A column and what it shows of an entry."""


def headline_grid(summary: Summary, problem: ProblemKey, looks: MethodLooks) -> TableGrid:
    """Every metric with its interval, and what it cost; one group of rows per budget."""
    metrics = summary.metrics(problem)
    made = [
        method_column(looks),
        *(column for metric in metrics for column in _metric(summary, problem, metric)),
        (Column("nfe", "measured paper-nfe per returned sample"), cost_cell),
        *_relative(summary, problem),
        (Column("use", "measured / budget"), use_cell),
        (
            Column("time", "sampling all samples of a cell, without loading and evaluation"),
            time_cell,
        ),
    ]
    return grid_of(summary, problem, made, _notes(summary, problem, metrics))


def grid_of(summary: Summary, problem: ProblemKey, made: list[Made], notes: list[str]) -> TableGrid:
    """A table of a problem's entries, grouped by budget."""
    groups = [
        RowGroup(
            budget_label(budget), [_line(entry, made) for entry in summary.of(problem, budget)]
        )
        for budget in summary.budgets(problem)
    ]
    return TableGrid([column for column, _ in made], groups, notes)


def _line(entry: Entry, made: list[Made]) -> TableRow:
    return TableRow([cell(entry) for _, cell in made], muted=entry.status != "ok")


def method_column(looks: MethodLooks) -> Made:
    """The first column of every table of entries."""
    return Column("method", numeric=False), lambda entry: method_cell(entry, looks)


def method_cell(entry: Entry, looks: MethodLooks) -> TableCell:
    """The method's dot and label, and what kind of row it is."""
    state = entry.status if entry.status != "ok" else "incomplete" if entry.trouble else ""
    tags = grid.unique([entry.about.tag, entry.fit_label, state])
    colour = looks[entry.method].colour
    return grid.text(entry.method, colour=colour, tags=tuple(tags), tip=entry.trouble, code=True)


def _metric(summary: Summary, problem: ProblemKey, metric: str) -> list[Made]:
    """A metric's column, and beside the main distance its multiple of the floor."""
    info = summary.info[metric]
    places = decimals(e.estimate(metric) for e in summary.of(problem))
    tops = winners(summary, problem, metric)
    made_by = f"measured by {info.implementation}, version {info.version}"
    tip = "; ".join(grid.unique([info.summary, made_by]))
    title = f"{metric}\u00a0{ARROWS.get(info.direction, '')}".strip()
    column = Column(title, tip, minor=summary.credibility(problem, metric).accuracy)

    def value(entry: Entry) -> TableCell:
        return grid.estimate_cell(entry.estimate(metric), places, entry in tops)

    def multiple(entry: Entry) -> TableCell:
        ratio = floor_ratio(summary, entry, metric)
        return grid.number(fixed(ratio, 1), ratio)

    floor = Column("× floor", "in multiples of what exact draws score")
    has_floor = info.floor and any(e.is_floor for e in summary.of(problem))
    return [(column, value), (floor, multiple)] if has_floor else [(column, value)]


def _relative(summary: Summary, problem: ProblemKey) -> list[Made]:
    """Without a common budget costs differ: show them in multiples of the cheapest contestant's."""
    free = [e for e in summary.of(problem, "") if e.is_contestant]
    least = min((cost for e in free if (cost := e.mean("paper_nfe")) > 0), default=math.nan)

    def cell(entry: Entry) -> TableCell:
        if entry.budget:
            return grid.number(DASH, math.nan)
        ratio = entry.mean("paper_nfe") / least
        role = "contestant" if entry.is_contestant else "reference"
        return grid.number(short(ratio), ratio, cost=cost_of(entry), relative=role)

    return [(Column("×\u00a0nfe", "in multiples of the cheapest method's"), cell)] if free else []


def cost_cell(entry: Entry) -> TableCell:
    """Measured paper-nfe per sample; the page can add the share of what was done once."""
    own, cost, flops = entry.mean("paper_nfe"), cost_of(entry), entry.mean("flops")
    price = f"{scientific(flops)} FLOPs" if flops > 0 else ""
    if cost is None or not cost.fit + cost.training:
        return grid.number(short(own), own, tip=price)
    parts = {"fit": cost.fit, "training of the map": cost.training}
    once = " and ".join(f"{short(nfe)} for the {part}" for part, nfe in parts.items() if nfe > 0)
    told = "; ".join(filter(None, (price, f"and once {once}, in paper-nfe")))
    return grid.number(short(own), own, cost=cost, tip=told)


def cost_of(entry: Entry) -> ImageCost | None:
    """What the entry costs per sample and once, in paper-nfe; None before anything finished."""
    known = [entry.mean(name) for name in ("paper_nfe", "fit_paper_nfe", "map_paper_nfe")]
    return ImageCost(*known) if all(map(math.isfinite, known)) else None


def use_cell(entry: Entry) -> TableCell:
    """Measured / budget, marked where matching left more than a tenth unused."""
    use = entry.mean("utilisation")
    mark = "† " if entry.underused else ""
    return grid.number(mark + percent(use), use, warn=entry.underused)


def time_cell(entry: Entry) -> TableCell:
    """Sampling seconds of a cell; the tip has what loading and evaluation make of it."""
    value, whole = entry.mean("seconds"), entry.mean("cell_seconds")
    tip = f"{seconds(whole)} with loading and evaluation" if whole > 0 else ""
    return grid.number(seconds(value), value, tip=tip)


def _notes(summary: Summary, problem: ProblemKey, metrics: list[str]) -> list[str]:
    """What the metrics themselves say, and whose rows are incomplete."""
    entries = summary.of(problem)
    said = [note for metric in metrics for note in _said(entries, metric)]
    troubles = [
        f"`{e.method}` at `{budget_label(e.budget)}`: {e.trouble}" for e in entries if e.trouble
    ]
    believed = credibility_notes(summary, problem, metrics)
    ends = [*replication_notes(entries), price_note(entries), underused_note(entries)]
    return grid.unique([*said, *believed, *troubles, *ends])


def underused_note(entries: list[Entry]) -> str:
    """What the dagger means, where there is one."""
    return (
        "† underused: no parameters within the declared ranges use 90 % of the budget"
        if any(entry.underused for entry in entries)
        else ""
    )


def _said(entries: list[Entry], metric: str) -> list[str]:
    found = [e.estimates[metric] for e in entries if metric in e.estimates]
    refused = {f.note for f in found if not f.known}
    return [
        f"`{metric}`{f' ({DASH})' if note in refused else ''}: {note}"
        for note in grid.unique(f.note for f in found)
    ]
