"""Kernel distances of two samples with intervals that hold whether or not the laws agree.

The complete U-statistic of MMD^2 is degenerate when the laws agree: a skewed sum of chi-squares of
order 1/n rather than a normal of order 1/sqrt(n), and no single variance estimate serves both ends
(its interval covers 95 to 100 % there, for a nominal 90 %).  Here both samples are cut into blocks,
every block into halves, and

    h_b = mean k(x, x') + mean k(y, y') - mean k(x, y') - mean k(x', y)

is taken between the halves (x, y) and (x', y') of block b.  Halves are independent, so h_b is
unbiased for MMD^2 and symmetric about zero when the laws agree; blocks are independent, so their
mean has a t interval, uniformly in the laws.  Blocks: Zaremba et al. (arXiv 1307.1954); halves:
Shekhar et al. (arXiv 2211.14908).  The price is variance where the laws agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from bench.metrics.arrays import Array

Kernel = Callable[[Array, Array], Array]
"""(..., n, d), (..., m, d) -> (..., n, m)."""

BLOCKS = 10
INTERVAL_LEVEL = 0.9
SMALLEST_N = 4 * BLOCKS
"""Two rows in every half."""


class Interval(NamedTuple):
    """A value, its standard error, and the ends of its interval at LEVEL."""

    value: float
    standard_error: float
    low: float
    high: float


def cubic(x: Array, y: Array) -> Array:
    """(x . y / d + 1)^3: the kernel of KID (arXiv 1801.01401)."""
    out: Array = (x @ np.swapaxes(y, -1, -2) / x.shape[-1] + 1) ** 3
    return out


def gaussian(bandwidth: float) -> Kernel:
    """exp(-|x - y|^2 / (2 bandwidth^2))."""

    def kernel(x: Array, y: Array) -> Array:
        square = (x**2).sum(-1)[..., :, None] + (y**2).sum(-1)[..., None, :]
        square = square - 2 * x @ np.swapaxes(y, -1, -2)
        out: Array = np.exp(-np.maximum(square, 0) / (2 * bandwidth**2))
        return out

    return kernel


def kernel_interval(
    x: Array, y: Array, kernel: Kernel, seed: int = 0, level: float = INTERVAL_LEVEL
) -> Interval:
    """MMD^2 between the laws of x (n, d) and y (m, d), unbiased, with its interval.

    Rows are put into blocks at random (by `seed`), since folders are often sorted; at most
    2 BLOCKS - 1 rows of a sample are left out.  Raises ValueError below SMALLEST_N rows.
    """
    if min(len(x), len(y)) < SMALLEST_N:
        raise ValueError(f"an interval needs {SMALLEST_N} rows on both sides")
    rng = np.random.default_rng(seed)
    x1, x2 = _halves(x, rng)
    y1, y2 = _halves(y, rng)

    def between(a: Array, b: Array) -> Array:
        out: Array = kernel(a, b).mean((-1, -2))
        return out

    h = between(x1, x2) + between(y1, y2) - between(x1, y2) - between(x2, y1)
    return mean_interval(h, level)


def mean_interval(values: Array, level: float = INTERVAL_LEVEL) -> Interval:
    """Mean of independent values and its t interval."""
    mean, k = float(values.mean()), len(values)
    error = float(values.std(ddof=1)) / k**0.5
    half = float(stats.t.ppf(0.5 + level / 2, k - 1)) * error
    return Interval(mean, error, mean - half, mean + half)


def _halves(x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two arrays (BLOCKS, h, d) of disjoint random rows."""
    h = len(x) // (2 * BLOCKS)
    rows = rng.permutation(len(x))[: 2 * BLOCKS * h].reshape(2, BLOCKS, h)
    return x[rows[0]], x[rows[1]]
