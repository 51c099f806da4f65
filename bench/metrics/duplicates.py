"""Rows that stand several times: a neighbour at no distance says nothing about a law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.metrics.arrays import Array

SAME = 1e-5
"""Rows nearer than this, in units of the sample's spread, are copies of one another.

Features are float32: the same picture in another batch is off by about 1e-6.
"""


def spread(x: Array) -> float:
    """Root mean squared distance of the rows from their mean."""
    return float(((x - x.mean(0)) ** 2).sum(1).mean() ** 0.5)


def distinct_rows(x: Array) -> NDArray[np.int64]:
    """Indices of rows that are no copy of an earlier one, in order.

    Copies are near in any direction, so that only rows next to one another along a fixed one are
    compared.
    """
    first = np.sort(np.unique(x, axis=0, return_index=True)[1])
    rows, radius = x[first], SAME * spread(x)
    direction = np.random.default_rng(0).standard_normal(x.shape[1])
    along = (rows - rows.mean(0)) @ (direction / np.linalg.norm(direction))
    order = np.argsort(along, kind="stable")
    copy = np.zeros(len(rows), dtype=bool)
    for lag in range(1, len(rows)):
        near = np.flatnonzero(along[order[lag:]] - along[order[:-lag]] <= radius)
        if not len(near):
            break
        pairs = np.stack([order[near], order[near + lag]])
        apart = np.linalg.norm(rows[pairs[0]] - rows[pairs[1]], axis=1)
        copy[pairs.max(0)[apart <= radius]] = True
    return first[~copy]


def copies_note(copies: int, what: str) -> str:
    """What is said of rows that were left out, or ""."""
    return f"{copies} copies in the {what} give no radius" if copies else ""
