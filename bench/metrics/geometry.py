"""The shape of a reference set, on which it depends what a Frechet distance to it says.

Whether better pictures lower the distance is explained for the most part by how concentrated the
reference is (arXiv 2605.29335): read a distance together with these, and compare none across
references.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.metrics.arrays import Array
from bench.metrics.manifold import DENSITY_NEIGHBOURS, Balls


class Geometry(NamedTuple):
    """Effective rank, from 1 to the number of features, and the log-density."""

    rank: float
    density: float

    def __str__(self) -> str:
        return f"effective rank {self.rank:.1f}, density {self.density:.2f}"


def effective_rank(covariance: Array) -> float:
    """exp of the entropy of the eigenvalues of a covariance (d, d), normalised to sum 1.

    The number of directions in which there is variance: d where all have the same, 1 for a line
    (Roy and Vetterli, EUSIPCO 2007).  From n rows it is at most n - 1.
    """
    values = np.maximum(np.linalg.eigvalsh(covariance), 0)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def log_density(around: Balls) -> float:
    """Mean of -log d_k, d_k the distance of a row to its k-th nearest other one.

    Up to a factor and a constant the log of the density of the rows.
    """
    return float(-around.radii.log().mean())


def geometry(covariance: Array, around: Balls) -> Geometry:
    """Of a reference by its covariance and the balls of its rows, k = DENSITY_NEIGHBOURS."""
    return Geometry(effective_rank(covariance), log_density(around))


ABOUT = f"mean of -log of the distance to the {DENSITY_NEIGHBOURS}th neighbour"
