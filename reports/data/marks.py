"""Rows that must not be taken for the best: they have collapsed, or they maximise the reward.

A mark is a rule with a threshold, not a test: it says what to look at, with the figures.

collapsed:  a diversity is below `COLLAPSED` of the law's own: as drawn, else by reweighted base
            samples (`laws`, the mean distance alone), else that of the row that is nearest to the
            law at this budget.  A sharp tilt must lower diversity, so that the base model says
            only what is one repeated picture: a mean distance below `REPEATED` of its own
            (every diversity, where no stored samples tell which one is the mean distance).
maximises:  the mean reward lies more than `MAXIMISES` deviations of the law's own reward above the
            law's mean (`laws`); or the row is more than `OFF` floors, or clearly further than the
            base model, from the law and its reward is clearly above the law's, or the base model's.

Marked rows are shown and tested like all others; they are never bold and never lead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from reports.data.comparisons import floor_ratio
from reports.data.entries import summarise
from reports.data.laws import law_reward, law_spreads
from reports.data.run import RunTables
from reports.data.statistics import MeanInterval, difference
from reports.data.summary import Entry, LawReward, Mark, Summary

COLLAPSED = 0.5

REPEATED = 0.15
"""One repeated digit has a mean distance of .08 to .12 of the base model's (rescaled `mfm-g`);
`gibbs` under a template of strength 20, 60 and 200 has .66, .47 and .36, but 2 % of its modes, so
that a number of different samples says nothing without the law's own."""

MAXIMISES = 0.5
OFF = 5.0

RULES = {
    "collapsed": f"a diversity below {COLLAPSED:.0%} of the law's own, as drawn or by reweighted "
    "base samples, else of that of the row nearest to the law at the same budget; where nothing "
    f"tells, a mean distance below {REPEATED:.0%} of the base model's: one repeated sample",
    "maximises": f"a mean reward more than {MAXIMISES} of the law's own deviations above the law's "
    f"mean; or more than {OFF:g} times the floor, or clearly further than the base model, from the "
    "law, with a reward clearly above",
}
"""What a mark means, for readers."""


def summary_of(run: RunTables) -> Summary:
    """A run's entries, with the laws' rewards where its samples tell them, marked."""
    plain = summarise(run.cells, run.metrics)
    found = {p: law_reward(plain, p, run.samples) for p in plain.problems}
    laws = {p: law for p, law in found.items() if law is not None}
    return marked(replace(plain, laws=laws, spreads=law_spreads(plain, run)))


def marked(summary: Summary) -> Summary:
    """The same entries with their marks."""
    return replace(summary, entries=tuple(_marked(summary, e) for e in summary.entries))


def _marked(summary: Summary, entry: Entry) -> Entry:
    if not entry.is_contestant or not len(entry.done):
        return entry
    return replace(entry, marks=(*_collapsed(summary, entry), *_maximises(summary, entry)))


@dataclass(frozen=True)
class Yardstick:
    """What a diversity is held against, whose that is, and the share below which it collapsed."""

    value: MeanInterval
    whose: str
    collapsed: float = COLLAPSED

    @property
    def is_law(self) -> bool:
        """Whether it says how diverse the law is, so that any clear lack is one."""
        return self.collapsed == COLLAPSED


def yardstick(summary: Summary, entry: Entry, metric: str) -> Yardstick | None:
    """Of an entry's diversity; None where nothing tells, and for the row that is one itself."""
    found = next(_yardsticks(summary, entry, metric), None)
    return None if found is None or found.value is entry.estimate(metric) else found


def _yardsticks(summary: Summary, entry: Entry, metric: str) -> Iterator[Yardstick]:
    """The surest first."""
    exact = summary.exact(entry.problem, entry.budget)
    if exact is not None and exact.estimate(metric).known:
        yield Yardstick(exact.estimate(metric), f"the law itself (`{exact.method}`)")
    spread = summary.spreads.get(entry.problem)
    distance = spread is not None and spread.metric == metric
    if spread is not None and distance and spread.known:
        yield Yardstick(spread.value, "the law by reweighted base samples")
    near = summary.nearest(entry.problem, entry.budget)
    if near is not None and near.estimate(metric).known:
        yield Yardstick(near.estimate(metric), f"`{near.method}`, the nearest to the law")
    base = summary.base(entry)
    alone = distance if spread is not None else _repeats(summary, entry, base)
    if alone and base is not None and base.estimate(metric).known:
        yield Yardstick(base.estimate(metric), f"the base model (`{base.method}`)", REPEATED)


def _repeats(summary: Summary, entry: Entry, base: Entry | None) -> bool:
    """Whether every diversity says so, where nothing tells which of them is the mean distance."""
    if base is None:
        return False
    pairs = [(entry.estimate(m), base.estimate(m)) for m in summary.measuring("diversity")]
    known = [(own.mean, there.mean) for own, there in pairs if own.known and there.known]
    return bool(known) and all(own < REPEATED * there for own, there in known)


def _collapsed(summary: Summary, entry: Entry) -> Iterator[Mark]:
    """The worst of the diversities that are below."""
    shares = []
    for metric in summary.measuring("diversity"):
        other, own = yardstick(summary, entry, metric), entry.estimate(metric).mean
        if other is None or not math.isfinite(own):
            continue
        there = other.value.mean
        if 0 <= own < other.collapsed * there:
            shares.append((own / there, f"{metric} {own:.3g}, {other.whose} has {there:.3g}"))
    if shares:
        yield Mark("collapsed", min(shares)[1])


def _maximises(summary: Summary, entry: Entry) -> Iterator[Mark]:
    law = summary.laws.get(entry.problem)
    reward = entry.estimate("reward")
    if not reward.known:
        return
    if law is not None and law.known:
        if law.excess(reward.mean) > MAXIMISES:
            yield Mark("maximises", _above(reward.mean, law))
        return
    if (text := _far(summary, entry)) is not None:
        yield Mark("maximises", text)


def _above(reward: float, law: LawReward) -> str:
    source = "" if law.exact else ", by reweighted base samples"
    return (
        f"mean reward {reward:.3g}, {law.excess(reward):.2f} deviations above the law's own "
        f"{law.mean:.3g}{source}"
    )


def _far(summary: Summary, entry: Entry) -> str | None:
    """Without the law's deviation: off by floors, or further away than where it started."""
    exact, base = summary.exact(entry.problem, entry.budget), summary.base(entry)
    floored, distance = summary.floored(entry.problem), summary.distance(entry.problem)
    if floored and exact is not None and _clearly(entry, exact, "reward"):
        ratio = floor_ratio(summary, entry, floored)
        if ratio > OFF:
            return f"{floored} {ratio:.1f} times the floor, with a reward above the law's own"
    further = distance and base is not None and _clearly(entry, base, distance)
    if further and base is not None and _clearly(entry, base, "reward"):
        own, there = (e.estimate(str(distance)).mean for e in (entry, base))
        return f"{distance} {own:.3g}, the base model has {there:.3g}, with a reward above its own"
    return None


def _clearly(entry: Entry, other: Entry, metric: str) -> bool:
    gap = difference(entry.estimate(metric), other.estimate(metric), as_drawn=True)
    return math.isfinite(gap.half) and gap.mean > gap.half
