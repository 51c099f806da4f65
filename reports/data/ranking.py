"""Which entry is the best, how likely it is, and how stable the order is.

The highest of m means is too high: of 28 equal methods the best looks two of its own standard
errors better than it is.  So "highest" is said with the probability of being the best, from draws
of what the means might have been (`resampling`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.data.resampling import plausible_means, ranks, shared_seeds
from reports.data.summary import Entry


@dataclass(frozen=True)
class RankStability:
    """chance[i][r]: that entry i has rank r, 0 the best.  tau: Kendall's, expected between the
    order seen and the order on other seeds."""

    entries: tuple[Entry, ...]
    chance: tuple[tuple[float, ...], ...]
    tau: float

    def best(self, entry: Entry) -> float:
        """The probability that an entry is the best of them."""
        return self.chance[self.entries.index(entry)][0]


def rank_stability(entries: Sequence[Entry], metric: str, direction: str) -> RankStability | None:
    """Of entries with two seeds or more in common; None for fewer, and without a direction.

    Entries of a single fit are ranked as drawn: how far another fit would be is not known.
    """
    known = tuple(e for e in entries if e.estimate(metric).known)
    if len(known) < 2 or direction not in ("higher", "lower"):
        return None
    values = shared_seeds([e.estimate(metric) for e in known])
    if values.ndim < 2 or values.shape[1] < 2:
        return None
    return RankStability(known, *_stability(values, direction))


def _stability(values: np.ndarray, direction: str) -> tuple[tuple[tuple[float, ...], ...], float]:
    drawn = ranks(plausible_means(values), direction)
    count = len(values)
    chance = tuple(tuple((drawn[:, i] == r).mean() for r in range(count)) for i in range(count))
    seen = ranks(values.mean(1), direction)
    return chance, float(np.mean([kendall(seen, other) for other in drawn]))


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau of two orders without ties: concordant less discordant pairs, per pair."""
    i, j = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])))


def probability_best(entry: Entry, entries: Sequence[Entry], metric: str, direction: str) -> float:
    """That an entry is the best of those that it shares seeds with; NaN where that is unknown."""
    known = [e for e in entries if e.estimate(metric).known]
    if entry not in known or len(known) < 2 or direction not in ("higher", "lower"):
        return math.nan
    values = shared_seeds([e.estimate(metric) for e in known])
    if values.ndim < 2 or values.shape[1] < 2:
        return math.nan
    drawn = ranks(plausible_means(values), direction)
    return float((drawn[:, known.index(entry)] == 0).mean())
