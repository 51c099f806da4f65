"""Intervals, paired differences, and p values: one test, and always the interval's own.

All methods of a problem are run on common random numbers, so a difference between two of them is
taken cell by cell, over the conditions and seeds that both have: what the cells share cancels, and
what failed on one side is left out on both.

mean +- t sqrt(V), with V over seeds, fits and prompts (`replicates`) and the t quantile of its
degrees of freedom, however many there are; p < 0.05 where, and only where, 0 lies outside of the
interval of a difference.  Of a fine-tuned method with one fit nothing is known about another fit:
there is no interval and no test, unless the samples themselves are asked about (`as_drawn`).

Cells without any spread, or with less than one time in a hundred by their own errors, have the
interval of those.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from scipy import special, stats

from reports.data.replicates import NO_FIT, Row, Source, Spread, lone_fit, spread

COVERAGE = 0.95
"""Coverage of every interval in a report."""

IMPLAUSIBLE = 0.01
"""Chance of so small a spread, by the cells' own errors, below which it is taken for luck."""

SMALLEST_P = 1e-12
"""No p value is smaller: the tails of t are not known to that far."""

EQUAL = 1e-9
"""Gaps that differ by less than this part of themselves do so by rounding."""

Test = Literal["paired t", "t", "own errors", "one fit", "none"]


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its standard error.

    source says where the error comes from, or why there is none.  rows are the values that entered,
    for paired differences; sentences: their conditions are drawn from many more.  note says what a
    reader has to know, above all why there is no value.
    """

    mean: float
    error: float = math.nan
    freedom: float = math.inf
    source: Source = "none"
    note: str = ""
    rows: tuple[Row, ...] = ()
    sentences: bool = False

    @property
    def known(self) -> bool:
        """Whether there is a finite value at all."""
        return math.isfinite(self.mean)

    @property
    def half(self) -> float:
        """Half-width of the interval; NaN when no error is known."""
        return _quantile(self.freedom) * self.error

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half

    @property
    def by_seed(self) -> dict[int, float]:
        """Means of the seeds."""
        found: dict[int, list[float]] = defaultdict(list)
        for row in self.rows:
            found[row.seed].append(row.value)
        return {seed: sum(values) / len(values) for seed, values in found.items()}

    @property
    def counts(self) -> dict[str, int]:
        """How many seeds, prompts and fits it is over."""
        prompts = {row.condition for row in self.rows} if self.sentences else set()
        found = {"seed": len(self.by_seed), "prompt": len(prompts), "fit": self.fits}
        return {word: count for word, count in found.items() if count}

    @property
    def fits(self) -> int:
        """How many fits a condition has, of a method that fits."""
        return len({row.fit for row in self.rows} - {NO_FIT})


@dataclass(frozen=True)
class Difference:
    """a - b with its standard error, the number of pairs and the test.

    gaps: the differences of the repetitions (seeds, fits or prompts) that make most of the error.
    """

    mean: float
    error: float
    freedom: float
    pairs: int
    test: Test
    gaps: tuple[float, ...] = ()

    @property
    def half(self) -> float:
        """Half-width of the interval; NaN when no error is known."""
        return _quantile(self.freedom) * self.error

    @property
    def p(self) -> float:
        """Two-sided p value of "no difference": below 0.05 where the interval leaves 0 out."""
        return p_value(self.mean, self.error, self.freedom)


def mean_of(rows: Sequence[Row], sentences: bool = False, note: str = "") -> MeanInterval:
    """The mean of cells with its error; those without a value (NaN) are left out.

    An infinite value makes the mean infinite, and an interval has none.
    """
    found = tuple(row for row in rows if not math.isnan(row.value))
    if not found:
        return MeanInterval(math.nan, note=note)
    if any(math.isinf(row.value) for row in found):
        total = sum(row.value for row in found)
        return MeanInterval(total, note=note, rows=found, sentences=sentences)
    whole = spread(found, sentences)
    if lone_fit(found, sentences):
        return MeanInterval(whole.mean, math.nan, math.inf, "one fit", note, found, sentences)
    return MeanInterval(whole.mean, *_error(whole), note, found, sentences)


def over_seeds(
    values: Mapping[int, float], errors: Mapping[int, float], note: str = ""
) -> MeanInterval:
    """The mean over seeds of a problem with one condition: mean +- t s / sqrt(k)."""
    rows = [Row("", seed, x, errors.get(seed, math.nan)) for seed, x in values.items()]
    return mean_of(rows, note=note)


def _error(found: Spread) -> tuple[float, float, Source]:
    """Standard error, degrees of freedom, and where they come from."""
    if _lucky(found):
        return found.own, math.inf, "cell"
    if not found.factors or _without_spread(found):
        return math.nan, math.inf, "none"
    return math.sqrt(found.variance), found.freedom, found.main.source


def _lucky(found: Spread) -> bool:
    """Whether there is no spread, or too little for the cells' own errors, which then stand."""
    if not math.isfinite(found.own):
        return False
    if not found.factors:
        return True
    return found.variance < found.own**2 * _least(found.freedom)


def _without_spread(found: Spread) -> bool:
    scale = max(abs(found.mean), *(abs(gap) for gap in found.main.gaps))
    return found.variance <= (EQUAL * scale) ** 2


@cache
def _least(freedom: float) -> float:
    return float(stats.chi2.ppf(IMPLAUSIBLE, freedom)) / freedom


def difference(a: MeanInterval, b: MeanInterval, as_drawn: bool = False) -> Difference:
    """a - b over the cells that both have; without two in common, from both errors.

    as_drawn: of the samples at hand, whatever another fit would give.
    """
    if not as_drawn and "one fit" in (a.source, b.source):
        gaps = _gaps(a.rows, b.rows)
        gap = spread(gaps).mean if gaps else a.mean - b.mean
        return Difference(gap, math.nan, math.inf, len(gaps), "one fit")
    gaps = _gaps(a.rows, b.rows)
    found = spread(gaps, a.sentences and b.sentences) if gaps else None
    if found is None or not (found.factors or _single(a) or _single(b)):
        return _apart(a, b)
    return _paired(found)


def _single(value: MeanInterval) -> bool:
    return len(value.rows) == 1 or not spread(value.rows, value.sentences).factors


def _gaps(a: Sequence[Row], b: Sequence[Row]) -> list[Row]:
    """Differences of the cells that both have; several fits on both sides are paired in order."""
    several = [len({row.fit for row in rows}) > 1 for rows in (a, b)]
    theirs: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in b:
        theirs[row.condition, row.seed].append(row)
    return [
        Row(*key, row.value - other.value, math.hypot(row.own, other.own), fit)
        for row in a
        for key in [(row.condition, row.seed)]
        for other in theirs.get(key, ())
        if not all(several) or row.fit == other.fit
        for fit in [row.fit if several[0] else other.fit if several[1] else NO_FIT]
    ]


def _paired(found: Spread) -> Difference:
    """Mean of gaps; those that are all the same leave the cells' own errors, if there are any."""
    if not found.factors:
        known = math.isfinite(found.own)
        return Difference(found.mean, found.own, math.inf, 1, "own errors" if known else "none")
    gaps, pairs = found.main.gaps, len(found.main.gaps)
    if not _without_spread(found):
        error = math.sqrt(found.variance)
        return Difference(found.mean, error, found.freedom, pairs, "paired t", gaps)
    if found.mean == 0:
        return Difference(0.0, 0.0, found.freedom, pairs, "paired t", gaps)
    test: Test = "own errors" if math.isfinite(found.own) else "none"
    return Difference(found.mean, found.own, math.inf, pairs, test, gaps)


def _apart(a: MeanInterval, b: MeanInterval) -> Difference:
    """From both errors, over the conditions that both have, with Welch's degrees of freedom."""
    if a.rows and b.rows:
        shared = {row.condition for row in a.rows} & {row.condition for row in b.rows}
        a, b = (mean_of([r for r in v.rows if r.condition in shared], v.sentences) for v in (a, b))
    error = math.hypot(a.error, b.error)
    gap = a.mean - b.mean
    if not math.isfinite(error):
        return Difference(gap, math.nan, math.inf, 0, "none")
    parts = [v.error**4 / v.freedom for v in (a, b)]
    freedom = error**4 / sum(parts) if sum(parts) > 0 else math.inf
    own = {a.source, b.source} == {"cell"}
    return Difference(gap, error, freedom, 0, "own errors" if own else "t")


def p_value(mean: float, error: float, freedom: float, sides: int = 2) -> float:
    """Of a t test, never below SMALLEST_P; NaN without an error, 1 for two that are the same."""
    if error == 0:
        return 1.0 if mean == 0 else math.nan
    if not math.isfinite(mean) or not math.isfinite(error):
        return math.nan
    far = abs(mean) if sides == 2 else mean
    # The tail of t itself: `stats.t.sf` takes thirty times longer to check what it was handed.
    return max(float(sides * special.stdtr(freedom, -far / error)), SMALLEST_P)


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for the family-wise error (Holm 1979); NaN stays NaN and is not counted."""
    known = sorted((value, k) for k, value in enumerate(p) if not math.isnan(value))
    adjusted, largest = [math.nan] * len(p), 0.0
    for rank, (value, k) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        adjusted[k] = largest
    return adjusted


@cache
def _quantile(freedom: float) -> float:
    return float(stats.t.ppf(0.5 + COVERAGE / 2, freedom))
