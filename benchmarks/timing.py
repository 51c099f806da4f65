"""Interleaved timing of two variants: what survives on a noisy machine is the median ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(run: Callable[[], object]) -> float:
    """Processor time of one call: other programs on the machine do not count."""
    started = time.process_time()
    run()
    return time.process_time() - started


def median_ratio(
    one: Callable[[], object], other: Callable[[], object], repetitions: int
) -> tuple[float, float]:
    """Median of one/other over adjacent pairs, alternating which goes first, and half its IQR."""
    one(), other()
    ratios = []
    for k in range(repetitions):
        if k % 2:
            b, a = seconds(other), seconds(one)
        else:
            a, b = seconds(one), seconds(other)
        ratios.append(a / b)
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), (high - low) / 2
