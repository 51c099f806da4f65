"""How much of one sample lies in the neighbourhood of another: precision, recall and their kin.

A sample's support is covered by balls around its rows, each as far as the k-th nearest other row.
Copies of a row are left out of them, since k copies would make a ball of no size that not even
themselves would hold.  All four depend on the sizes of both samples: compare at equal sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core.params import UserError
from bench.metrics.arrays import Array
from bench.metrics.duplicates import SAME, distinct_rows, spread

NEIGHBOURS = 3
"""Of precision and recall (arXiv 1904.06991)."""
DENSITY_NEIGHBOURS = 5
"""Of density and coverage (arXiv 2002.09797)."""
DISTANCE_ROWS = 1024


class Balls(NamedTuple):
    """Distinct rows (m, d), their distances (m,) to their k-th neighbours, and how many of copies.

    `origin` is taken off all rows, since distances between rows far from zero lose digits.
    """

    centres: Tensor
    radii: Tensor
    origin: Tensor
    copies: int


def balls(x: Array, k: int) -> Balls:
    """The balls that cover a sample (n, d); raises UserError for fewer than two distinct rows."""
    kept = distinct_rows(x)
    if len(kept) < 2:
        raise UserError("all rows of a sample are the same: it has no neighbourhoods")
    rows = torch.from_numpy(x[kept])
    origin = rows.mean(0)
    centres = rows - origin
    place = min(k, len(kept) - 1) + 1
    distances = (torch.cdist(part, centres) for part in torch.split(centres, DISTANCE_ROWS))
    radii = torch.cat([found.kthvalue(place, dim=1).values for found in distances])
    return Balls(centres, radii.clamp(min=SAME * spread(x)), origin, len(x) - len(kept))


def _held(points: Array, by: Balls) -> Iterator[Tensor]:
    """Which points lie in which balls, (part of n, m), part by part."""
    for part in torch.split(torch.from_numpy(points) - by.origin, DISTANCE_ROWS):
        yield torch.cdist(part, by.centres) <= by.radii


def share_inside(points: Array, by: Balls) -> float:
    """The share of points (n, d) that lie in any ball."""
    return float(torch.cat([held.any(1) for held in _held(points, by)]).double().mean())


def precision_recall(x: Array, y: Array, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Precision and recall of features x against those of the reference y (arXiv 1904.06991).

    Precision: share of x within the distance of some y to its k-th nearest neighbour in y; recall
    with the roles exchanged.
    """
    return share_inside(x, balls(y, k)), share_inside(y, balls(x, k))


class DensityCoverage(NamedTuple):
    """Both, without a unit."""

    density: float
    coverage: float


def density_coverage(x: Array, real: Balls, k: int = DENSITY_NEIGHBOURS) -> DensityCoverage:
    """Density and coverage of features x in the balls of the reference (arXiv 2002.09797).

    density = (1 / k n) sum over x of the balls that hold it: 1 on average when the laws agree, and
    above where x crowds.  coverage = share of balls that hold any x: under equal laws on average
    1 - (m - 1) ... (m - k) / ((n + m - 1) ... (n + m - k)) with m balls.
    """
    inside, touched = 0, torch.zeros(len(real.radii), dtype=torch.bool)
    for held in _held(x, real):
        inside += int(held.sum())
        touched |= held.any(0)
    return DensityCoverage(inside / (k * len(x)), float(touched.double().mean()))
