"""Estimators of the value function and of its gradient from posterior draws.

With draws X_i of p(x1 | x_t = x), r_i = r(X_i) and w = softmax(r): the value is V = log E e^r.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.core.paths import expand


def log_mean_exp(rewards: Tensor) -> Tensor:
    """V_hat = log (1/n) sum_i e^{r_i}, rewards (n, batch) -> (batch,).

    e^{V_hat} is unbiased; V_hat falls short by about Var(e^r) / (2 n E[e^r]^2).
    """
    return rewards.logsumexp(0) - math.log(rewards.shape[0])


def value_gradient(rewards: Tensor, x: Tensor) -> Tensor:
    """G: grad_x V_hat = sum_i w_i J_i' grad r(X_i), by back-propagation through the draws.

    Bias O(1/n).  With n = 1 it estimates grad E[r], not grad V (arXiv 2601.14430, Eq. 22).
    """
    (gradient,) = torch.autograd.grad(log_mean_exp(rewards).sum(), x)
    return gradient


def denoiser_shift(rewards: Tensor, x1: Tensor) -> Tensor:
    """GF: sum_i w_i X_i - mean_i X_i, an estimate of D^r - D (Eq. 20 with a control variate).

    No reward gradient, no back-propagation.  With n = 1 it is zero.
    """
    weight = rewards.softmax(0) - 1 / rewards.shape[0]
    return (expand(weight, x1) * x1).sum(0)
