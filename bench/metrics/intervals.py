"""Intervals of means and of kernel distances, also where rows depend on one another.

Pictures of one prompt are dependent: it is the prompts that were drawn independently.  A mean over
n rows in G groups has the variance

    v = G / (G - 1)  sum_g (sum_{i in g} (x_i - m))^2 / n^2

and the t quantile of G - 1 degrees of freedom (Liang and Zeger, Biometrika 73, 1986; with groups of
one size it is the interval of the G means, with groups of one row the usual one).

Kernel distances of two samples have intervals that hold whether or not the laws agree.

The complete U-statistic of MMD^2 is degenerate when the laws agree: a skewed sum of chi-squares of
order 1/n rather than a normal of order 1/sqrt(n), and no single variance estimate serves both ends
(its interval covers 95 to 100 % there, for a nominal 90 %).  Here both samples are cut into blocks,
every block into halves, and

    h_b = mean k(x, x') + mean k(y, y') - mean k(x, y') - mean k(x', y)

is taken between the halves (x, y) and (x', y') of block b.  Halves are independent, so h_b is
unbiased for MMD^2 and symmetric about zero when the laws agree; blocks are independent, so their
mean has a t interval, uniformly in the laws.  Blocks: Zaremba et al. (arXiv 1307.1954); halves:
Shekhar et al. (arXiv 2211.14908).  The price is variance where the laws agree.  Rows of one group
never stand in two halves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.metrics.arrays import Array

Kernel = Callable[[Array, Array], Array]
"""(..., n, d), (..., m, d) -> (..., n, m)."""

Groups = NDArray[np.int64]
"""(n,) ids from 0 on; rows of one id are dependent."""

BLOCKS = 10
INTERVAL_LEVEL = 0.9
SMALLEST_N = 4 * BLOCKS
"""Two rows in every half."""
SMALLEST_GROUPS = 4
"""Two blocks of two halves, each of a group."""


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
    x: Array,
    y: Array,
    kernel: Kernel,
    seed: int = 0,
    level: float = INTERVAL_LEVEL,
    groups: Groups | None = None,
) -> Interval:
    """MMD^2 between the laws of x (n, d) and y (m, d), unbiased, with its interval.

    Groups of x (single rows by default) and rows of y are put into blocks at random (by `seed`),
    since folders are often sorted; fewer than two groups per block are left out.  Raises ValueError
    below SMALLEST_N rows and below SMALLEST_GROUPS groups.
    """
    own, theirs = ungrouped(len(x)) if groups is None else groups, ungrouped(len(y))
    sizes = [int(ids.max()) + 1 for ids in (own, theirs)]
    if min(len(x), len(y)) < SMALLEST_N or min(sizes) < SMALLEST_GROUPS:
        raise ValueError(f"an interval needs {SMALLEST_N} rows on both sides")
    blocks, rng = min(BLOCKS, *(size // 2 for size in sizes)), np.random.default_rng(seed)
    cut = (halves(ids, blocks, rng) for ids in (own, theirs))
    found = [
        _between_halves((x[a], x[b]), (y[c], y[d]), kernel)
        for (a, b), (c, d) in zip(*cut, strict=True)
    ]
    return mean_interval(np.array(found), level=level)


def mean_interval(
    values: Array, groups: Groups | None = None, level: float = INTERVAL_LEVEL
) -> Interval:
    """Mean of values (n,), of which rows of one group are dependent, and its t interval.

    Raises ValueError where all rows are of one group.
    """
    ids = ungrouped(len(values)) if groups is None else groups
    mean, count = float(values.mean()), int(ids.max()) + 1
    if count < 2:
        raise ValueError("an interval needs two independent groups")
    error = clustered_error(values - mean, ids)
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    return Interval(mean, error, mean - half, mean + half)


def clustered_error(centred: Array, groups: Groups) -> float:
    """Standard error of the mean of values from which their mean is taken, v^(1/2) above."""
    sums = np.bincount(groups, centred)
    count = len(sums)
    return float((count / (count - 1) * (sums @ sums)) ** 0.5 / len(centred))


def ungrouped(n: int) -> Groups:
    """Every row a group of its own."""
    return np.arange(n)


def _between_halves(x: tuple[Array, Array], y: tuple[Array, Array], kernel: Kernel) -> float:
    """h_b of one block."""
    pairs = ((*x, 1), (*y, 1), (x[0], y[1], -1), (x[1], y[0], -1))
    return sum(sign * float(kernel(a, b).mean()) for a, b, sign in pairs)


def halves(
    groups: Groups, blocks: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of the two halves of every block; groups stay whole."""
    count = int(groups.max()) + 1
    each = count // (2 * blocks)
    drawn = rng.permutation(count)[: 2 * blocks * each].reshape(2, blocks, each)
    rows = [[np.flatnonzero(np.isin(groups, ids)) for ids in half] for half in drawn]
    return list(zip(*rows, strict=True))
