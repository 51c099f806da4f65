"""Which entry is the best, how probable that is, and how stable the order is.

The highest of m means is too high: of 28 equal methods it lies two of its own standard errors above
the truth.  So "highest" is said with the probability of being the best, from draws of what the
means might have been (`resampling`), which are shrunk towards one another: with the variance v of a
mean and the spread S of the means, the share of S^2 that is not noise is (James and Stein 1961)

    B = max(0, 1 - (m - 3) / (m - 1) v / S^2),

means then lie at B of their distance from the middle with the variance B v, and ranks are those of
distances times B^(1/2) with the variance v.  Two or three means are not shrunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reports.data.resampling import Values, plausible_means, ranks, shared_seeds
from reports.data.summary import Entry

DIRECTIONS = ("higher", "lower")


@dataclass(frozen=True)
class RankStability:
    """How the order of entries would change with other seeds.

    chance[i][r]: the probability that entry i has rank r, 0 the best.  tau: Kendall's, expected
    between the order seen and the order on other seeds.
    """

    entries: tuple[Entry, ...]
    chance: NDArray[np.float64]
    tau: float


def rank_stability(entries: Sequence[Entry], metric: str, direction: str) -> RankStability | None:
    """Of entries with a value and two seeds in common; None for fewer, and without a direction.

    An entry of a single fit is ranked as it was drawn.
    """
    known = tuple(e for e in entries if e.estimate(metric).known)
    values = _comparable(known, metric, direction)
    if values is None:
        return None
    return RankStability(known, *order_stability(values, direction))


def order_stability(values: Values, direction: str) -> tuple[NDArray[np.float64], float]:
    """The chance of every rank (m, m), and the expected tau, of values (m, J) over J seeds."""
    drawn = _drawn_ranks(values, direction)
    seen = ranks(values.mean(1), direction)
    chance = np.stack([(drawn == rank).mean(0) for rank in range(len(values))], axis=1)
    return chance, kendall(seen, drawn)


def _drawn_ranks(values: Values, direction: str) -> NDArray[np.int64]:
    return ranks(plausible_means(shrunk(values)), direction)


def shrunk(values: Values) -> Values:
    """(m, J) values whose means are B^(1/2) times as far from their middle."""
    count, seeds = values.shape
    mean, middle = values.mean(1, keepdims=True), values.mean()
    if count < 4:
        return values
    rest = values - mean - values.mean(0) + middle
    noise = (rest**2).sum() / ((count - 1) * (seeds - 1)) / seeds
    seen = mean.var(ddof=1)
    share = max(0.0, 1 - (count - 3) / (count - 1) * noise / seen) if seen > 0 else 0.0
    nearer: Values = values - (1 - share**0.5) * (mean - middle)
    return nearer


def kendall(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Kendall's tau of orders a (m,) and b (..., m), the mean over the latter."""
    i, j = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign(a[i] - a[j]) * np.sign(b[..., i] - b[..., j])))


def probability_best(entry: Entry, entries: Sequence[Entry], metric: str, direction: str) -> float:
    """That an entry is the best of those with a value; NaN where seeds do not say."""
    known = [e for e in entries if e.estimate(metric).known]
    values = _comparable(known, metric, direction)
    if values is None or entry not in known:
        return math.nan
    return float((_drawn_ranks(values, direction)[:, known.index(entry)] == 0).mean())


def _comparable(entries: Sequence[Entry], metric: str, direction: str) -> Values | None:
    if len(entries) < 2 or direction not in DIRECTIONS:
        return None
    values = shared_seeds([e.estimate(metric) for e in entries])
    return values if values.ndim == 2 and values.shape[1] > 1 else None
