"""The error that a share or a count has of its own, also where all samples agree."""

from __future__ import annotations

import math

AGREEMENT = 4
"""Samples added, half of them on either side (Agresti and Coull, Am. Stat. 52, 1998): n samples
that agree do not show that all would."""

WHOLE = 1e-6


def own_error(value: float, standard_error: float, n: float) -> float:
    """The standard error of a cell's value: its own, else that of a share or a count of n samples.

    An error of 0 says that all samples agreed, and not that there is none.  Of any other value
    without an error nothing is known: NaN.
    """
    if standard_error > 0:
        return standard_error
    if not (n > 1 and math.isfinite(value) and 0 <= value <= n):
        return math.nan
    for unit in (1.0, n):
        count = value * n / unit
        # A population counts as fewer samples than it has, and not as a whole number of them.
        whole = abs(count - round(count)) < WHOLE or value in (0.0, unit)
        if value <= unit and whole:
            share = (count + AGREEMENT / 2) / (n + AGREEMENT)
            return unit * math.sqrt(share * (1 - share) / (n + AGREEMENT))
    return math.nan
