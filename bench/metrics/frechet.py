"""Frechet distance of Gaussians fitted to features, in float64, and when it may be given.

    d^2 = |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))                            (arXiv 1706.08500)

Estimated covariances bias it upwards by an amount that depends on the sample size and the encoder,
so below a floor it says more about n than about the pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.metrics.arrays import Array

INCEPTION_FLOOR = 2048
"""Samples below which an Inception FID is refused: its covariance has not even full rank."""
SAMPLES_PER_DIMENSION = 10
"""Samples per feature dimension below which any other Frechet distance is refused."""


class Moments(NamedTuple):
    """Mean (d,), covariance (d, d) and the number of rows behind them."""

    mean: Array
    covariance: Array
    n: int


def moments(features: Array) -> Moments:
    """Of the rows of (n, d), in float64, with n - 1 in the denominator."""
    wide = np.asarray(features, dtype=np.float64)
    covariance = np.atleast_2d(np.cov(wide, rowvar=False))
    return Moments(wide.mean(0), covariance, len(wide))


def frechet_distance(a: Moments, b: Moments) -> float:
    """d^2; tr (C C')^(1/2) is the sum of square roots of the eigenvalues of C^(1/2) C' C^(1/2).

    That matrix is symmetric and positive semi-definite, so nothing complex appears, also where the
    covariances are singular.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ b.covariance @ root)
    overlap = np.sqrt(np.maximum(inner, 0)).sum()
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return float(((a.mean - b.mean) ** 2).sum() + traces - 2 * overlap)


def too_few(n: int, dimension: int, inception: bool) -> str:
    """Why a Frechet distance of n samples is refused, or an empty string."""
    floor = INCEPTION_FLOOR if inception else SAMPLES_PER_DIMENSION * dimension
    if n >= floor:
        return ""
    rule = "an Inception FID" if inception else f"a Frechet distance of {dimension} features"
    return f"{rule} needs {floor:,} samples, not {n:,}: read the kernel distance and its interval"
