"""Rows that must not be taken for the best: they have collapsed, or they maximise the reward.

A mark is a rule with a threshold, not a test: it says what to look at, with the figures.

collapsed:  a diversity is below `COLLAPSED` of the yardstick's.  The yardstick is the law itself
            where it was drawn, else the row that is nearest to it at this budget (a tilt that asks
            for half of the classes must lower diversity), else the base model.
maximises:  the mean reward lies more than `MAXIMISES` deviations of the law's own reward above the
            law's mean (`laws`); or the row is more than `OFF` floors, or clearly further than the
            base model, from the law and its reward is clearly above the law's, or the base model's.

Marked rows are shown and tested like all others; they are never bold and never lead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from reports.data.comparisons import floor_ratio
from reports.data.entries import summarise
from reports.data.laws import law_reward
from reports.data.run import RunTables
from reports.data.statistics import difference
from reports.data.summary import Entry, LawReward, Mark, Summary

COLLAPSED = 0.5
MAXIMISES = 0.5
OFF = 5.0

RULES = {
    "collapsed": f"a diversity below {COLLAPSED:.0%} of that of the law itself where it was drawn, "
    "else of the row nearest to the law at the same budget, else of the base model",
    "maximises": f"a mean reward more than {MAXIMISES} of the law's own deviations above the law's "
    f"mean; or more than {OFF:g} times the floor, or clearly further than the base model, from the "
    "law, with a reward clearly above",
}
"""What a mark means, for readers."""


def summary_of(run: RunTables) -> Summary:
    """A run's entries, with the laws' rewards where its samples tell them, marked."""
    plain = summarise(run.cells, run.metrics)
    found = {p: law_reward(plain, p, run.samples) for p in plain.problems}
    return marked(replace(plain, laws={p: law for p, law in found.items() if law is not None}))


def marked(summary: Summary) -> Summary:
    """The same entries with their marks."""
    return replace(summary, entries=tuple(_marked(summary, e) for e in summary.entries))


def _marked(summary: Summary, entry: Entry) -> Entry:
    if not entry.is_contestant or not len(entry.done):
        return entry
    return replace(entry, marks=(*_collapsed(summary, entry), *_maximises(summary, entry)))


def yardstick(summary: Summary, entry: Entry, metric: str) -> Entry | None:
    """Whose diversity an entry's is held against; None where nobody else has one."""
    exact = summary.exact(entry.problem, entry.budget)
    found = (exact, summary.nearest(entry.problem, entry.budget), summary.base(entry))
    return next((e for e in found if e is not None and e.estimate(metric).known), None)


def _collapsed(summary: Summary, entry: Entry) -> Iterator[Mark]:
    """The worst of the diversities that are below."""
    shares = []
    for metric in summary.measuring("diversity"):
        other = yardstick(summary, entry, metric)
        own = entry.estimate(metric).mean
        if other is None or other is entry or not math.isfinite(own):
            continue
        there = other.estimate(metric).mean
        if 0 <= own < COLLAPSED * there:
            shares.append((own / there, metric, own, there, other))
    if shares:
        _, metric, own, there, other = min(shares, key=lambda found: found[0])
        yield Mark("collapsed", f"{metric} {own:.3g}, `{other.method}` has {there:.3g}")


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
