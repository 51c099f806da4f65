"""The value-estimation study: agreement with the truth over samplers, times and numbers of draws.

Every statistic comes with a percentile interval over contexts: the bootstrap resamples contexts,
the same ones for every sampler, so that differences between samplers are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.metrics import value_estimation as ve
from bench.metrics.value_estimation import PosteriorDraws, Truth, ValueQuestion

RESAMPLES = 1000
MOST_SETS = 8
"""At most so many disjoint sets of N draws are averaged over, to see N draws more precisely."""

GRADIENT_DRAWS = 64
"""Draws that are differentiated; the gradient is not asked at more."""

Statistics = Mapping[str, Tensor]
"""Name -> (1 + RESAMPLES,): the statistic of all contexts, then of every resample."""


@dataclass(frozen=True)
class StudyRow:
    """One figure of the study, with its 95 % interval over contexts."""

    t: float
    sampler: str
    evaluations: int
    draws: int
    quantity: str
    statistic: str
    value: float
    low: float
    high: float


class Found(NamedTuple):
    """The replicates behind a set of rows."""

    sampler: str
    evaluations: int
    draws: int
    quantity: str
    statistics: Statistics


def resampling_weights(n: int) -> Tensor:
    """(1 + RESAMPLES, n), rows summing to 1: equal weights, then multinomial ones."""
    g = torch.Generator().manual_seed(0)
    picks = torch.randint(n, (RESAMPLES, n), generator=g)
    counts = torch.zeros(RESAMPLES, n).scatter_add_(1, picks, torch.ones(RESAMPLES, n))
    return (torch.cat([torch.ones(1, n), counts]) / n).double()


def value_statistics(estimate: Tensor, truth: Tensor, weight: Tensor) -> Statistics:
    """Pearson correlation, RMSE and bias of estimates (blocks, contexts) of V (contexts,).

    weight: (resamples, contexts).  A block is one set of N draws; statistics are averaged over
    them, the squared error before its root.
    """
    e, v, w = estimate.double(), truth.double(), weight.T
    mean_e, mean_v = e @ w, v @ w
    covariance = (e * v) @ w - mean_e * mean_v
    variance_e, variance_v = e.square() @ w - mean_e.square(), v.square() @ w - mean_v.square()
    gap = e - v
    return {
        "pearson": (covariance / (variance_e * variance_v).clamp(min=1e-30).sqrt()).mean(0),
        "rmse": (gap.square() @ w).mean(0).sqrt(),
        "bias": (gap @ w).mean(0),
    }


def gradient_statistics(estimate: Tensor, truth: Tensor, weight: Tensor) -> Statistics:
    """Mean cosine, and root of the mean squared error over the mean squared length of the truth.

    estimate: (blocks, contexts, d), truth: (contexts, d).  Relative RMSE 1 is what a zero scores.
    """
    e, g, w = estimate.double(), truth.double(), weight.T
    cosine = torch.nn.functional.cosine_similarity(e, g.expand_as(e), dim=-1)
    error, length = (e - g).square().sum(-1), g.square().sum(-1)
    return {
        "cosine": (cosine @ w).mean(0),
        "relative-rmse": ((error @ w).mean(0) / (length @ w)).sqrt(),
    }


def disjoint_sets(draws: PosteriorDraws, n: int, total: int) -> list[PosteriorDraws]:
    """Disjoint sets of n of the first `total` draws, at most BLOCKS of them."""
    count = min(MOST_SETS, total // n)
    return [ve.part(draws, slice(k * n, (k + 1) * n)) for k in range(count)]


def _stacked(
    parts: Sequence[PosteriorDraws], estimator: Callable[[PosteriorDraws], Tensor]
) -> Tensor:
    return torch.stack([estimator(part) for part in parts])


def sampler_statistics(
    question: ValueQuestion,
    name: str,
    evaluations: int,
    draws: PosteriorDraws,
    truth: Truth,
    sizes: list[int],
) -> list[Found]:
    """All statistics of one sampler's draws at every number of draws."""
    weight, total = resampling_weights(len(question.x)), len(draws.reward)
    found = []
    for n in (n for n in sizes if n <= total):
        values = _stacked(disjoint_sets(draws, n, total), ve.value_estimate)
        found.append(("V", n, value_statistics(values, truth.value, weight)))
        if n > GRADIENT_DRAWS:
            continue
        few = disjoint_sets(draws, n, min(total, GRADIENT_DRAWS))
        estimators: dict[str, Callable[[PosteriorDraws], Tensor]] = {}
        if draws.pull is not None:
            estimators["grad V, G"] = ve.gradient_g
        if n > 1 and name != "glass-1":  # equal draws, or one, leave GF at zero
            estimators["grad V, GF"] = lambda part: ve.gradient_gf(question, part)
        for quantity, estimator in estimators.items():
            gradients = _stacked(few, estimator).flatten(2)
            truths = truth.gradient.flatten(1)
            found.append((quantity, n, gradient_statistics(gradients, truths, weight)))
    return [Found(name, evaluations, n, quantity, s) for quantity, n, s in found]


def study_rows(t: float, found: Sequence[Found]) -> list[StudyRow]:
    """One row per statistic."""
    return [
        StudyRow(t, f.sampler, f.evaluations, f.draws, f.quantity, name, *interval(replicates))
        for f in found
        for name, replicates in f.statistics.items()
    ]


def interval(replicates: Tensor) -> tuple[float, float, float]:
    """The value of all contexts with the 2.5 % and 97.5 % quantiles of the resamples."""
    low, high = replicates[1:].quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return float(replicates[0]), low, high


def paired_gains(
    t: float, found: Sequence[Found], one: str = "map", other: str = "glass"
) -> list[StudyRow]:
    """Correlation of V of `one`-k less that of `other`-k at equal evaluations k, paired."""
    pearson = {(f.sampler, f.draws): f.statistics["pearson"] for f in found if f.quantity == "V"}
    rows = []
    for f in found:
        rival = (f.sampler.replace(one, other), f.draws)
        if f.quantity != "V" or not f.sampler.startswith(f"{one}-") or rival not in pearson:
            continue
        gap = f.statistics["pearson"] - pearson[rival]
        name = f"{f.sampler} - {rival[0]}"
        rows.append(StudyRow(t, name, f.evaluations, f.draws, "V", "pearson gain", *interval(gap)))
    return rows


def study(question: ValueQuestion, truth: Truth, sizes: list[int]) -> list[Found]:
    """Every sampler of the task against the truth."""
    found = []
    for name, (sampler, evaluations) in ve.samplers(question.task).items():
        draws = ve.draw(question, sampler, max(sizes), min(GRADIENT_DRAWS, max(sizes)))
        found += sampler_statistics(question, name, evaluations, draws, truth, sizes)
    return found


def half_against_half(
    question: ValueQuestion, halves: tuple[Truth, Truth], particles: int
) -> list[Found]:
    """One half of a rollout reference scored against the other: what its noise alone costs."""
    weight = resampling_weights(len(question.x))
    one, other = halves
    values = value_statistics(one.value[None], other.value, weight)
    gradients = gradient_statistics(
        one.gradient[None].flatten(2), other.gradient.flatten(1), weight
    )
    return [
        Found("reference/2", ve.REFERENCE_STEPS, particles // 2, quantity, statistics)
        for quantity, statistics in (("V", values), ("grad V, GF", gradients))
    ]
