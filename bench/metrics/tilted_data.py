"""Distance to a tilted law that is known by weighted data alone: of any task that has data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.metrics import Metric
from bench.core.tasks import Task
from bench.core.values import Measurement, Reference, Samples
from bench.metrics.distance import (
    of_dependent,
    reference_for,
    resampled,
    systematic_rows,
    too_light,
)
from bench.metrics.two_sample import mmd2

MOST_ROWS = 4096
"""Rows of data that are compared with; of more, as many are drawn by their weights."""

SIDE = 8
"""Pictures are compared as thumbnails of this side, so that kernels between thousands are cheap."""


class TiltedMMD(Metric):
    """Unbiased squared MMD to real data under self-normalised weights e^(strength r).

    The weights come from the rows alone, so it measures what a method adds to the error that the
    flow itself has on these data.  The note gives their effective size, 1 / sum of squared weights;
    below 200 there is no distance.
    """

    summary = "unbiased squared MMD to real data weighted by the tilt (zero when the laws agree)"
    rank = 65
    measures = "distance"

    direction = "lower"
    smallest_n: ClassVar[int] = 20

    @torch.no_grad()
    def __call__(self, samples: Samples, task: Task[Any]) -> Measurement:
        reference = reference_for(self.target, task, 0)
        if reference is None or reference.weight is None:
            return Measurement(None, note="the task has no data of its law here")
        if light := too_light(reference, "rows of data"):
            return light
        y, weight = fewer(reference)
        estimate = mmd2(seen(resampled(samples)), seen(y), weight)
        found = Measurement(estimate.value, estimate.standard_error, len(samples))
        note = f"reference: {reference.effective_size:.0f} effective of {len(reference.x)} rows"
        return of_dependent(replace(found, note=note), samples)


def fewer(reference: Reference) -> tuple[Tensor, Tensor]:
    """Rows with their weights, (m, *data_shape) and (m,), m at most `MOST_ROWS`.

    Of more, rows are drawn in proportion to their weights, systematically; one that is drawn k
    times weighs k, so that heavy rows stay heavy and the effective size is kept.
    """
    assert reference.weight is not None
    if len(reference.x) <= MOST_ROWS:
        return reference.x, reference.weight
    drawn = systematic_rows(reference.weight, MOST_ROWS)
    rows, counts = torch.unique(drawn, return_counts=True)
    return reference.x[rows], counts / MOST_ROWS


def seen(x: Tensor) -> Tensor:
    """(n, *data_shape) flat; pictures (n, channels, height, width) as thumbnails."""
    if x.dim() == 4 and min(x.shape[2:]) > SIDE:
        x = torch.nn.functional.adaptive_avg_pool2d(x, SIDE)
    return x.flatten(1)
