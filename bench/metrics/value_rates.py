"""How fast the value estimator settles: its bias and its spread against the number of draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core.estimators import log_mean_exp
from bench.metrics import value_estimation as ve
from bench.metrics.value_estimation import ValueQuestion

RATE_SIZES, RATE_DRAWS, RATE_CONTEXTS = (8, 16, 32, 64, 128), 2**15, 8
"""Numbers of draws N, draws that are grouped by N, and contexts."""


class ConvergenceRates(NamedTuple):
    """Bias and spread of V_hat_N with exact draws, and the slopes of their logarithms in log N.

    Theory: -1 and -1/2 (V_hat_N falls short by Var(e^r) / (2 N E[e^r]^2)).
    """

    sizes: list[int]
    bias: Tensor
    spread: Tensor
    bias_slope: float
    spread_slope: float


def rates(reward: Tensor, value: Tensor, sizes: Sequence[int]) -> ConvergenceRates:
    """Rates from rewards (draws, contexts) of exact posterior draws and the exact V (contexts,).

    e^{V_hat - V} - 1 has mean zero when the draws are exact, and is subtracted: what is left has
    the same mean and hardly any of the noise.  Bias and spread are (sizes, contexts).
    """
    bias, spread = [], []
    for n in sizes:
        sets = len(reward) // n
        grouped = reward[: sets * n].reshape(sets, n, -1).transpose(0, 1)
        gap = log_mean_exp(grouped) - value.double()
        bias.append((gap - gap.expm1()).mean(0))
        spread.append(gap.std(0))
    curves = torch.stack(bias), torch.stack(spread)
    return ConvergenceRates(list(sizes), *curves, *(slope(sizes, curve) for curve in curves))


def exact_rates(question: ValueQuestion) -> ConvergenceRates | None:
    """The rates at the first contexts, where exact draws and the exact value exist."""
    few = replace(question, x=question.x[:RATE_CONTEXTS])
    oracle = few.task.oracle(few.reward, few.strength)
    if oracle is None or few.task.posterior is None:
        return None
    draws = ve.draw(few, few.task.posterior, RATE_DRAWS, salt="value-rates")
    return rates(draws.reward, oracle.value(few.x, few.times), RATE_SIZES)


def slope(sizes: Sequence[int], curve: Tensor) -> float:
    """Least-squares slope of log |curve|, averaged over contexts, in log N."""
    x = torch.tensor([math.log(n) for n in sizes], dtype=torch.float64)
    y = curve.abs().log().mean(1)
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())
