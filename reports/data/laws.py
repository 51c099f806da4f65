"""What reward the law that was asked for has, from the run's own samples, with no model at hand.

Draws of the tilted law say it themselves.  Without them the base model's samples do, each with the
weight e^(strength * reward), normalised over the samples of its condition:

    m = sum_i w_i r_i,   s^2 = sum_i w_i (r_i - m)^2,   effective size 1 / sum_i w_i^2.

So any flow with a prior and a reward has a law to be compared with, up to the strength at which the
weights leave too few samples: below `summary.LEAST_EFFECTIVE` the error of m exceeds a fifth of s.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.data.summary import Entry, LawReward, ProblemKey, Summary


def law_reward(summary: Summary, problem: ProblemKey, samples: pd.DataFrame) -> LawReward | None:
    """From draws of the law, else from the base model's samples; None where neither is stored."""
    entries = summary.of(problem)
    for exact in (True, False):
        own = [e for e in entries if (e.is_floor if exact else e.is_untilted)]
        rewards = _rewards(own, samples)
        if rewards:
            return _weighted(rewards, 0.0 if exact else problem.strength, exact)
    return None


def _rewards(entries: list[Entry], samples: pd.DataFrame) -> list[NDArray[np.float64]]:
    """By condition, those that are known."""
    if not entries or samples.empty:
        return []
    cells = pd.concat([e.done for e in entries])
    condition = dict(zip(cells["cell"], cells["condition"], strict=True))
    own = samples[samples["cell"].isin(list(condition)) & np.isfinite(samples["reward"])]
    groups = own["reward"].groupby(own["cell"].map(condition), sort=True)
    return [group.to_numpy(dtype=float) for _, group in groups]


def _weighted(rewards: list[NDArray[np.float64]], strength: float, exact: bool) -> LawReward:
    """Conditions count alike; each has weights of its own."""
    means, variances, effective = [], [], []
    for r in rewards:
        weight = np.exp(strength * (r - (r.max() if strength > 0 else r.min())))
        weight /= weight.sum()
        means.append(float(weight @ r))
        variances.append(float(weight @ (r - means[-1]) ** 2))
        effective.append(1 / float(weight @ weight))
    deviation = math.sqrt(sum(variances) / len(variances))
    drawn = sum(map(len, rewards))
    return LawReward(sum(means) / len(means), deviation, min(effective), drawn, exact)
