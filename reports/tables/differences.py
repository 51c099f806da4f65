"""The tests behind the headline: paired differences to the prior and to the best baseline."""

from __future__ import annotations

import math

from reports.data.comparisons import Comparison, Opponent, against, best_baseline, untilted
from reports.data.equivalence import margin
from reports.data.sign_flip import repetitions_needed, smallest_p
from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.tables.headline import method_cell
from reports.text.labels import budget_label
from reports.text.leaders import BY_ITSELF
from reports.text.numbers import DASH, decimals, fixed, probability, short

Family = dict[tuple[str, str], Comparison]
"""The comparisons with one kind of opponent, by method and budget."""

TEST_NAMES = {
    "paired t": "paired t test over {} repetitions (seeds, fits or prompts)",
    "t": "no cells in common: t test of two means",
    "own errors": "one seed, or no spread at all: test on the cells' own standard errors",
    "one fit": "a method of one fit: no test, since another fit may differ by more than seeds do",
    "none": "one seed and no standard errors: no test",
}


def differences_grid(
    summary: Summary, problem: ProblemKey, metric: str, looks: MethodLooks
) -> TableGrid | None:
    """Every contestant against the prior and against the best baseline at its budget."""
    direction = summary.info[metric].direction
    opponents: tuple[Opponent, ...] = (untilted, best_baseline(metric, direction))
    families = [_family(against(summary, problem, metric, opponent)) for opponent in opponents]
    tested = set().union(*families)
    groups = [
        RowGroup(
            budget_label(budget),
            [
                _line(entry, families, looks, direction)
                for entry in summary.of(problem, budget)
                if (entry.method, budget) in tested
            ],
        )
        for budget in summary.budgets(problem)
    ]
    return (
        TableGrid(_columns(), [g for g in groups if g.lines], _notes(families)) if tested else None
    )


def _family(found: list[Comparison]) -> Family:
    return {(c.entry.method, c.entry.budget): c for c in found}


def _columns() -> list[Column]:
    def pair(over: str) -> list[Column]:
        return [
            Column("difference", "with its 95 % interval", over),
            Column("p", "adjusted over all pairs of methods at this budget", over),
        ]

    baseline = "against the best baseline"
    return [
        Column("method", numeric=False),
        *pair("against prior"),
        Column("baseline", over=baseline, numeric=False),
        *pair(baseline),
        Column("no worse by more than", "the least margin that the interval leaves", baseline),
    ]


def _line(entry: Entry, families: list[Family], looks: MethodLooks, direction: str) -> TableRow:
    to_prior, to_baseline = (_cells(f, entry, direction) for f in families)
    found = families[1].get((entry.method, entry.budget))
    other = grid.text(found.other.method, code=True) if found else TableCell(DASH)
    worst = _margin(found, direction)
    return TableRow([method_cell(entry, looks), *to_prior, other, *to_baseline, worst])


def _margin(found: Comparison | None, direction: str) -> TableCell:
    """By how much, at most, the row may be worse: what an interval with 0 in it still excludes."""
    least = math.inf if found is None else margin(found.difference, direction)
    return grid.number(short(least) if math.isfinite(least) else DASH, least)


def _cells(family: Family, entry: Entry, direction: str) -> list[TableCell]:
    """The difference, bold where it is clearly an improvement, and its p value."""
    found = family.get((entry.method, entry.budget))
    if found is None:
        return [TableCell(DASH, tip="nothing to compare with"), TableCell(DASH)]
    gap = found.difference
    places = decimals(MeanInterval(c.difference.mean, c.difference.half) for c in family.values())
    better = found.clear and (gap.mean > 0) == (direction == "higher")
    value = ("+" if gap.mean > 0 else "") + fixed(gap.mean, places)
    half = f"± {fixed(gap.half, places)}" if math.isfinite(gap.half) else ""
    return [
        grid.number(value, gap.mean, minor=half, bold=better),
        grid.number(probability(found.adjusted), found.adjusted),
    ]


def _notes(families: list[Family]) -> list[str]:
    """Which tests were used, over how many seeds."""
    gaps = [c.difference for family in families for c in family.values()]
    used = {test: sorted({g.pairs for g in gaps if g.test == test}) for test in TEST_NAMES}
    said = [
        TEST_NAMES[test].format(" or ".join(map(str, pairs)))
        for test, pairs in used.items()
        if pairs
    ]
    adjusted = "p values are adjusted over all pairs at a budget (Holm)"
    told = f"{adjusted}; bold: clearly better at 5 %; intervals are of one difference alone"
    alone = any(c.clear_alone for family in families for c in family.values())
    luck = f"an interval without 0 beside a p above 0.05: {BY_ITSELF}" if alone else ""
    return [*said, BASELINE, told, *([luck] if luck else []), *_signs(families)]


BASELINE = (
    "the best baseline is the one of the usual methods with the best mean at the budget, chosen on "
    "the same data"
)


def _signs(families: list[Family]) -> list[str]:
    """What the exact test by signs has to say about what t calls clear."""
    clear = [c for family in families for c in family.values() if c.beyond_signs]
    short = sorted({len(c.difference.gaps) for c in clear if c.unreachable})
    notes = [
        f"with {k} repetitions the exact test by signs cannot go below {smallest_p(k):.2g}: what "
        f"is clear here rests on the law of t; {repetitions_needed(0.05)} repetitions would do"
        for k in short
        if k
    ]
    denied = [f"`{c.entry.method}`" for c in clear if not c.unreachable]
    names = ", ".join(grid.unique(denied))
    doubt = f"the exact test by signs does not confirm what is clear by t of {names}"
    return [*notes, *([doubt] if denied else [])]
