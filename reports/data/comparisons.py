"""Who is better than whom, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports.data.statistics import Difference, benjamini_hochberg, difference
from reports.data.summary import Entry, ProblemKey, Summary

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """An entry against another one at the same budget; adjusted over its family."""

    entry: Entry
    other: Entry
    difference: Difference
    adjusted: float

    @property
    def clear(self) -> bool:
        """Whether the adjusted p value is below 0.05."""
        return self.adjusted < SIGNIFICANT


def best_entry(entries: Iterable[Entry], metric: str, direction: str) -> Entry | None:
    """The entry with the best mean, whatever its interval; None without a direction."""
    known = [e for e in entries if e.estimate(metric).known]
    if direction not in ("higher", "lower") or not known:
        return None
    sign = 1 if direction == "higher" else -1
    return max(known, key=lambda e: sign * e.estimate(metric).mean)


def winner(entries: Iterable[Entry], metric: str, direction: str) -> Entry | None:
    """The best fair entry, if it is clearly better than every other one.

    "Clearly": every paired difference has an adjusted p value below 0.05.  Methods that know the
    closed form do not take part.
    """
    fair = [e for e in entries if not e.is_closed_form and e.estimate(metric).known]
    top = best_entry(fair, metric, direction)
    if top is None or len(fair) < 2:
        return None
    rivals = [(top, other) for other in fair if other is not top]
    return top if all(c.clear for c in compare_pairs(rivals, metric)) else None


def winners(summary: Summary, problem: ProblemKey, metric: str) -> list[Entry]:
    """The clear winner of every budget that has one."""
    direction = summary.info[metric].direction
    found = [winner(summary.of(problem, b), metric, direction) for b in summary.budgets(problem)]
    return [entry for entry in found if entry is not None]


def compare_pairs(pairs: Iterable[tuple[Entry, Entry]], metric: str) -> list[Comparison]:
    """Differences of a family of pairs, with p values adjusted over the family."""
    known = [p for p in pairs if all(e.estimate(metric).known for e in p)]
    gaps = [difference(a.estimate(metric), b.estimate(metric)) for a, b in known]
    adjusted = benjamini_hochberg([gap.p for gap in gaps])
    return [Comparison(a, b, gap, q) for (a, b), gap, q in zip(known, gaps, adjusted, strict=True)]


Opponent = Callable[[list[Entry]], Entry | None]
"""From the entries at one budget, the one that the others are compared with."""


def against(
    summary: Summary, problem: ProblemKey, metric: str, opponent: Opponent
) -> list[Comparison]:
    """Every method against the opponent at its own budget; one family over methods and budgets."""
    pairs = []
    for budget in summary.budgets(problem):
        entries = summary.of(problem, budget)
        other = opponent(entries)
        rest = [e for e in entries if e is not other and e.is_contestant]
        pairs += [(entry, other) for entry in rest if other is not None]
    return compare_pairs(pairs, metric)


def untilted(entries: list[Entry]) -> Entry | None:
    """The base model."""
    return next((e for e in entries if e.is_untilted), None)


def best_baseline(metric: str, direction: str) -> Opponent:
    """The best of the usual baselines, chosen on the same data: an advantage for the baseline."""

    def choose(entries: list[Entry]) -> Entry | None:
        return best_entry((e for e in entries if e.is_baseline), metric, direction)

    return choose


def floor_ratio(summary: Summary, entry: Entry, metric: str) -> float:
    """The entry's distance in multiples of what exact draws score; NaN where there is no floor."""
    exact = summary.exact(entry.problem, entry.budget)
    floor = exact.estimate(metric).mean if exact else math.nan
    return entry.estimate(metric).mean / floor if floor > 0 else math.nan
