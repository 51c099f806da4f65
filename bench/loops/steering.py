"""Steering: one loop, and the methods that are settings of it.

    for each step (t, u):
        b  = velocity(x, t)
        x1 = posterior draws given x_t = x
        g  = estimate of (sigma^2/2) grad V from the rewards of the draws
        x  = step(x, b, scale(g))

DPS is the Tweedie point with G; rollout-based estimation is GLASS or SDE draws; meta-flow-map
steering is the map's one-step draws; the oracle replaces the estimate by the closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bench.core.contracts import Method, Need
from bench.core.estimators import denoiser_shift, log_mean_exp, value_gradient
from bench.core.integrate import at_step, filled, uniform_grid
from bench.core.params import param
from bench.core.paths import expand
from bench.core.posterior import Remembered, softmax_ess
from bench.core.problem import Problem
from bench.core.steered import (
    DRIFT_SCALES,
    Integrator,
    Numerics,
    Scale,
    Scaling,
    SteeredStep,
    Term,
    guidance_factor,
)
from bench.core.values import ProblemSpec, Samples
from bench.core.work import Work, backward, forward
from bench.loops.posteriors import Kind, PosteriorChoice

Estimator = Literal["G", "GF", "mean"]
"""G: gradient of the log-mean-exp reward; mean: of the mean reward; GF: no gradient."""


@dataclass(frozen=True)
class SteeringParams:
    """What every steering method has."""

    search: ClassVar[dict[str, Any]] = {
        "guidance": {"low": 0.1, "high": 10.0, "log": True},
        "noise_level": {"when": {"integrator": ["sde", "ancestral"]}},
    }

    steps: int = param(20, low=5, high=2000, log=True, help="time steps K")
    integrator: Integrator = param("ode", help="ode (Euler), sde (Euler-Maruyama) or ancestral")
    scale: Scale = param(
        "exact", choices=DRIFT_SCALES, help="exact, or to the norm of b: rescale, clip, freedom"
    )
    guidance: float = param(1.0, low=0.0, high=100.0, help="factor on the steering term")
    noise_level: float = param(1.0, low=0.0, high=4.0, help="SDE variance / memoryless variance")
    numerics: Numerics = param("regular", help="release reproduces the cap on (1-t)/t")
    start: float = param(0.01, low=1e-4, high=0.5, help="first time; x ~ N(0, I) there")

    @property
    def scaling(self) -> Scaling:
        """How the steering term is scaled."""
        return Scaling(self.scale, self.guidance)


@dataclass(frozen=True)
class DrawParams(SteeringParams):
    """What a method that estimates from posterior draws has in addition."""

    draws: int = param(1, low=1, high=4096, log=True, help="posterior draws N per step")
    posterior: Kind = param(
        "map", help="map, glass, glass-heun, sde, exact, gaussian, tweedie or jump"
    )
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")


StepTerm = Callable[[Tensor, Tensor, int], Term]
"""(x, t, step index) -> Term."""

Move = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, dict[str, float]]]
"""(x, t, u, step index) -> the state at u, and diagnostics."""


def march(problem: Problem, grid: Sequence[float], move: Move) -> Samples:
    """The one loop: carry the initial noise over the times of `grid`.

    Raises FloatingPointError at the step whose state, reward or gradient is not finite.
    """
    x, total, steps = problem.x0(), dict[str, float](), len(grid) - 1
    for k in range(steps):
        with at_step(k, grid[k]):
            x, info = move(x, filled(grid[k], x), filled(grid[k + 1], x), k)
        if not bool(torch.isfinite(x).all()):
            raise FloatingPointError(f"the state is not finite at step {k}, t = {grid[k + 1]:.3f}")
        problem.log(k, **info)
        total = {key: total.get(key, 0.0) + value / steps for key, value in info.items()}
    return Samples(x, info=total)


def steering_ratio(g: Tensor, b: Tensor) -> dict[str, float]:
    """How strongly a step steers: |g| / |b| over the batch."""
    return {"steering_ratio": float(g.norm() / b.norm().clamp(min=1e-12))}


def steer(problem: Problem, params: SteeringParams, term: StepTerm) -> Samples:
    """The steering loop: integrate the steered drift from noise to data."""
    step = SteeredStep(problem.interpolant, params.integrator, params.numerics, params.noise_level)

    def move(x: Tensor, t: Tensor, u: Tensor, k: int) -> tuple[Tensor, dict[str, float]]:
        found = term(x, t, k)
        g = params.scaling(found, problem.interpolant, t)
        noisy = params.integrator != "ode"
        z = problem.noise("step", k, problem.event_shape) if noisy else torch.zeros_like(x)
        return step(x, found.b, g, t, u, z), found.info | steering_ratio(g, found.b)

    return march(problem, uniform_grid(params.steps, params.start), move)


def estimated(
    problem: Problem,
    params: SteeringParams,
    choice: PosteriorChoice,
    draws: int,
    estimator: Estimator,
) -> StepTerm:
    """The steering term from posterior draws."""
    flow = Remembered(problem.flow)
    posterior = choice.build(problem, flow)

    def rewards(x1: Tensor) -> Tensor:
        return problem.reward(x1.flatten(0, 1)).reshape(x1.shape[:2])

    def gradient(x: Tensor, t: Tensor, k: int) -> Term:
        x = x.detach().requires_grad_()
        with torch.set_grad_enabled(choice.differentiates_flow):
            b = flow.velocity(x, t)
        r = rewards(posterior.draw(x, t, draws, problem.noise_at(k)))
        # The log-mean-exp of a single value is that value.
        pooled = r.mean(0, keepdim=True) if estimator == "mean" else r
        slope, value = value_gradient(pooled, x), log_mean_exp(pooled.detach())
        factor = expand(guidance_factor(problem.interpolant, t, params.numerics), x)
        return Term(b.detach(), factor * slope, _ess(r.detach()), slope, value)

    @torch.no_grad()
    def gradient_free(x: Tensor, t: Tensor, k: int) -> Term:
        b = flow.velocity(x, t)
        x1 = posterior.draw(x, t, draws, problem.noise_at(k))
        r = rewards(x1)
        return Term(b, problem.interpolant.tilt(denoiser_shift(r, x1), t), _ess(r))

    return gradient_free if estimator == "GF" else gradient


def _ess(rewards: Tensor) -> dict[str, float]:
    return {"draw_ess": float(softmax_ess(rewards).mean())}


class Estimated(Method[Any]):
    """Steering by an estimate from posterior draws; subclasses name their parts."""

    Params: ClassVar[type[Any]] = DrawParams
    effort: ClassVar[tuple[str, ...]] = ("draws", "steps")

    @property
    def estimator(self) -> Estimator:
        """How draws become a gradient of the value."""
        return "G"

    @property
    def choice(self) -> PosteriorChoice:
        """The posterior sampler."""
        return PosteriorChoice(self.params.posterior, self.params.inner_steps)

    @property
    def draws(self) -> int:
        """Posterior draws per step."""
        return int(self.params.draws)

    @property
    def needs(self) -> frozenset[Need]:
        gradient = self.estimator != "GF"
        own = {Need.REWARD_GRADIENT} if gradient else set()
        return frozenset(own | self.choice.needs(gradient))

    def least(self, name: str) -> int:
        # A single draw carries no gradient-free information: its weight is 1.
        return 2 if name == "draws" and self.estimator == "GF" else 1

    def work(self, spec: ProblemSpec) -> Work:
        gradient = self.estimator != "GF"
        step = forward("flow") + self.choice.work(self.draws, gradient)
        step = step + reward_work(spec, self.draws, gradient)
        return step * float(self.params.steps)

    def sample(self, problem: Problem, n: int) -> Samples:
        term = estimated(problem, self.params, self.choice, self.draws, self.estimator)
        return steer(problem, self.params, term)


def reward_work(spec: ProblemSpec, rows: float, gradient: bool = False) -> Work:
    """Rows of scoring (and differentiating) `rows` samples, decoder included."""
    work = forward("reward", rows) + (backward("reward", rows) if gradient else Work())
    if spec.has_decoder:
        work = work + forward("decoder", rows) + (backward("decoder", rows) if gradient else Work())
    return work
