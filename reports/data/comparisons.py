"""Who is better than whom, and how sure that is.

All pairs at one budget are one family, and every p value that a page prints of one of them, in a
sentence or in a table, is adjusted over that family (Holm): so the best method may be chosen on the
data, and the same pair has the same p wherever it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

from reports.data.sign_flip import sign_flip, smallest_p
from reports.data.statistics import Difference, difference, holm
from reports.data.summary import Entry, ProblemKey, Summary

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """An entry against another one; adjusted over its family."""

    entry: Entry
    other: Entry
    difference: Difference
    adjusted: float

    @property
    def clear(self) -> bool:
        """Whether the adjusted p value is below 0.05."""
        return self.adjusted < SIGNIFICANT

    @property
    def clear_alone(self) -> bool:
        """Whether its own interval leaves out 0, but not once all pairs of its family count."""
        return not self.clear and self.difference.p < SIGNIFICANT

    @property
    def beyond_signs(self) -> bool:
        """Whether it is clear by t alone: the exact test by signs could not say so, or did not."""
        return self.clear and sign_flip(self.difference.gaps) >= SIGNIFICANT

    @property
    def unreachable(self) -> bool:
        """Whether the exact test by signs has too few repetitions to reach 5 %."""
        return smallest_p(len(self.difference.gaps)) >= SIGNIFICANT


Pairs = Mapping[tuple[Entry, Entry], Comparison]
"""Comparisons of one family, each in both orders."""


def best_entry(entries: Iterable[Entry], metric: str, direction: str) -> Entry | None:
    """The entry with the best mean, whatever its interval; None without a direction."""
    known = [e for e in entries if e.estimate(metric).known]
    if direction not in ("higher", "lower") or not known:
        return None
    sign = 1 if direction == "higher" else -1
    return max(known, key=lambda e: sign * e.estimate(metric).mean)


def fair_entries(entries: Iterable[Entry], metric: str) -> tuple[Entry, ...]:
    """Those that are compared: with a value, and without knowing the closed form."""
    return tuple(e for e in entries if not e.is_closed_form and e.estimate(metric).known)


def leading(entries: Iterable[Entry], metric: str, direction: str) -> Entry | None:
    """The best fair entry without a mark: a row that collapsed or maximises leads nothing."""
    return best_entry(unmarked(fair_entries(entries, metric)), metric, direction)


def unmarked(entries: Iterable[Entry]) -> list[Entry]:
    """Those that may be taken for the best (`marks`)."""
    return [e for e in entries if not e.marks]


def winner(entries: Iterable[Entry], metric: str, direction: str) -> Entry | None:
    """The leading entry, if it is clearly better than every other one without a mark.

    "Clearly": every paired difference has a p value below 0.05, adjusted over all pairs, those of
    marked entries included.  Methods that know the closed form do not take part.
    """
    fair = fair_entries(entries, metric)
    top = leading(fair, metric, direction)
    rivals = [other for other in unmarked(fair) if other is not top]
    if top is None or not rivals:
        return None
    gaps = (difference(top.estimate(metric), other.estimate(metric)) for other in rivals)
    if not all(gap.p < SIGNIFICANT for gap in gaps):  # adjusted, p is no smaller
        return None
    pairs = all_pairs(fair, metric)
    return top if all(pairs[top, other].clear for other in rivals) else None


def deciding(summary: Summary, problem: ProblemKey) -> list[str]:
    """The metrics in which a row may be called the best.

    Distances to the law that was asked for, where there is one with a value: a higher reward is not
    better than that law's own.  Without any, the reward and its judges.
    """
    for subjects in (("distance",), ("target", "judge")):
        found = [m for subject in subjects for m in summary.measuring(subject)]
        known = [m for m in found if summary.has(problem, m)]
        if known:
            return known
    return []


def winners(summary: Summary, problem: ProblemKey, metric: str) -> list[Entry]:
    """The clear winner of every budget that has one, in a metric that decides."""
    if metric not in deciding(summary, problem):
        return []
    direction = summary.info[metric].direction
    found = [winner(summary.of(problem, b), metric, direction) for b in summary.budgets(problem)]
    return [entry for entry in found if entry is not None]


@lru_cache(maxsize=512)
def all_pairs(entries: tuple[Entry, ...], metric: str) -> Pairs:
    """Every pair of entries with a value, adjusted over all of them."""
    found = compare_pairs(combinations(entries, 2), metric)
    return {pair: c for one in found for pair, c in _both_ways(one)}


def _both_ways(found: Comparison) -> list[tuple[tuple[Entry, Entry], Comparison]]:
    gap = found.difference
    back = replace(gap, mean=0.0 - gap.mean, gaps=tuple(-x for x in gap.gaps))
    turned = Comparison(found.other, found.entry, back, found.adjusted)
    return [((c.entry, c.other), c) for c in (found, turned)]


def compare_pairs(pairs: Iterable[tuple[Entry, Entry]], metric: str) -> list[Comparison]:
    """Differences of a family of pairs, with p values adjusted over the family."""
    known = [p for p in pairs if all(e.estimate(metric).known for e in p)]
    gaps = [difference(a.estimate(metric), b.estimate(metric)) for a, b in known]
    adjusted = holm([gap.p for gap in gaps])
    return [Comparison(a, b, gap, q) for (a, b), gap, q in zip(known, gaps, adjusted, strict=True)]


def compared_with(
    entry: Entry, others: Iterable[Entry], entries: Sequence[Entry], metric: str
) -> list[Comparison]:
    """An entry against others of its budget, as members of the family of all its entries."""
    pairs = all_pairs(fair_entries(entries, metric), metric)
    return [pairs[entry, other] for other in others if (entry, other) in pairs]


Opponent = Callable[[list[Entry]], Entry | None]
"""From the entries at one budget, the one that the others are compared with."""


def against(
    summary: Summary, problem: ProblemKey, metric: str, opponent: Opponent
) -> list[Comparison]:
    """Every method against the opponent at its own budget, in the family of that budget."""
    found: list[Comparison] = []
    for budget in summary.budgets(problem):
        entries = summary.of(problem, budget)
        other = opponent(entries)
        if other is None:
            continue
        for entry in entries:
            if entry is not other and entry.is_contestant:
                found += compared_with(entry, [other], entries, metric)
    return found


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
