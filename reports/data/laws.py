"""What the law that was asked for is like, from the run's own samples, with no model at hand.

Draws of the tilted law say it themselves.  Without them the base model's samples do, each with the
weight e^(strength * reward), normalised over the samples of its condition:

    m = sum_i w_i r_i,   s^2 = sum_i w_i (r_i - m)^2,   effective size 1 / sum_i w_i^2,
    mean distance of two draws  D = sum_{i != j} w_i w_j |x_i - x_j| / (1 - sum_i w_i^2).

So any flow with a prior and a reward has a law to be compared with, up to the strength at which the
weights leave too few samples: below `summary.LEAST_EFFECTIVE` the error of m exceeds a fifth of s.

Samples of one budget only: methods are run on common random numbers, and what a seed drew at
another budget is nearly the same samples again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from reports.data.run import RunTables, stored_arrays
from reports.data.statistics import MeanInterval
from reports.data.summary import Entry, LawReward, LawSpread, ProblemKey, Summary

Array = NDArray[np.float64]

MOST_ROWS, MOST_NUMBERS = 2000, 2**24
"""Of a condition's samples, spread over its cells, enter what takes the square of their number."""

SAME = 0.05
"""A metric is the mean distance where what it recorded of the base model is that of the stored
samples, up to this share: not all of them may be stored, or enter."""


def law_reward(summary: Summary, problem: ProblemKey, samples: pd.DataFrame) -> LawReward | None:
    """From draws of the law, else from the base model's samples; None where neither is stored."""
    for exact in (True, False):
        for drawn in _drawn(summary, problem, exact):
            rewards = [g["reward"].to_numpy(dtype=float) for g in _by_condition(drawn, samples)]
            if rewards:
                return _weighted(rewards, 0.0 if exact else problem.strength, exact)
    return None


def law_spread(summary: Summary, problem: ProblemKey, run: RunTables) -> LawSpread | None:
    """By the base model's stored samples; None without any, or where no metric is the distance."""
    for base in _drawn(summary, problem, exact=False):
        points = list(_points(base, run, problem.strength))
        if points:
            return _spread(summary, base, points)
    return None


def _spread(summary: Summary, base: Entry, points: list[tuple[Array, Array]]) -> LawSpread | None:
    """Conditions count alike; None where no metric is the mean distance."""
    own = [_mean_distance(x, np.full(len(x), 1 / len(x)))[0] for x, _ in points]
    metric = _recorded(summary, base, sum(own) / len(own))
    if metric is None:
        return None
    found = [(*_mean_distance(x, weight), _effective(weight)) for x, weight in points]
    distances, errors, effective = (np.array(column) for column in zip(*found, strict=True))
    error = math.sqrt(float((errors**2).sum())) / len(errors)
    value = MeanInterval(float(distances.mean()), error, source="cell")
    return LawSpread(metric, value, float(effective.min()))


def _recorded(summary: Summary, base: Entry, distance: float) -> str | None:
    """The diversity that is this mean distance of the base model: the nearest, if it is near."""
    gaps = {
        metric: abs(base.estimate(metric).mean / distance - 1)
        for metric in summary.measuring("diversity")
        if distance > 0 and base.estimate(metric).known
    }
    nearest = min(gaps, key=gaps.__getitem__, default=None)
    return nearest if nearest is not None and gaps[nearest] <= SAME else None


def _drawn(summary: Summary, problem: ProblemKey, exact: bool) -> list[Entry]:
    """The draws of the law, or of the base model, at the largest budget first."""
    entries = reversed(summary.of(problem))
    return [e for e in entries if (e.is_floor if exact else e.is_untilted) and len(e.done)]


def _by_condition(entry: Entry, samples: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """An entry's samples with a finite reward: one table per condition, in the order of names."""
    if samples.empty:
        return
    whole = dict(zip(entry.done["cell"], entry.done["condition"], strict=True))
    own = samples[samples["cell"].isin(list(whole)) & np.isfinite(samples["reward"])]
    told = own["condition"] if "condition" in own else pd.Series("", own.index)
    under = told.where(told != "", own["cell"].map(whole))
    yield from (group for _, group in own.groupby(under, sort=True))


def _points(entry: Entry, run: RunTables, strength: float) -> Iterator[tuple[Array, Array]]:
    """Samples (rows, numbers) with the law's weights, by condition; those that are stored."""
    if run.samples.empty:
        return
    attempts = dict(zip(entry.done["cell"], entry.done["attempt"], strict=True))
    stored = {cell: stored_arrays(run, cell, k).get("x") for cell, k in attempts.items()}
    for group in _by_condition(entry, run.samples):
        rows = [
            (x[int(index)].ravel(), reward)
            for cell, index, reward in group[["cell", "index", "reward"]].itertuples(index=False)
            if (x := stored[cell]) is not None and int(index) < len(x)
        ]
        few = rows[:: _stride(len(rows), rows[0][0].size)] if rows else []
        if len(few) > 1:
            points, rewards = (np.array(column, dtype=float) for column in zip(*few, strict=True))
            yield points, _weights(rewards, strength)


def _stride(count: int, numbers: int) -> int:
    most = max(2, min(MOST_ROWS, MOST_NUMBERS // max(numbers, 1)))
    return -(-count // most)


def _weights(rewards: Array, strength: float) -> Array:
    weight: Array = np.exp(
        strength * (rewards - (rewards.max() if strength > 0 else rewards.min()))
    )
    weight /= weight.sum()
    return weight


def _effective(weight: Array) -> float:
    return 1 / float(weight @ weight)


def _mean_distance(x: Array, weight: Array) -> tuple[float, float]:
    """D and its standard error, from 2 w_i (sum_j w_j |x_i - x_j| - D), the influence of a row."""
    towards = cdist(x, x) @ weight
    rest = 1 - float(weight @ weight)
    distance = float(weight @ towards) / rest if rest > 1e-12 else math.nan
    influence = 2 * weight * (towards - distance)
    return distance, math.sqrt(float(influence @ influence))


def _weighted(rewards: list[Array], strength: float, exact: bool) -> LawReward:
    """Conditions count alike; each has weights of its own."""
    weights = [_weights(r, strength) for r in rewards]
    means = [float(w @ r) for w, r in zip(weights, rewards, strict=True)]
    pairs = zip(weights, rewards, means, strict=True)
    variances = [float(w @ (r - m) ** 2) for w, r, m in pairs]
    deviation = math.sqrt(sum(variances) / len(variances))
    drawn = sum(map(len, rewards))
    effective = min(map(_effective, weights))
    return LawReward(sum(means) / len(means), deviation, effective, drawn, exact)


def law_spreads(summary: Summary, run: RunTables) -> Mapping[ProblemKey, LawSpread]:
    """Of the problems whose base samples tell it, and where no draws of the law do."""
    asked = [p for p in summary.problems if not _told(summary, p)]
    found = {p: law_spread(summary, p, run) for p in asked}
    return {p: spread for p, spread in found.items() if spread is not None}


def _told(summary: Summary, problem: ProblemKey) -> bool:
    metrics = summary.measuring("diversity")
    exact = _drawn(summary, problem, exact=True)
    return any(e.estimate(metric).known for e in exact for metric in metrics)
