"""Aggregates over seeds that one odd seed does not rule (Agarwal et al., arXiv 2108.13264).

Interquartile mean:            the mean of the middle half of all values; of infinite ones a quarter
                               may be cut off on either side, by name and not silently.
Performance profile:           the share of values at or above every threshold.
Probability of improvement:    P(X > Y) + P(X = Y) / 2, conditions with like weight (Mann-Whitney).

The error is that of a bootstrap that draws seeds anew, for all conditions together, since the seed
is what was repeated; with (k / (k - 1))^(1/2) for what k redrawn seeds lack in spread, and the t
quantile of k - 1.  Redrawing both sides of a probability of improvement counts their interaction
twice: its intervals are too wide, and cover 99 % for five seeds and 98 % for ten.  With fewer than
five seeds there are too few to draw from, and no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reports.data.statistics import COVERAGE

Values = NDArray[np.float64]
"""(conditions, seeds)."""

DRAWS = 500
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Aggregate:
    """A value with its interval; NaN ends where seeds are too few."""

    value: float
    low: float
    high: float


def interquartile_mean(values: Values) -> float:
    """The mean of the values between the quartiles, those at the ends with the share that is in.

    NaN where more than a quarter is infinite on one side, or nothing is known.
    """
    x = np.sort(values[~np.isnan(values)], axis=None)
    if not len(x):
        return math.nan
    edges = np.clip(np.arange(len(x) + 1) / len(x), 0.25, 0.75)
    weight = np.diff(edges)
    middle, share = x[weight > 0], weight[weight > 0]
    return float(2 * middle @ share) if np.isfinite(middle).all() else math.nan


def profile(values: Values, thresholds: Sequence[float], direction: str) -> NDArray[np.float64]:
    """The share of values that are at least as good as each threshold; unknown ones never are."""
    x, at = values.reshape(-1, 1), np.asarray(thresholds, dtype=float)
    shares: NDArray[np.float64] = (x >= at if direction == "higher" else x <= at).mean(0)
    return shares


def profile_distance(ours: Values, theirs: Values, thresholds: Sequence[float]) -> float:
    """The largest lead of one profile over another, as a signed share (higher is better)."""
    lead = profile(ours, thresholds, "higher") - profile(theirs, thresholds, "higher")
    return float(lead[np.argmax(np.abs(lead))])


def improvement(ours: Values, theirs: Values, direction: str) -> float:
    """That a run of ours is better than one of theirs, equal ones by half; mean over conditions."""
    sign = 1.0 if direction == "higher" else -1.0
    found = [_above(sign * x, sign * y) for x, y in zip(ours, theirs, strict=True)]
    known = [share for share in found if not math.isnan(share)]
    return sum(known) / len(known) if known else math.nan


def _above(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    x, y = x[~np.isnan(x)], y[~np.isnan(y)]
    if not len(x) or not len(y):
        return math.nan
    return float((x[:, None] > y).mean() + (x[:, None] == y).mean() / 2)


def bootstrapped(
    statistic: Callable[..., float], *values: Values, seed: int = 0, draws: int = DRAWS
) -> Aggregate:
    """A statistic of (conditions, seeds) arrays, each with seeds drawn anew on its own."""
    value = statistic(*values)
    if min(x.shape[1] for x in values) < FEWEST_SEEDS:
        return Aggregate(value, math.nan, math.nan)
    rng, fewest = np.random.default_rng(seed), min(x.shape[1] for x in values)
    found = [statistic(*(_redrawn(x, rng) for x in values)) for _ in range(draws)]
    error = float(np.nanstd(found)) * math.sqrt(fewest / (fewest - 1))
    half = float(stats.t.ppf(0.5 + COVERAGE / 2, fewest - 1)) * error
    return Aggregate(value, value - half, value + half)


def _redrawn(values: Values, rng: np.random.Generator) -> Values:
    return values[:, rng.integers(values.shape[1], size=values.shape[1])]
