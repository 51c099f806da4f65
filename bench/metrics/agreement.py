"""How often a judge chooses as people do: a proportion over pairs that share prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bench.metrics.intervals import INTERVAL_LEVEL, clustered_error


@dataclass(frozen=True)
class Agreement:
    """The share of agreement, its standard error, the ends of its interval, what it is over."""

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    pairs: int
    prompts: int
    undecided: int


def agreement(margins: Sequence[float], prompts: Sequence[str]) -> Agreement:
    """Of margins, score of the preferred picture minus that of the other; equal scores count half.

    Pairs of one prompt are dependent.  The variance v is that of groups
    (`bench.metrics.intervals`), and the interval that of Clopper and Pearson at the effective
    number of pairs p (1 - p) / v, reduced by the clusters' degrees of freedom and never more than n
    (Korn and Graubard, Survey Methodology 24, 1998).  Where all agree, or none, every prompt counts
    once.
    """
    agreed = (np.sign(margins) + 1) / 2
    groups = np.unique(prompts, return_inverse=True)[1]
    n, clusters, p = len(agreed), int(groups.max()) + 1, float(agreed.mean())
    undecided = int((agreed == 0.5).sum())
    if clusters < 2:
        return Agreement(p, None, None, None, n, clusters, undecided)
    error = clustered_error(agreed - p, groups)
    low, high = clopper_pearson(p, _effective(p, error**2, n, clusters))
    return Agreement(p, error, low, high, n, clusters, undecided)


def _effective(p: float, variance: float, n: int, clusters: int) -> float:
    """How many independent pairs would tell as much."""
    if variance == 0:
        return float(clusters)
    tail = (1 + INTERVAL_LEVEL) / 2
    ratio = stats.t.ppf(tail, n - 1) / stats.t.ppf(tail, clusters - 1)
    return float(min(n, p * (1 - p) / variance * ratio**2))


def clopper_pearson(p: float, n: float) -> tuple[float, float]:
    """The exact interval of a proportion p of n, which need not be whole."""
    tail, hits = (1 - INTERVAL_LEVEL) / 2, p * n
    low = 0.0 if hits <= 0 else float(stats.beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits >= n else float(stats.beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high
