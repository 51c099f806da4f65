"""What a reader came for, at one budget of one problem: five questions, each with its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bench.core.units import UNITS
from reports.data.comparisons import (
    Comparison,
    all_pairs,
    best_entry,
    deciding,
    fair_entries,
    leading,
    unmarked,
)
from reports.data.summary import Entry, ProblemKey, Summary
from reports.text.labels import budget_label, listed
from reports.text.leaders import BY_ITSELF, highest, leader
from reports.text.numbers import decimals, plus_minus, probability, scientific, seconds, short
from reports.text.price import DISAGREE

REASONS = 3
"""Reasons for cells without a result that are told before the rest is counted."""


@dataclass(frozen=True)
class Answer:
    """The five answers, and every pair of rows for whoever doubts another difference.

    best: label of the row that leads, "" without one.  pairs: of each metric, names and rows of
    (i, j, difference, half-width, adjusted p, repetitions).
    """

    problem: ProblemKey
    budget: str
    best: str
    which: str
    cost: str
    law: str
    failed: str
    trust: str
    pairs: list[dict[str, Any]]

    @property
    def slug(self) -> str:
        """For the panel's id."""
        return f"answer-{self.problem.slug}-{budget_label(self.budget)}".replace("=", "-").replace(
            " ", "-"
        )


def answers(summary: Summary, problem: ProblemKey) -> list[Answer]:
    """One per budget that has begun, small ones first."""
    begun = [
        b for b in summary.budgets(problem) if any(len(e.done) for e in summary.of(problem, b))
    ]
    return [_answer(summary, problem, budget) for budget in begun]


def _answer(summary: Summary, problem: ProblemKey, budget: str) -> Answer:
    metric = next(iter(deciding(summary, problem)), "")
    top = _top(summary, problem, budget, metric)
    return Answer(
        problem,
        budget,
        top.method if top else "",
        _which(summary, problem, budget, metric, top),
        _cost(summary, problem, budget, top) if top else "",
        _law(summary, problem, budget, metric, top) if top else "",
        failures(summary.of(problem, budget)),
        _trust(summary, problem, budget, metric, top) if top else "",
        [pair_rows(summary, problem, budget, m) for m in dict.fromkeys((metric, "reward")) if m],
    )


def _top(summary: Summary, problem: ProblemKey, budget: str, metric: str) -> Entry | None:
    if not metric:
        return None
    return leading(summary.of(problem, budget), metric, summary.info[metric].direction)


def _which(
    summary: Summary, problem: ProblemKey, budget: str, metric: str, top: Entry | None
) -> str:
    if top is None:
        return "No row without a mark has a value by which it could be chosen."
    by = "" if metric == summary.distance(problem) else NO_DISTANCE
    return (leader(summary, problem, budget, metric) or _alone(top, metric)) + by


NO_DISTANCE = (
    " No distance to the law that was asked for has a value here, so this is the reward alone, and "
    "a method that maximises it cannot be told from one that samples the law, but by its marks."
)


def _alone(top: Entry, metric: str) -> str:
    value = top.estimate(metric)
    return f"`{top.method}` is alone, with a {metric} of {plus_minus(value, decimals([value]))}."


def _cost(summary: Summary, problem: ProblemKey, budget: str, top: Entry) -> str:
    """In the four units, what was spent once, and where rows of one budget differ."""
    each, flops = top.per_sample("seconds"), top.mean("flops")
    costs = [f"{short(top.mean(UNITS[unit].column))} {unit}" for unit in ("paper-nfe", "model-nfe")]
    costs += [f"{scientific(flops)} FLOPs"] if flops > 0 else []
    costs += [f"{seconds(each)} of sampling"] if each > 0 else []
    once = top.mean("fit_paper_nfe")
    fit = f", and once {scientific(once)} paper-nfe for its fit" if once > 0 else ""
    noun = summary.noun(problem)
    own = f"`{top.method}`: {listed(costs)} per {noun}{_machine(top)}{fit}."
    return own + _uneven(summary, problem, budget)


def _machine(top: Entry) -> str:
    devices = sorted({str(d) for d in top.done["device"]} - {""})
    threads = sorted({int(t) for t in top.done["threads"] if math.isfinite(t)})
    named = [f"`{d}`" for d in devices]
    count = [f"{t} thread{'s' if t > 1 else ''}" for t in threads]
    return f" (time on {', '.join([*named, *count])})" if named or count else ""


def _uneven(summary: Summary, problem: ProblemKey, budget: str) -> str:
    """By how much rows of one budget differ in what the budget does not count."""
    rows = [e for e in summary.of(problem, budget) if e.is_contestant and len(e.done)]
    ways: dict[str, Callable[[Entry], float]] = {
        "seconds": lambda e: e.per_sample("seconds"),
        "FLOPs": lambda e: e.mean("flops"),
        "paper-nfe": lambda e: e.mean("paper_nfe"),
    }
    spreads = {unit: _spread(map(cost, rows)) for unit, cost in ways.items()}
    told = [
        f"{short(ratio)} times in {unit}" for unit, ratio in spreads.items() if ratio > DISAGREE
    ]
    return f" Rows of this budget differ up to {listed(told)}." if told else ""


def _spread(costs: Iterable[float]) -> float:
    known = [cost for cost in costs if cost > 0]
    return max(known) / min(known) if known else 0.0


def _law(summary: Summary, problem: ProblemKey, budget: str, metric: str, top: Entry) -> str:
    """Distance, reward and diversity beside those of the law and of the base model."""
    parts = [*_distances(summary, problem, metric, top), _reward(summary, problem, top)]
    return " ".join(filter(None, [*parts, highest(summary, problem, budget)]))


def _distances(summary: Summary, problem: ProblemKey, metric: str, top: Entry) -> list[str]:
    if metric != summary.distance(problem):
        return []
    base, exact = summary.base(top), summary.exact(problem, top.budget)
    beside = [("the untilted base model has", base), ("draws of the law itself have", exact)]
    told = [
        f"{words} {short(e.estimate(metric).mean)}"
        for words, e in beside
        if e is not None and e is not top and e.estimate(metric).known
    ]
    if not told:
        return []
    return [
        f"`{top.method}` lies at a {metric} of {short(top.estimate(metric).mean)}; {listed(told)}."
    ]


def _reward(summary: Summary, problem: ProblemKey, top: Entry) -> str:
    law, own = summary.laws.get(problem), top.estimate("reward")
    if not own.known:
        return ""
    start = f"Its mean reward is {short(own.mean)}"
    if law is None:
        return f"{start}; what the law's own is, no stored sample tells."
    if not law.known:
        return (
            f"{start}; the law's own cannot be told: of {law.drawn:,} base samples "
            f"{short(law.effective)} are effective once reweighted."
        )
    source = (
        "from its draws"
        if law.exact
        else f"from {law.drawn:,} reweighted base samples, {law.effective:,.0f} of them effective"
    )
    return (
        f"{start}, {short(law.excess(own.mean))} deviations from the law's own {short(law.mean)} "
        f"({source})."
    )


def failures(entries: list[Entry]) -> str:
    """How many cells have no result, and why."""
    total = sum(len(e.cells) for e in entries)
    lost = [(e, e.trouble) for e in entries if e.trouble]
    count = sum(len(e.cells) - len(e.done) for e in entries)
    if not count:
        return f"Nothing: all {total} cells of this budget have a result."
    told = [f"`{e.method}`: {trouble}" for e, trouble in lost[:REASONS]]
    more = f"; and {len(lost) - REASONS} more rows" if len(lost) > REASONS else ""
    return f"{count} of {total} cells have no result. {'; '.join(told)}{more}."


def _trust(summary: Summary, problem: ProblemKey, budget: str, metric: str, top: Entry) -> str:
    """The leader against the runner-up."""
    entries, direction = (
        fair_entries(summary.of(problem, budget), metric),
        summary.info[metric].direction,
    )
    other = best_entry([e for e in unmarked(entries) if e is not top], metric, direction)
    if other is None:
        return "There is no second row without a mark to compare with."
    return told(all_pairs(entries, metric)[top, other], metric)


def told(found: Comparison, metric: str) -> str:
    """A difference with its interval, p and repetitions, and what follows."""
    gap = found.difference
    names = f"`{found.entry.method}` less `{found.other.method}` in {metric}"
    sign = "+" if gap.mean > 0 else ""
    if not math.isfinite(gap.p):
        return f"{names}: {sign}{short(gap.mean)}, and no test: {UNTESTED.get(gap.test, NO_ERROR)}."
    p = probability(found.adjusted)
    return (
        f"{names}: {sign}{short(gap.mean)} ± {short(gap.half)}, p {p if p[0] == '<' else f'= {p}'} "
        f"(adjusted over all pairs; the interval is of this one alone; {gap.pairs} repetitions): "
        f"{_verdict(found)}."
    )


def _verdict(found: Comparison) -> str:
    """What follows from the adjusted p, also where the interval beside it says otherwise."""
    if found.clear:
        return "clearly different"
    if found.clear_alone:
        return f"{BY_ITSELF}, so that these seeds cannot tell them apart"
    return "these seeds cannot tell them apart"


NO_ERROR = "one seed, and no standard errors"
UNTESTED = {
    "one fit": "one of them is a single fit, and another fit may differ by more than seeds do"
}
"""Why there is no interval, by the test."""


def pair_rows(summary: Summary, problem: ProblemKey, budget: str, metric: str) -> dict[str, Any]:
    """Every pair of rows with a value, for the page's script; p is adjusted over all of them."""
    entries = fair_entries(summary.of(problem, budget), metric)
    place = {id(e): i for i, e in enumerate(entries)}
    rows = [
        [
            place[id(a)],
            place[id(b)],
            _digits(found.difference.mean),
            _digits(found.difference.half),
            _digits(found.adjusted),
            found.difference.pairs,
        ]
        for (a, b), found in all_pairs(entries, metric).items()
        if place[id(a)] < place[id(b)]
    ]
    return {"metric": metric, "names": [e.method for e in entries], "rows": rows}


def _digits(value: float) -> float | None:
    """Three significant digits, whole where they are; None for what is not known."""
    if not math.isfinite(value):
        return None
    found = float(f"{value:.3g}")
    return int(found) if found.is_integer() else found
