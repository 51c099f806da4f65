"""Interleaved timing of two variants: what survives on a noisy machine is the median ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Run = Callable[[], object]


def seconds(run: Run) -> float:
    """Processor time of one call: other programs on the machine do not count."""
    started = time.process_time()
    run()
    return time.process_time() - started


def ratios(one: Run, other: Run, repetitions: int) -> list[float]:
    """one/other over adjacent pairs, alternating which goes first."""
    one(), other()
    found = []
    for k in range(repetitions):
        if k % 2:
            b, a = seconds(other), seconds(one)
        else:
            a, b = seconds(one), seconds(other)
        found.append(a / b)
    return found


def median_ratio(one: Run, other: Run, repetitions: int) -> tuple[float, float]:
    """Median of one/other over adjacent pairs, and half its interquartile range."""
    low, median, high = statistics.quantiles(ratios(one, other, repetitions), n=4)
    return median, (high - low) / 2
