"""Sliced Wasserstein distance of features: MIND on those of Inception (arXiv 2605.06797).

    SW(x, y)^2 = 1/L sum_l int_0^1 (F_l^-1(u) - G_l^-1(u))^2 du

with the quantile functions F_l, G_l of x and y projected on L unit vectors, which are the same 512
everywhere (`two_sample.directions`).  Features are taken as the encoder gives them: neither
standardised nor normalised.

It has no covariance to estimate, so that a few hundred pictures give a number; but also where the
laws agree it is of order n^(-1/2), so that it compares samples of one size.  For the squared
distance of the laws themselves, both samples are cut into blocks of two halves of one size
(`bench.metrics.intervals`), and

    h_b = 1/L sum_l int (F_l^-1 - G_l^-1)(F'_l^-1 - G'_l^-1) du

is taken of the quantile functions F, G of one half and F', G' of the other.  Halves are
independent, so that the noise of quantiles drops out of the product: h_b is unbiased for the
squared distance of the mean quantile functions of samples of its size, zero on average when the
laws agree, and blocks are independent, so that their mean has a t interval.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.metrics.arrays import Array
from bench.metrics.intervals import (
    BLOCKS,
    INTERVAL_LEVEL,
    Groups,
    Interval,
    halves,
    mean_interval,
    ungrouped,
)
from bench.metrics.two_sample import directions, sliced_w2

Rows = NDArray[np.int64]
"""Indices of rows."""

SMALLEST_HALF = 20
"""Rows of a half.  Mean quantile functions of 20 rows have 93 % of a Gaussian's variance, those of
100 have 98 %: by so much differences of width look smaller than they are.
"""
FEWEST_BLOCKS = 5
SLICED_FLOOR = 2 * FEWEST_BLOCKS * SMALLEST_HALF
"""Pictures, or prompts where pictures share them, below which the squared distance is refused."""

PICKS = 8
"""Pictures per prompt that are looked at, at most."""


def sliced_distance(x: Array, y: Array) -> float:
    """SW(x, y) of features (n, d) and (m, d), in float64; any two sizes."""
    return sliced_w2(torch.from_numpy(x), torch.from_numpy(y))


def squared_interval(
    x: Array,
    y: Array,
    groups: Groups | None = None,
    seed: int = 0,
    level: float = INTERVAL_LEVEL,
) -> Interval:
    """SW^2 between the laws of x (n, d) and y (m, d), with its interval; may be negative.

    Where rows of x share groups, a half holds one row of each of its groups, as near-copies have
    other quantiles than as many free rows, and h_b is the mean over several picks.  Raises
    ValueError below SLICED_FLOOR groups of x or rows of y.
    """
    own, theirs = ungrouped(len(x)) if groups is None else groups, ungrouped(len(y))
    count = min(int(own.max()) + 1, len(y))
    if count < SLICED_FLOOR:
        raise ValueError(f"an interval needs {SLICED_FLOOR} independent rows on both sides")
    blocks, rng = min(BLOCKS, count // (2 * SMALLEST_HALF)), np.random.default_rng(seed)
    picks = min(PICKS, int(np.bincount(own).max()))
    v = directions(x.shape[1])
    pairs = zip(halves(own, blocks, rng), halves(theirs, blocks, rng), strict=True)
    found = [
        [_product(v, x, y, [*(_picked(r, own, rng) for r in a), *b], rng) for _ in range(picks)]
        for a, b in pairs
    ]
    return mean_interval(np.array(found).mean(1), level=level)


def _picked(rows: Rows, groups: Groups, rng: np.random.Generator) -> Rows:
    """One of the rows of each group, at random."""
    mixed = rng.permutation(rows)
    return mixed[np.unique(groups[mixed], return_index=True)[1]]


def _product(v: Tensor, x: Array, y: Array, rows: list[Rows], rng: np.random.Generator) -> float:
    """h_b of the two halves of x and the two of y, cut at random to the size of the smallest."""
    size = min(map(len, rows))
    cut = [rng.permutation(one)[:size] for one in rows]
    f, f2, g, g2 = (
        (v @ torch.from_numpy(side[one]).T).sort(1).values
        for side, one in zip((x, x, y, y), cut, strict=True)
    )
    return float(((f - g) * (f2 - g2)).mean())
