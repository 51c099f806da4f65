"""Draws of what the means might have been: the seeds weighted anew, together for all entries.

The means of m entries over the J seeds that all have are shifted by

    sum_j g_j (x_j - mean) / sqrt(J (J - 1)),   g ~ N(0, 1),  all over sqrt(chi^2_{J-1} / (J - 1)),

so that the differences of entries have the t law of their intervals, and what the seeds share
cancels (the multiplier form of the cluster bootstrap, which also holds for three seeds).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reports.data.statistics import MeanInterval

DRAWS = 4000

Values = NDArray[np.float64]


def shared_seeds(estimates: Sequence[MeanInterval]) -> Values:
    """(m, J) means of the seeds that all have, over the conditions that all have."""
    keys = [{(row.condition, row.seed) for row in found.rows} for found in estimates]
    both = set.intersection(*keys) if keys else set()
    conditions = {c for c, _ in both}
    whole = [s for s in sorted({s for _, s in both}) if all((c, s) in both for c in conditions)]
    return np.array([[_of_seed(found, s, conditions) for s in whole] for found in estimates])


def _of_seed(found: MeanInterval, seed: int, conditions: set[str]) -> float:
    values = [r.value for r in found.rows if r.seed == seed and r.condition in conditions]
    return sum(values) / len(values)


def plausible_means(values: Values, draws: int = DRAWS, seed: int = 0) -> Values:
    """(draws, m) of m entries with (m, J) values, J at least 2."""
    count, rng = values.shape[1], np.random.default_rng(seed)
    mean = values.mean(1, keepdims=True)
    weights = rng.standard_normal((draws, count)) / np.sqrt(count * (count - 1))
    weights /= np.sqrt(rng.chisquare(count - 1, (draws, 1)) / (count - 1))
    shifted: Values = mean.T + weights @ (values - mean).T
    return shifted


def ranks(means: Values, direction: str) -> NDArray[np.int64]:
    """(..., m) ranks of means (..., m), 0 for the best; of equal ones the first comes first."""
    keyed = -means if direction == "higher" else means
    return np.argsort(np.argsort(keyed, -1, kind="stable"), -1, kind="stable")
