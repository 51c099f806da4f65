"""Better, no worse by more than a margin, or not to be told: from the one interval.

"a is no worse than b by more than delta" is shown where the whole interval of its advantage lies
above -delta (one-sided t at 2.5 %, so that it agrees with the 95 % interval of every table), and
refuted where it lies below.  Not to be told apart is not the same as equally good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from reports.data.statistics import Difference, p_value

Answer = Literal["better", "no worse", "worse", "cannot tell"]


@dataclass(frozen=True)
class NoWorse:
    """The answer, the advantage with its interval, and the one-sided p of "worse by delta"."""

    answer: Answer
    advantage: float
    low: float
    high: float
    p: float


def no_worse(gap: Difference, delta: float, direction: str) -> NoWorse:
    """Whether a of a - b is no worse by more than delta > 0, `direction` saying which way is good.

    Raises ValueError for a margin that is not positive, and without a direction.
    """
    if not delta > 0 or direction not in ("higher", "lower"):
        raise ValueError("a margin above 0 and a metric with a direction are needed")
    advantage = gap.mean if direction == "higher" else -gap.mean
    low, high = advantage - gap.half, advantage + gap.half
    p = p_value(advantage + delta, gap.error, gap.freedom, sides=1)
    return NoWorse(_answer(low, high, delta), advantage, low, high, p)


def margin(gap: Difference, direction: str) -> float:
    """The least delta >= 0 for which a is no worse than b by more: what the seeds exclude.

    0 where a is better, infinite where there is no interval.
    """
    advantage = gap.mean if direction == "higher" else -gap.mean
    return max(0.0, gap.half - advantage) if math.isfinite(gap.half) else math.inf


def _answer(low: float, high: float, delta: float) -> Answer:
    if math.isnan(low):
        return "cannot tell"
    if low > 0:
        return "better"
    if low > -delta:
        return "no worse"
    return "worse" if high < -delta else "cannot tell"
