"""The headline tables of the page, and the tests behind them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from reports.data.comparisons import floor_ratio, winners
from reports.data.marks import RULES
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, ImageCost, RowGroup, TableCell, TableGrid, TableRow
from reports.text.credibility import credibility_notes
from reports.text.labels import ARROWS, budget_label, listed
from reports.text.numbers import DASH, decimals, fixed, percent, scientific, seconds, short
from reports.text.price import price_note
from reports.text.replication import replication_notes

Made = tuple[Column, Callable[[Entry], TableCell]]
"""A column and what it shows of an entry."""


def headline_grid(summary: Summary, problem: ProblemKey, looks: MethodLooks) -> TableGrid:
    """Every metric with its interval, and what it cost; one group of rows per budget."""
    metrics = _by_subject(summary, problem)
    made = [
        _marked_column(looks),
        *(column for metric in metrics for column in _metric(summary, problem, metric)),
        (Column("nfe", "measured paper-nfe per returned sample", COST, better="lower"), cost_cell),
        *_relative(summary, problem),
        (Column("use", "measured / budget", COST), use_cell),
        (
            Column("time", "sampling, per returned sample; without loading", COST, better="lower"),
            latency_cell,
        ),
    ]
    return grid_of(summary, problem, made, _notes(summary, problem, metrics))


SUBJECTS = {
    "distance": "distance to the law",
    "target": "reward and judges",
    "judge": "reward and judges",
    "": "reward and judges",
    "diversity": "diversity",
    "shift": "shift from the base model",
    "drift": "what pictures look like",
    "disagreement": "what pictures look like",
    "tilt": "what pictures look like",
}
"""Headings over metrics, by what they speak of, in the order of the columns."""

FOLDED = ("shift from the base model", "what pictures look like")
"""Headings whose columns no decision rests on."""

COST = "cost per returned sample"


def _by_subject(summary: Summary, problem: ProblemKey) -> list[str]:
    """What decides first: the distances, then reward and judges, then the rest."""
    order = list(dict.fromkeys(SUBJECTS.values()))
    return sorted(summary.metrics(problem), key=lambda m: order.index(_subject(summary, m)))


def _subject(summary: Summary, metric: str) -> str:
    return SUBJECTS.get(summary.info[metric].measures, SUBJECTS[""])


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
    marks = [mark.kind for mark in entry.marks]
    tags = grid.unique([entry.about.tag, entry.preset, entry.fit_label, state, *marks])
    colour = looks[entry.method].colour
    return grid.text(entry.method, colour=colour, tags=tuple(tags), tip=entry.trouble, code=True)


def _marked_column(looks: MethodLooks) -> Made:
    """The method column of the headline, whose tip has the figures of a mark."""
    column, cell = method_column(looks)

    def told(entry: Entry) -> TableCell:
        said = [entry.trouble, *(f"{mark.kind}: {mark.text}" for mark in entry.marks)]
        return replace(cell(entry), tip="; ".join(filter(None, said)))

    return column, told


def _metric(summary: Summary, problem: ProblemKey, metric: str) -> list[Made]:
    """A metric's column, and beside the main distance its multiple of the floor."""
    info = summary.info[metric]
    places = decimals(e.estimate(metric) for e in summary.of(problem))
    tops = winners(summary, problem, metric)
    made_by = f"measured by {info.implementation}, version {info.version}"
    tip = "; ".join(grid.unique([info.summary, made_by]))
    title = f"{metric}\u00a0{ARROWS.get(info.direction, '')}".strip()
    over, better = _subject(summary, metric), info.direction
    accuracy = summary.credibility(problem, metric).accuracy
    column = Column(title, tip, over, True, accuracy, better, over in FOLDED)

    def value(entry: Entry) -> TableCell:
        return grid.estimate_cell(entry.estimate(metric), places, entry in tops)

    def multiple(entry: Entry) -> TableCell:
        ratio = floor_ratio(summary, entry, metric)
        return grid.number(fixed(ratio, 1), ratio)

    floor = Column("× floor", "in multiples of what exact draws score", over, better="lower")
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

    head = Column("×\u00a0nfe", "in multiples of the cheapest method's", COST, better="lower")
    return [(head, cell)] if free else []


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


def latency_cell(entry: Entry) -> TableCell:
    """Sampling seconds per returned sample; the tip has those of a whole cell."""
    each, whole, all_in = (
        entry.per_sample("seconds"),
        entry.mean("seconds"),
        entry.mean("cell_seconds"),
    )
    tip = f"{seconds(whole)} for all samples of a cell" if whole > 0 else ""
    tip += f", {seconds(all_in)} with loading and evaluation" if tip and all_in > 0 else ""
    return grid.number(seconds(each), each, tip=tip)


def time_cell(entry: Entry) -> TableCell:
    """Sampling seconds of a cell; the tip has what loading and evaluation make of it."""
    value, whole = entry.mean("seconds"), entry.mean("cell_seconds")
    tip = f"{seconds(whole)} with loading and evaluation" if whole > 0 else ""
    return grid.number(seconds(value), value, tip=tip)


def _notes(summary: Summary, problem: ProblemKey, metrics: list[str]) -> list[str]:
    """What the metrics themselves say, and whose rows are incomplete."""
    entries = summary.of(problem)
    said = _said(entries, metrics)
    troubles = [
        f"`{e.method}` at `{budget_label(e.budget)}`: {e.trouble}" for e in entries if e.trouble
    ]
    believed = credibility_notes(summary, problem, metrics)
    ends = [*replication_notes(entries), price_note(entries), underused_note(entries)]
    return grid.unique([*mark_notes(entries), *said, *believed, *troubles, *ends])


def mark_notes(entries: list[Entry]) -> list[str]:
    """What the marks of a table mean, and that such rows lead nothing."""
    kinds = grid.unique(mark.kind for entry in entries for mark in entry.marks)
    told = [f"{kind}: {RULES[kind]}" for kind in kinds]
    return [*told, "rows with such a mark are never bold and lead in no sentence"] if told else []


def underused_note(entries: list[Entry]) -> str:
    """What the dagger means, where there is one."""
    return (
        "† underused: no parameters within the declared ranges use 90 % of the budget"
        if any(entry.underused for entry in entries)
        else ""
    )


def _said(entries: list[Entry], metrics: list[str]) -> list[str]:
    """What estimates have to say, once for all metrics that say the same."""
    alike: dict[tuple[str, bool], list[str]] = {}
    for metric in metrics:
        found = [e.estimates[metric] for e in entries if metric in e.estimates]
        refused = {f.note for f in found if not f.known}
        for note in grid.unique(f.note for f in found):
            alike.setdefault((note, note in refused), []).append(f"`{metric}`")
    return [
        f"{listed(names)}{f' ({DASH})' if refused else ''}: {note}"
        for (note, refused), names in alike.items()
    ]
