"""Posterior samplers that need nothing but the flow: Tweedie, Gaussian, GLASS, rollout.

Each draws x1 given x_t = x.  The model row at (x, t) is the same for every draw and for the base
velocity of the step, so it is evaluated once: pass a `Remembered` flow and more draws cost
`rows_per_draw` each.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor

from bench.core import glass
from bench.core.integrate import (
    WIDE,
    StepVariance,
    ancestral,
    integrate,
    ode_step,
    uniform_grid,
)
from bench.core.paths import Interpolant, expand
from bench.core.protocols import Condition, Flow, Noise
from bench.core.timing import remaining_times, timing_of


class Remembered:
    """A flow that answers the same question (the same tensors) once."""

    def __init__(self, flow: Flow) -> None:
        self.event_shape, self.interpolant = flow.event_shape, flow.interpolant
        self._flow, self.timing = flow, timing_of(flow)
        self._asked: tuple[Any, ...] = ()
        self._answer: Tensor | None = None

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x); repeated calls with the same x, t and condition share one evaluation."""
        asked = (x, t, condition)
        if self._answer is None or not all(map(is_, asked, self._asked)):
            self._asked, self._answer = asked, self._flow.velocity(x, t, condition)
        return self._answer

    def remember(self, x: Tensor, t: Tensor, b: Tensor) -> None:
        """Take b for the answer at (x, t) and the problem's own condition."""
        self._asked, self._answer = (x, t, None), b


def draws_of(noise: Noise, name: str, n: int, event_shape: tuple[int, ...]) -> Tensor:
    """Independent normals for n draws, (n, batch, *event_shape)."""
    return noise(name, (n, *event_shape)).transpose(0, 1)


def repeated(x: Tensor, n: int) -> Tensor:
    """x (batch, ...) as (n * batch, ...), draw-major."""
    return x.expand(n, *x.shape).reshape(n * x.shape[0], *x.shape[1:])


def denoised(flow: Flow, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """D_t(x) = E[x1 | x_t = x], one model row."""
    return flow.interpolant.denoiser(flow.velocity(x, t, condition), x, t)


class Tweedie:
    """The point mass at D_t(x): what DPS believes the posterior is."""

    pathwise = True
    rows_per_draw = 0

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """n copies of the denoiser."""
        point = denoised(self.flow, x, t, condition)
        return point.expand(n, *point.shape)


class Gaussian:
    """N(D_t(x), c_t^2 I) with c_t = alpha / sqrt(alpha^2 + beta^2), times `spread`.

    c_t is the posterior deviation for data of unit variance (LGD-MC's choice).
    """

    pathwise = True
    rows_per_draw = 0

    def __init__(self, flow: Flow, spread: float = 1.0) -> None:
        self.flow, self.spread = flow, spread

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """D_t(x) + c_t e."""
        point = denoised(self.flow, x, t, condition)
        alpha, beta = self.flow.interpolant.alpha(t), self.flow.interpolant.beta(t)
        deviation = expand(self.spread * alpha / (alpha**2 + beta**2).sqrt(), x)
        return point + deviation * draws_of(noise, "posterior", n, x.shape[1:])


class NoiseGaussian(Gaussian):
    """N(D_t(x), (spread alpha_t)^2 I): the noise coefficient itself as deviation.

    TFG's sqrt(1 - alpha-bar) read off the interpolant as it is.  Where the interpolant preserves
    the variance it is the `Gaussian`'s alpha / sqrt(alpha^2 + beta^2); on the linear one less.
    """

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """D_t(x) + spread alpha_t e."""
        point, i = denoised(self.flow, x, t, condition), self.flow.interpolant
        factor = expand((i.alpha(t) ** 2 + i.beta(t) ** 2).sqrt(), x)
        return point + factor * (super().draw(x, t, n, noise, condition) - point)


class Glass:
    """The posterior flow of `bench.core.glass`, integrated over `steps` inner steps.

    Exact as steps grow.  One Euler step is the Tweedie point.
    """

    pathwise = True

    def __init__(self, flow: Flow, steps: int, solver: str = "euler") -> None:
        self.flow, self.steps, self.solver = flow, steps, solver
        self.rows_per_draw = steps * (2 if solver == "heun" else 1) - 1

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """Carry n normals through the inner ODE; its first evaluation, at s = 0, is D - x_bar."""
        mean = repeated(denoised(self.flow, x, t, condition), n)
        context, times = repeated(x, n), repeated(t, n)

        def base(state: Tensor, time: Tensor) -> Tensor:
            return self.flow.velocity(state, time, condition)

        later = glass.posterior_velocity(self.flow.interpolant, base, context, times)

        def inner(x_bar: Tensor, s: Tensor) -> Tensor:
            return mean - x_bar if bool((s == 0).all()) else later(x_bar, s)

        start = draws_of(noise, "posterior", n, x.shape[1:]).reshape(context.shape)
        end = integrate(ode_step(inner, self.solver), start, uniform_grid(self.steps))
        return end.reshape(n, *x.shape)


class SDERollout:
    """Run the memoryless SDE from (t, x) to 1 in `steps` ancestral steps.

    They are equal, or those that a flow with times of its own has left (`Timing.remaining`).
    Exact as steps grow, because that SDE's law of x1 given x_t is the posterior.
    """

    pathwise = True

    def __init__(self, flow: Flow, steps: int, variance: StepVariance = WIDE) -> None:
        self.flow, self.steps, self.variance = flow, steps, variance
        self.rows_per_draw = steps - 1

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """n independent rollouts; the first denoiser is shared."""
        first = repeated(denoised(self.flow, x, t, condition), n)
        context = repeated(x, n)
        times = remaining_times(self.flow, t, self.steps)
        interpolant: Interpolant = self.flow.interpolant
        state = context
        for k in range(self.steps):
            now, then = (repeated(u, n) for u in times[k : k + 2])
            point = first if k == 0 else denoised(self.flow, state, now, condition)
            z = draws_of(noise, f"rollout-{k}", n, x.shape[1:]).reshape(context.shape)
            state = ancestral(interpolant, state, point, now, then, z, self.variance)
        return state.reshape(n, *x.shape)


def softmax_ess(log_weight: Tensor, dim: int = 0) -> Tensor:
    """Effective sample size of self-normalised weights along `dim`."""
    weight = torch.softmax(log_weight, dim)
    return 1 / weight.square().sum(dim)
