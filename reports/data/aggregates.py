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
from collections.abc import Callable, Iterator, Sequence
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
    x = values[~np.isnan(values)]
    return float(interquartile_means(x[None, None])[0]) if len(x) else math.nan


def interquartile_means(stack: Values) -> NDArray[np.float64]:
    """The same of each of many arrays: (draws, conditions, seeds) to (draws,)."""
    x = np.sort(stack.reshape(len(stack), -1))
    if np.isnan(x).any():
        return np.array([interquartile_mean(values) for values in stack])
    edges = np.clip(np.arange(x.shape[1] + 1) / x.shape[1], 0.25, 0.75)
    weight = np.diff(edges)
    middle, share = x[:, weight > 0], weight[weight > 0]
    known: NDArray[np.bool_] = np.asarray(np.isfinite(middle).all(1))
    means = 2 * np.where(known[:, None], middle, 0.0) @ share
    found: NDArray[np.float64] = np.where(known, means, math.nan)
    return found


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
    return float(improvements(ours[None], theirs[None], direction)[0])


def improvements(ours: Values, theirs: Values, direction: str) -> NDArray[np.float64]:
    """The same of each of many pairs of arrays: (draws, conditions, seeds) to (draws,)."""
    sign = 1.0 if direction == "higher" else -1.0
    x, y = sign * ours[..., :, None], sign * theirs[..., None, :]
    pairs = (~np.isnan(x) & ~np.isnan(y)).sum((-1, -2))
    above = (x > y).sum((-1, -2)) + (x == y).sum((-1, -2)) / 2
    some = pairs > 0
    shares = np.where(some, above / np.maximum(pairs, 1), 0.0).sum(-1)
    count = some.sum(-1)
    found: NDArray[np.float64] = np.where(count > 0, shares / np.maximum(count, 1), math.nan)
    return found


def bootstrapped(
    statistic: Callable[..., NDArray[np.float64]],
    *values: Values,
    seed: int = 0,
    draws: int = DRAWS,
) -> Aggregate:
    """A statistic of (conditions, seeds) arrays, each with seeds drawn anew on its own.

    statistic: of many at a time, (draws, conditions, seeds) each, to (draws,).
    """
    value = float(statistic(*(x[None] for x in values))[0])
    fewest = min(x.shape[1] for x in values)
    if fewest < FEWEST_SEEDS:
        return Aggregate(value, math.nan, math.nan)
    found = statistic(*_redrawn(values, np.random.default_rng(seed), draws))
    error = float(np.nanstd(found)) * math.sqrt(fewest / (fewest - 1))
    half = float(stats.t.ppf(0.5 + COVERAGE / 2, fewest - 1)) * error
    return Aggregate(value, value - half, value + half)


def _redrawn(values: Sequence[Values], rng: np.random.Generator, draws: int) -> Iterator[Values]:
    """(draws, conditions, seeds) of each."""
    sizes = [x.shape[1] for x in values]
    picks = [[rng.integers(size, size=size) for size in sizes] for _ in range(draws)]
    for x, own in zip(values, zip(*picks, strict=True), strict=True):
        yield np.moveaxis(x[:, np.stack(own)], 0, 1)
