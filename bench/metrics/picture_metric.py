"""A row of the table of a folder of pictures: a number with its interval, or why not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bench.metrics.arrays import Array
from bench.metrics.intervals import Groups, mean_interval


@dataclass(frozen=True)
class PictureMetric:
    """One number, or why there is none; low and high are the ends of a 90 % interval.

    `unit` says what the number counts and `usual` where it usually lies, where that is known.
    """

    metric: str
    encoder: str = ""
    value: float | None = None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reference_n: int = 0
    direction: str = "none"
    implementation: str = "tiltbench"
    weights: str = ""
    note: str = ""
    unit: str = ""
    usual: str = ""


def mean_row(metric: str, values: Array, groups: Groups | None = None) -> PictureMetric:
    """The mean over pictures (n,) with its interval; pictures of one group are dependent.

    Where all share a prompt, it is an interval over pictures of that prompt.
    """
    row = PictureMetric(metric, value=float(values.mean()), n=len(values))
    if len(values) < 2:
        return row
    found = mean_interval(values, independent(groups))
    return replace(row, **found._asdict(), note=dependence(groups))


def independent(groups: Groups | None) -> Groups | None:
    """The groups that an interval is over; None for the pictures themselves."""
    return None if groups is None or not groups.any() else groups


def dependence(groups: Groups | None) -> str:
    """What an interval takes to be independent, where it is not the pictures; else ""."""
    count = 0 if groups is None else len(np.unique(groups))
    if groups is None or count == len(groups):
        return ""
    if count == 1:
        return "all pictures have one prompt: the interval is over pictures of it"
    return f"{count} prompts: pictures of one are dependent"
