"""Improved precision and recall: how much of one sample lies in the other's neighbourhood."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.metrics.arrays import Array

NEIGHBOURS = 3
DISTANCE_ROWS = 1024


def precision_recall(x: Array, y: Array, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Precision and recall of features x against those of the reference y (arXiv 1904.06991).

    Precision: share of x within the distance of some y to its k-th nearest neighbour in y; recall
    with the roles exchanged.  Both depend on the sizes of x and y: compare at equal sizes.
    """
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    return _inside(a, b, _radii(b, k)), _inside(b, a, _radii(a, k))


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of every row to its k-th nearest other row."""
    distances = (torch.cdist(part, x) for part in torch.split(x, DISTANCE_ROWS))
    return torch.cat([found.kthvalue(k + 1, dim=1).values for found in distances])


def _inside(x: Tensor, y: Tensor, radius: Tensor) -> float:
    parts = [(torch.cdist(part, y) <= radius).any(1) for part in torch.split(x, DISTANCE_ROWS)]
    return float(torch.cat(parts).double().mean())
