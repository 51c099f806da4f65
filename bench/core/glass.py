"""GLASS: the conditional velocity of the posterior flow, in closed form from the base flow.

A context x_t = x and an inner state x_bar = (1-s) e + s x1 are two Gaussian observations of the
same x1; together they are one observation x* at an unconditional time t* (arXiv 2509.25170;
2601.14430 Eq. 32).  So E[x1 | x, x_bar] = D_{t*}(x*), and the velocity that carries N(0, I) at
s = 0 to p(x1 | x_t = x) at s = 1 costs one evaluation of the base flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bench.core.integrate import Velocity
from bench.core.paths import Interpolant, Linear, expand, safe


class Observation(NamedTuple):
    """The sufficient statistic: state x* (batch, *event) at time t* (batch,)."""

    x: Tensor
    t: Tensor


def asked_times(
    interpolant: Interpolant, contexts: Sequence[float], inner: Sequence[float]
) -> list[float]:
    """The times t* at which the base flow is asked: each context t with each inner time s."""
    t, s = (torch.tensor(list(times), dtype=torch.float64) for times in (contexts, inner))
    pairs = torch.cartesian_prod(t, s)
    nowhere = torch.zeros_like(pairs[:, :1])
    found = combine(interpolant, nowhere, pairs[:, 0], nowhere, pairs[:, 1]).t.tolist()
    return list(found)


class Affine(NamedTuple):
    """Coefficients (batch,) of b_bar = A x + B x_bar + C b_{t*}(x*), linear interpolant."""

    a: Tensor
    b: Tensor
    c: Tensor


MIN_DELTA = 1e-6
"""Delta vanishes only at (s, t) = (0, 0), where x and x_bar both say nothing."""


def combine(
    interpolant: Interpolant, x: Tensor, t: Tensor, x_bar: Tensor, s: Tensor
) -> Observation:
    """Merge the context (x, t) and the inner state (x_bar, s) into one observation."""
    if isinstance(interpolant, Linear):
        observation, _ = _linear(x, t, x_bar, s)
        return observation
    rho = interpolant.beta(t) / safe(interpolant.alpha(t))
    inner = s / safe(1 - s)
    ratio = (rho**2 + inner**2).sqrt()
    t_star = interpolant.time_of_ratio(ratio)
    weight_x = rho / safe(interpolant.alpha(t))
    weight_bar = inner / safe(1 - s)
    summed = expand(weight_x, x) * x + expand(weight_bar, x) * x_bar
    return Observation(expand(interpolant.alpha(t_star) / safe(ratio), x) * summed, t_star)


def _linear(x: Tensor, t: Tensor, x_bar: Tensor, s: Tensor) -> tuple[Observation, Affine]:
    """The division-safe form on [0, 1]^2 (maths: section 2.2 of the paper's reconstruction)."""
    delta = (t**2 * (1 - s) ** 2 + (1 - t) ** 2 * s**2).clamp(min=MIN_DELTA)
    q = (1 - t) / delta.sqrt()
    t_star = 1 / (1 + (1 - s) * q)
    # At t = 0 the context is pure noise and the observation is x_bar itself; Delta would be clamped
    # for s < 1e-3, so this limit is taken exactly.
    blank = t == 0
    t_star = torch.where(blank, s, t_star)
    from_x = torch.where(blank, 0.0, t_star * t * (1 - s) ** 2 / delta)
    from_bar = torch.where(blank, 1.0, t_star * s * q**2)
    observation = Observation(expand(from_x, x) * x + expand(from_bar, x) * x_bar, t_star)
    a = torch.where(blank, 0.0, t_star * t * (1 - s) / delta)
    b = torch.where(blank, 0.0, t_star * ((s * (1 - t) ** 2 - t**2 * (1 - s)) / delta - q))
    c = torch.where(blank, 1.0, t_star * q)
    return observation, Affine(a, b, c)


def affine(x: Tensor, t: Tensor, x_bar: Tensor, s: Tensor) -> tuple[Observation, Affine]:
    """(x*, t*) and the coefficients A, B, C of the linear interpolant's posterior velocity."""
    return _linear(x, t, x_bar, s)


def posterior_velocity(
    interpolant: Interpolant, velocity: Velocity, x: Tensor, t: Tensor
) -> Velocity:
    """b_bar_s(x_bar; t, x) as a function of (x_bar, s), one evaluation of `velocity` per call."""

    def linear(x_bar: Tensor, s: Tensor) -> Tensor:
        star, k = _linear(x, t, x_bar, s)
        b = velocity(star.x, star.t)
        return expand(k.a, x) * x + expand(k.b, x) * x_bar + expand(k.c, x) * b

    def general(x_bar: Tensor, s: Tensor) -> Tensor:
        star = combine(interpolant, x, t, x_bar, s)
        denoised = interpolant.denoiser(velocity(star.x, star.t), star.x, star.t)
        return (denoised - x_bar) / expand(safe(1 - s), x)

    return linear if isinstance(interpolant, Linear) else general
