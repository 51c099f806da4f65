"""Time grids and one-step integrators: the only places where time is discretised.

A step maps (x, t, u) to the state at u.  `integrate` folds a step over a grid; steering, GLASS,
rollouts, training targets and samplers all use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from bench.core.paths import TINY, Interpolant, expand, safe

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x, t) -> dx/dt, with x (batch, *event) and t (batch,)."""

Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, t, u) -> the state at time u."""


def uniform_grid(steps: int, start: float = 0.0, end: float = 1.0) -> list[float]:
    """steps + 1 equally spaced times from `start` to `end`."""
    if steps < 1:
        raise ValueError(f"a time grid needs at least 1 step, not {steps}")
    return [start + (end - start) * k / steps for k in range(steps + 1)]


def filled(t: float, like: Tensor) -> Tensor:
    """A (batch,) tensor holding the time t, on the device and dtype of `like`.

    One number seen from every row, so that `same_everywhere` need not look.
    """
    return torch.full((1,), t, device=like.device, dtype=like.dtype).expand(like.shape[0])


def same_everywhere(value: Tensor) -> bool:
    """Whether a vector, one entry a row, holds a single number.

    Reading one from an accelerator makes the host wait, which a vector of `filled` spares.
    """
    return len(value) < 2 or value.stride() == (0,) or bool((value == value[:1]).all())


@contextmanager
def at_step(k: int, t: float) -> Iterator[None]:
    """Errors about values that are not finite say at which step, and time, they arose."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{error} at step {k}, t = {t:.3f}") from error


def integrate(step: Step, x: Tensor, grid: Sequence[float]) -> Tensor:
    """Fold `step` over consecutive times of `grid`, starting from x at grid[0]."""
    for t, u in pairwise(grid):
        x = step(x, filled(t, x), filled(u, x))
    return x


def euler(velocity: Velocity) -> Step:
    """x + (u - t) b(x, t): first order, one evaluation."""

    def step(x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        return x + expand(u - t, x) * velocity(x, t)

    return step


def heun(velocity: Velocity) -> Step:
    """The trapezoidal predictor-corrector: second order, two evaluations."""

    def step(x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        dt = expand(u - t, x)
        b = velocity(x, t)
        return x + 0.5 * dt * (b + velocity(x + dt * b, u))

    return step


SOLVERS: Mapping[str, Callable[[Velocity], Step]] = {"euler": euler, "heun": heun}


def ode_step(velocity: Velocity, solver: str) -> Step:
    """The named ODE step."""
    return SOLVERS[solver](velocity)


def euler_maruyama(x: Tensor, drift: Tensor, variance: Tensor, dt: Tensor, z: Tensor) -> Tensor:
    """x + dt * drift + sqrt(variance * dt) z, with variance and dt of shape (batch,)."""
    return x + expand(dt, x) * drift + expand((variance * dt).sqrt(), x) * z


# -- the memoryless chain -------------------------------------------------------------------------


@dataclass(frozen=True)
class StepVariance:
    """How much of Var(x1 | x_t) a step of the memoryless chain keeps.

    spread: (interpolant, t) -> the variance (batch,) that x1 is taken to have around its mean.
    """

    summary: str
    spread: Callable[[Interpolant, Tensor], Tensor]


def _none(_: Interpolant, t: Tensor) -> Tensor:
    return torch.zeros_like(t)


def of_gaussian_data(size: float) -> StepVariance:
    """s^2 alpha^2 / (alpha^2 + s^2 beta^2), exact for Gaussian data of variance s^2 = `size`."""

    def spread(interpolant: Interpolant, t: Tensor) -> Tensor:
        alpha, beta = interpolant.alpha(t), interpolant.beta(t)
        return size * alpha**2 / (alpha**2 + size * beta**2)

    return StepVariance(f"with that of x1 given x_t, for data of variance {size:.3g}", spread)


STEP_VARIANCES: Mapping[str, StepVariance] = {
    "posterior": StepVariance("of x_u given x_t and x1, as if x1 were its mean", _none),
    "signal": StepVariance(
        "with that of x1 given x_t, for data of unit variance", of_gaussian_data(1.0).spread
    ),
}
"""Variances of a step by name.

"posterior" is the usual ancestral step (DDPM's lower choice): it drops Var(x1 | x_t), which is
O(step) per step, harmless in 100 steps and a sixth of the variance of the data in 20.
"""

NARROW, WIDE = STEP_VARIANCES["posterior"], STEP_VARIANCES["signal"]


def ancestral_moments(
    interpolant: Interpolant,
    x: Tensor,
    denoised: Tensor,
    t: Tensor,
    u: Tensor,
    variance: StepVariance = NARROW,
) -> tuple[Tensor, Tensor]:
    """Mean (batch, *event) and deviation (batch,) of one step of the memoryless SDE.

    x_u | x_t, x1 = N(beta_u x1 + rho alpha_u e, (1 - rho^2) alpha_u^2 I) with e the noise implied
    by (x_t, x1) and rho = alpha_u beta_t / (alpha_t beta_u).  x1 is taken for the denoiser in the
    mean; its spread v around it adds (d mean / d x1)^2 v with d mean / d x1 = beta_u - rho alpha_u
    beta_t / alpha_t.  The last step, where alpha_u = 0, is a point in any case.
    """
    alpha_t, beta_t, alpha_u, beta_u = (
        interpolant.alpha(t),
        interpolant.beta(t),
        interpolant.alpha(u),
        interpolant.beta(u),
    )
    implied = (x - expand(beta_t, x) * denoised) / expand(safe(alpha_t), x)
    rho = alpha_u * beta_t / (safe(alpha_t) * safe(beta_u))
    mean = expand(beta_u, x) * denoised + expand(alpha_u * rho, x) * implied
    slope = torch.where(alpha_u > TINY, beta_u - rho * alpha_u * beta_t / safe(alpha_t), 0.0)
    given_x1 = alpha_u**2 * (1 - rho**2).clamp(min=0)
    return mean, (given_x1 + slope**2 * variance.spread(interpolant, t)).sqrt()


def ancestral(
    interpolant: Interpolant,
    x: Tensor,
    denoised: Tensor,
    t: Tensor,
    u: Tensor,
    z: Tensor,
    variance: StepVariance = NARROW,
) -> Tensor:
    """One step of the memoryless SDE; see `ancestral_moments`.

    Unlike Euler-Maruyama it is stable at t -> 0, where it draws x_u afresh; it converges to the
    same process.
    """
    mean, deviation = ancestral_moments(interpolant, x, denoised, t, u, variance)
    return mean + expand(deviation, x) * z
