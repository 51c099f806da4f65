"""The exact test by signs, as a check of t: it asks for nothing but symmetric differences.

Under "no difference" each of the k paired differences might as well have had the other sign, so
the share of the 2^k patterns of signs whose mean is as far from 0 as the one seen is a p value,
whatever the law of the differences (Fisher 1935).  It cannot be smaller than 2 / 2^k: with five
repetitions or fewer it never reaches 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

EXACT = 14
"""Repetitions up to which all patterns are listed; above, as many are drawn."""

SAME = 1 - 1e-9
"""Means that differ by less than this factor are as far from 0 as one another."""


def smallest_p(k: int) -> float:
    """What k repetitions can reach at best."""
    return min(1.0, 2.0 ** (1 - k))


def sign_flip(gaps: Sequence[float]) -> float:
    """The p value of k paired differences; 1 for none."""
    x = np.asarray(gaps, dtype=float)
    if not len(x):
        return 1.0
    sums = _signs(len(x)) @ x
    share = float(np.mean(np.abs(sums) >= abs(x.sum()) * SAME))
    return max(share, smallest_p(len(x)))


def repetitions_needed(level: float) -> int:
    """The fewest repetitions with which the test can reach a level."""
    k = 1
    while smallest_p(k) > level:
        k += 1
    return k


def _signs(k: int) -> np.ndarray:
    """All patterns of k signs, or 2^EXACT drawn ones and the one that was seen."""
    if k <= EXACT:
        return np.array(list(product((1.0, -1.0), repeat=k)))
    drawn = np.random.default_rng(k).choice((1.0, -1.0), size=(2**EXACT, k))
    return np.concatenate([np.ones((1, k)), drawn])
