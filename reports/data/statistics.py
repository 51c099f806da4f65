"""Intervals over seeds and prompts, paired differences and adjusted p values.

All methods of a problem are run on common random numbers, so a difference between two of them is
taken seed by seed: what the seeds share cancels.

Where a problem has several prompts, all samples of one have it in common, and more seeds do not
average that out.  The means of the C prompts are C observations, with the t quantile of C - 1
degrees of freedom; the wider of the interval over them and the one over seeds is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from scipy import stats

COVERAGE = 0.95
"""Coverage of every interval in a report."""

SMALLEST_FOR_WILCOXON = 6
"""With fewer pairs the signed-rank test cannot give p < 0.05, whatever the data."""

Source = Literal["seeds", "prompts", "cell", "none"]


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its standard error.

    source says where the error comes from: the spread over seeds or over prompts, the one cell's
    own standard error, or nowhere.  by_seed and by_prompt keep the values for paired differences.
    note says what a reader has to know, above all why there is no value.
    """

    mean: float
    error: float = math.nan
    freedom: float = math.inf
    source: Source = "none"
    by_seed: Mapping[int, float] = field(default_factory=dict)
    note: str = ""
    by_prompt: Mapping[str, float] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there is a value at all."""
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


@dataclass(frozen=True)
class Difference:
    """a - b with the half-width of its interval, the p value of "no difference" and the test."""

    mean: float
    half: float
    p: float
    pairs: int
    test: Literal["paired t", "Wilcoxon", "unpaired", "none"]


def over_seeds(
    values: Mapping[int, float], errors: Mapping[int, float], note: str = ""
) -> MeanInterval:
    """The mean over seeds with its error: mean +- t s / sqrt(k), for k >= 2 finite values.

    With a single seed the error is that of the cell itself, if it has one.  Seeds without a value
    are left out of the mean; the caller says so in the note.
    """
    found = {seed: value for seed, value in values.items() if math.isfinite(value)}
    if not found:
        return MeanInterval(math.nan, note=note)
    x = np.array(list(found.values()))
    if len(x) > 1:
        error = float(x.std(ddof=1)) / math.sqrt(len(x))
        return MeanInterval(float(x.mean()), error, len(x) - 1, "seeds", found, note)
    own = errors.get(next(iter(found)), math.nan)
    source: Source = "cell" if math.isfinite(own) else "none"
    return MeanInterval(float(x[0]), own, math.inf, source, found, note)


def over_prompts(found: MeanInterval, values: Mapping[str, float]) -> MeanInterval:
    """An estimate with the interval of its prompts' means, for C >= 2, where that is the wider."""
    known = {prompt: value for prompt, value in values.items() if math.isfinite(value)}
    if len(known) < 2 or not found.known:
        return found
    x = np.array(list(known.values()))
    error = float(x.std(ddof=1)) / math.sqrt(len(x))
    own = replace(found, error=error, freedom=len(x) - 1, source="prompts", by_prompt=known)
    return replace(found, by_prompt=known) if found.half >= own.half else own


def difference(a: MeanInterval, b: MeanInterval) -> Difference:
    """a - b, paired by seed and by prompt where at least two are shared, else from both errors.

    Of two ways to pair, the one with the wider interval.
    """
    ways = _gaps(a.by_seed, b.by_seed), _gaps(a.by_prompt, b.by_prompt)
    gaps = [found for found in ways if len(found) >= 2]
    if gaps:
        return max(map(paired, gaps), key=lambda gap: gap.half)
    shared = a.by_seed.keys() & b.by_seed.keys()
    error = math.hypot(a.error, b.error)
    gap, freedom = a.mean - b.mean, min(a.freedom, b.freedom)
    if not math.isfinite(error):
        return Difference(gap, math.nan, math.nan, len(shared), "none")
    return Difference(
        gap, _quantile(freedom) * error, _t_test(gap, error, freedom), len(shared), "unpaired"
    )


def _gaps(a: Mapping[Any, float], b: Mapping[Any, float]) -> np.ndarray:
    """Differences of what both have, in order."""
    return np.array([a[key] - b[key] for key in sorted(a.keys() & b.keys())])


def paired(gaps: np.ndarray) -> Difference:
    """Mean of paired gaps with its t interval; Wilcoxon's p value from six pairs on, else t's."""
    k = len(gaps)
    mean, error = float(gaps.mean()), float(gaps.std(ddof=1)) / math.sqrt(k)
    half = _quantile(k - 1) * error
    if k >= SMALLEST_FOR_WILCOXON and np.any(gaps != 0):
        return Difference(mean, half, float(stats.wilcoxon(gaps).pvalue), k, "Wilcoxon")
    return Difference(mean, half, _t_test(mean, error, k - 1), k, "paired t")


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """P values adjusted for the false discovery rate; NaN stays NaN and is not counted."""
    values = np.asarray(p, dtype=float)
    adjusted, finite = values.copy(), np.isfinite(values)
    if finite.any():
        adjusted[finite] = stats.false_discovery_control(values[finite], method="bh")
    return [float(value) for value in adjusted]


@cache
def _quantile(freedom: float) -> float:
    return float(stats.t.ppf(0.5 + COVERAGE / 2, freedom))


def _t_test(mean: float, error: float, freedom: float) -> float:
    """Two-sided p value; without any spread the difference is either nil or beyond doubt."""
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, freedom))
