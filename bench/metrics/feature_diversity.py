"""How different samples are from one another, in feature space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.tasks import Task
from bench.core.values import Measurement
from bench.metrics.arrays import Array
from bench.metrics.distance import OfFew
from bench.metrics.duplicates import copies_note, distinct_rows
from bench.metrics.manifold import balls
from bench.metrics.two_sample import mean_pairwise_distance

MOST = 1000
"""Rows that enter an n^3 or n^2 computation."""


def vendi_score(features: Array) -> float:
    """exp of the entropy of the eigenvalues of K / n, K the cosines of the rows (2210.02410).

    The effective number of different samples: 1 if all are alike, n if all are orthogonal.
    """
    x = features[:MOST]
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    # X X' / n and X' X / n have the same positive eigenvalues; the smaller one is decomposed.
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    shares = np.maximum(np.linalg.eigvalsh(gram / len(unit)), 0)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def pairwise_distance(features: Array) -> float:
    """Mean Euclidean distance between rows."""
    return mean_pairwise_distance(torch.from_numpy(features), MOST)


def mode_radius(reference: Array) -> float:
    """Median distance of a row to its nearest neighbour that is no copy of it.

    Raises UserError where all rows are the same.
    """
    return float(balls(reference[:MOST], 1).radii.median())


def mode_count(features: Array, radius: float) -> int:
    """Rows kept when every row within `radius` of a kept one is dropped, first come first kept.

    At most n; with the radius of real data, about the share of samples that are not repetitions.
    """
    x = torch.from_numpy(features[:MOST])
    centred = x - x.mean(0)
    near = torch.cdist(centred, centred) <= radius
    covered, kept = torch.zeros(len(x), dtype=torch.bool), 0
    for k in range(len(x)):
        if not covered[k]:
            kept += 1
            covered |= near[k]
    return kept


class Vendi(OfFew):
    """Vendi score of the samples less the mean of real data: their effective number, from 1 to n.

    Raw pixels have their mean in common, so that all cosines are near 1 and the score says little:
    of 256 digits 6.4, of 16 that repeat 4.4.  It is the data's mean that is taken off, and not the
    samples' own: about their own mean, near-copies of one picture look different from one another.
    """

    summary = "effective number of different samples (Vendi score, about the mean of real data)"
    rank = 140
    measures = "diversity"

    version = "2"
    most = MOST

    def among(self, x: Tensor, n: int, task: Task[Any]) -> Measurement:
        data = task.data("held-out")
        if data is None:
            return Measurement(None, note="the task has no real data whose mean could be taken off")
        real, own = (v.flatten(1).double().cpu().numpy() for v in (data, x))
        return Measurement(vendi_score(own - real.mean(0)), None, n)


class Modes(OfFew):
    """Samples further from one another than real neighbours are: repetitions do not count."""

    summary = "samples that are no repetition of another, at the distance of real neighbours"
    rank = 150
    measures = "diversity"

    version = "2"
    most = MOST

    def among(self, x: Tensor, n: int, task: Task[Any]) -> Measurement:
        data = task.data("held-out")
        if data is None:
            return Measurement(None, note="the task has no real data to take the radius from")
        real, own = (v.flatten(1).double().cpu().numpy() for v in (data, x))
        copies = len(real[:MOST]) - len(distinct_rows(real[:MOST]))
        note = copies_note(copies, "real data")
        return Measurement(float(mode_count(own, mode_radius(real))), None, n, note)
