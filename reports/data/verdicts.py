"""What a run says of claims: each holds, does not, cannot be told, or was not measured.

A claim is made on every pair of rows that it means.  Its advantage (row - c other - d, or
c other - row - d) has the interval of every other comparison, `statistics.difference`: paired by
seed, a fit as the unit of replication, nothing said of a method with one fit.

holds:           on every pair the whole 95 % interval lies above 0.  That all do is tested at the
                 level of one of them (intersection-union), so nothing is adjusted.
does not hold:   on some pair the advantage is clearly below 0, p adjusted over the pairs (Holm).
cannot be told:  anything else.

Units of compute are counts and have no interval; seconds are those of the run's own machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.core.units import UNITS
from reports.data.claims import Claim, meant
from reports.data.statistics import Difference, MeanInterval, difference, holm, mean_of, p_value
from reports.data.summary import Entry, ProblemKey, Summary

Outcome = Literal["holds", "does not hold", "cannot be told", "not measured"]

OUTCOMES: tuple[Outcome, ...] = ("holds", "does not hold", "cannot be told", "not measured")

LEVEL = 0.025
"""Of a one-sided p: it agrees with the 95 % interval."""


@dataclass(frozen=True)
class Evidence:
    """A pair of rows: both values, and the advantage that the claim says is above 0.

    repetitions: seeds, fits or prompts that entered; 0 where a count has no interval, or rows have
    none in common.  p: one-sided, of "the advantage is not below 0".  note: why there is no
    interval, or which row is marked.
    """

    problem: ProblemKey
    budget: str
    row: str
    other: str
    value: float
    against: float
    advantage: float
    low: float
    high: float
    p: float
    repetitions: int
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim, the outcome, the pairs, and why there are none."""

    claim: Claim
    outcome: Outcome
    evidence: tuple[Evidence, ...] = ()
    why: str = ""

    def count(self, outcome: Outcome) -> int:
        """How many pairs came out so."""
        return sum(e.outcome == outcome for e in self.evidence)

    @property
    def worst(self) -> Evidence | None:
        """The pair that decides: the first of the outcome with the smallest lower end."""
        own = [e for e in self.evidence if e.outcome == self.outcome]
        return min(own, key=lambda e: (math.isnan(e.low), e.low), default=None)


def verdicts(summary: Summary, claims: Iterable[Claim]) -> list[Verdict]:
    """Of every claim, in order."""
    return [verdict(summary, claim) for claim in claims]


def verdict(summary: Summary, claim: Claim) -> Verdict:
    """Of one claim."""
    found = [
        _evidence(claim, problem, row, other) for problem, row, other in _pairs(summary, claim)
    ]
    known = [e for e in found if math.isfinite(e.value) and math.isfinite(e.against)]
    if not known:
        return Verdict(claim, "not measured", (), _why(summary, claim))
    adjusted = holm([e.p for e in known])
    told = tuple(replace(e, outcome=_outcome(e, p)) for e, p in zip(known, adjusted, strict=True))
    lost = f"{len(found) - len(known)} of {len(found)} pairs have no value"
    return Verdict(claim, _all(told), told, lost if len(known) < len(found) else "")


def _pairs(summary: Summary, claim: Claim) -> Iterator[tuple[ProblemKey, Entry, Entry | None]]:
    for problem in summary.problems:
        for budget in summary.budgets(problem):
            if claim.where.hold(problem, budget):
                for row, other in claim.pairs(summary.of(problem, budget)):
                    yield problem, row, other


def _outcome(found: Evidence, adjusted: float) -> Outcome:
    if found.low > 0:
        return "holds"
    exact = found.low == found.high
    return "does not hold" if adjusted < LEVEL or exact else "cannot be told"


def _all(told: Sequence[Evidence]) -> Outcome:
    """The first that any pair shows of: refuted, open, held."""
    order: tuple[Outcome, ...] = ("does not hold", "cannot be told", "holds")
    return next(outcome for outcome in order if any(e.outcome == outcome for e in told))


def _evidence(claim: Claim, problem: ProblemKey, row: Entry, other: Entry | None) -> Evidence:
    own, theirs = _measured(claim, row), _measured(claim, other) if other else None
    gap = _gap(claim, own, theirs)
    sign = SIGNS[claim.direction]
    advantage = sign * gap.mean - claim.by if theirs else sign * (gap.mean - claim.by)
    counted = claim.metric in UNITS
    some = gap.pairs or min(_count(v) for v in (own, theirs or own))
    return Evidence(
        problem=problem,
        budget=row.budget,
        row=row.method,
        other=other.method if other else "",
        value=own.mean,
        against=theirs.mean if theirs else claim.by,
        advantage=advantage,
        low=advantage - gap.half,
        high=advantage + gap.half,
        p=p_value(-advantage, gap.error, gap.freedom, sides=1),
        repetitions=0 if counted else some,
        outcome="cannot be told",
        note=_note([e for e in (row, other) if e]),
    )


def _note(rows: Sequence[Entry]) -> str:
    one = [f"`{e.method}` has one fit" for e in rows if e.untested_fit]
    return "; ".join([*one, *(f"`{e.method}` is marked: {m.kind}" for e in rows for m in e.marks)])


def _measured(claim: Claim, entry: Entry) -> MeanInterval:
    if claim.metric in UNITS:
        return MeanInterval(entry.cost(claim.metric), 0.0)
    return entry.estimate(claim.metric)


SIGNS = {"higher": 1.0, "lower": -1.0}


def _gap(claim: Claim, own: MeanInterval, theirs: MeanInterval | None) -> Difference:
    """row - c other over the cells that both have, which need not be all of either."""
    if theirs is None:
        return Difference(own.mean, own.error, own.freedom, _count(own), "t")
    if claim.metric in UNITS:
        return Difference(own.mean - claim.times * theirs.mean, 0.0, math.inf, 0, "none")
    return difference(own, scaled(theirs, claim.times))


def scaled(value: MeanInterval, times: float) -> MeanInterval:
    """A multiple of an estimate, cell by cell, so that it can be paired."""
    if times == 1 or not value.rows:
        return value
    rows = [row._replace(value=times * row.value, own=times * row.own) for row in value.rows]
    return mean_of(rows, value.sentences, value.note)


def _count(value: MeanInterval) -> int:
    """Seeds, or fits where there are several."""
    return max(len(value.by_seed), value.fits)


def _why(summary: Summary, claim: Claim) -> str:
    """What the run lacks, the first of it."""
    cells = [(p, b) for p in summary.problems for b in summary.budgets(p) if claim.where.hold(p, b)]
    if not cells:
        on = claim.where
        return f"no cells of task `{on.task}`, reward `{on.reward}`, budget `{on.budget}`"
    entries = [summary.of(p, b) for p, b in cells]
    for pattern in filter(None, (claim.row, claim.against)):
        if not any(meant(pattern, e.method) for found in entries for e in found):
            return f"no row of `{pattern}`"
    if not any(claim.pairs(found) for found in entries):
        return f"`{claim.row}` and `{claim.against}` are nowhere side by side"
    return f"`{claim.metric}` has no value there"
