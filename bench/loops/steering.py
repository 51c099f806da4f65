"""Steering: one loop from noise to data, of which many methods are settings.

for each step (t, u):
    b  = velocity(x, t)
    g  = (sigma^2/2) grad V, estimated or in closed form
    x  = step(x, b, scale(g))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.choices import named_param
from bench.core.finite import refuse_not_finite
from bench.core.integrate import filled
from bench.core.params import param
from bench.core.problem import Problem
from bench.core.scales import DRIFT_SCALES, SteeringTerm, scale_of
from bench.core.steered import INTEGRATORS, NUMERICS, steered_step
from bench.core.values import Samples
from bench.core.watch import Scalars, Watch, in_step


def start_param() -> Any:
    """The field of Params that says where a run from noise begins.

    A flow with times of its own begins at its first one instead, whatever `start` is.
    """
    return param(0.01, low=1e-4, high=0.5, help="first time; x ~ N(0, I) there")


@dataclass(frozen=True)
class SteeringParams:
    """What every steering method has."""

    search: ClassVar[dict[str, Any]] = {
        "guidance": {"low": 0.1, "high": 10.0, "log": True},
        "noise_level": {"when": {"integrator": ["sde"]}},
    }

    steps: int = param(20, low=5, high=2000, log=True, help="time steps K")
    integrator: str = named_param("ode", INTEGRATORS)
    scale: str = named_param("exact", DRIFT_SCALES, "of the steering term", searched=True)
    guidance: float = param(1.0, low=0.0, high=100.0, help="factor on the steering term")
    noise_level: float = param(1.0, low=0.0, high=4.0, help="SDE variance / memoryless variance")
    numerics: str = named_param("regular", NUMERICS)
    start: float = start_param()


# -- the loop -------------------------------------------------------------------------------------

StepTerm = Callable[[Tensor, Tensor, int], SteeringTerm]
"""(x, t, step index) -> what the step steers with."""

Move = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Scalars]]
"""(x, t, u, step index) -> the state at u, and diagnostics."""


def march(problem: Problem, grid: Sequence[float], move: Move, x0: Tensor | None = None) -> Samples:
    """The one loop: carry x0, by default the common noise, over the times of `problem.grid`.

    A move may change how many states there are, such as one that keeps the best of several.
    On an accelerator, what it says of a step and whether values are finite is read every
    `watch.READ_EVERY` steps.
    Raises FloatingPointError at the step whose state, reward or gradient is not finite.
    """
    x = problem.started(problem.x0(), grid) if x0 is None else x0
    total, steps = dict[str, float](), len(grid) - 1

    def tell(k: int, info: dict[str, float]) -> None:
        nonlocal total
        problem.log(k, **info)
        total = {key: total.get(key, 0.0) + value / steps for key, value in info.items()}

    with Watch(tell, x.device) as watch:
        for k in range(steps):
            with in_step(k, grid[k]):
                x, info = move(x, filled(grid[k], x), filled(grid[k + 1], x), k)
            refuse_not_finite(x, _lost(k, grid[k + 1]))
            watch.note(k, info)
    return Samples(x, info=total)


def _lost(k: int, t: float) -> Callable[[int], str]:
    return lambda _: f"the state is not finite at step {k}, t = {t:.3f}"


def steering_ratio(g: Tensor, b: Tensor) -> dict[str, Tensor]:
    """How strongly a step steers: |g| / |b| over the batch."""
    return {"steering_ratio": g.norm() / b.norm().clamp(min=1e-12)}


def steer(problem: Problem, params: SteeringParams, term: StepTerm) -> Samples:
    """The steering loop: integrate the steered drift from noise to data."""
    i, scale = problem.interpolant, scale_of(params)
    step = steered_step(params.integrator, i, params.numerics, params.noise_level)

    def move(x: Tensor, t: Tensor, u: Tensor, k: int) -> tuple[Tensor, Scalars]:
        found = term(x, t, k)
        g = scale(found, i, t)
        z = problem.noise("step", k, problem.event_shape) if step.noisy else torch.zeros_like(x)
        return step(x, found.b, g, t, u, z), {**found.info, **steering_ratio(g, found.b)}

    return march(problem, problem.grid(params.steps, params.start), move)
