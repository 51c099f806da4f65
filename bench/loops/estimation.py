"""Steering by estimates from posterior draws.

    x1 = posterior draws given x_t = x
    g  = estimate of (sigma^2/2) grad V from the rewards of the draws

DPS is the Tweedie point with G; rollout-based estimation is GLASS or SDE draws; meta-flow-map
steering is the map's one-step draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bench.core.estimators import denoiser_shift, log_mean_exp, value_gradient
from bench.core.methods import Method, Need
from bench.core.params import param
from bench.core.paths import expand
from bench.core.posterior import Remembered, softmax_ess
from bench.core.problem import Problem
from bench.core.rows import Memory
from bench.core.scales import SteeringTerm
from bench.core.steered import guidance_factor
from bench.core.values import ProblemSpec, Samples
from bench.core.work import Work, forward
from bench.loops.posteriors import PosteriorChoice, sampler_param
from bench.loops.pulling import Pulled, pull
from bench.loops.scoring import reward_work, rewards_of
from bench.loops.shifted_draws import (
    local_tilt,
    second_context_work,
    shifted_pool,
    tilt_work,
)
from bench.loops.steering import SteeringParams, StepTerm, steer


@dataclass(frozen=True)
class EstimatedSteeringParams(SteeringParams):
    """What a method that estimates from posterior draws has in addition."""

    draws: int = param(1, low=1, high=4096, log=True, help="posterior draws N per step")
    posterior: str = sampler_param("map")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")


@dataclass(frozen=True)
class Estimator:
    """How the rewards of draws become a gradient of the value.

    gradient: whether it back-propagates through the draws.  pool: rewards (n, batch) -> those of
    whose log-mean-exp the gradient is taken.  shifted: whether half of the draws are shifted by the
    reward's expansion at the denoiser.
    """

    summary: str
    gradient: bool = True
    pool: Callable[[Tensor], Tensor] = lambda r: r
    shifted: bool = False

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs of the reward."""
        return frozenset({Need.REWARD_GRADIENT} if self.gradient or self.shifted else ())

    def work(self, spec: ProblemSpec, draws: int) -> Work:
        """Rows of the reward per step."""
        tilt = tilt_work(spec) if self.shifted else Work()
        return reward_work(spec, draws, self.gradient) + tilt


ESTIMATORS: Mapping[str, Estimator] = {
    "G": Estimator("the gradient of the log-mean-exp reward"),
    "GF": Estimator("gradient-free, from two or more draws", gradient=False),
    "shifted": Estimator(
        "as GF, half of the draws from a shifted context", gradient=False, shifted=True
    ),
    # The log-mean-exp of a single value is that value.
    "mean": Estimator("the gradient of the mean reward", pool=lambda r: r.mean(0, keepdim=True)),
}


def estimated_term(
    problem: Problem,
    params: SteeringParams,
    choice: PosteriorChoice,
    draws: int,
    estimator: Estimator,
) -> StepTerm:
    """The steering term from posterior draws."""
    flow = Remembered(problem.flow)
    posterior = choice.build(problem, flow)
    memory = Memory(problem.meter, draws * len(problem.rows), problem.most_rows)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with torch.set_grad_enabled(estimator.gradient and choice.differentiates_flow):
            return flow.velocity(x, t)

    def in_pieces(x: Tensor, t: Tensor, b: Tensor, k: int) -> Pulled:
        noise = problem.noise_at(k)
        return pull(problem, choice, x, t, b, draws, noise, estimator.gradient)

    def gradient(x: Tensor, t: Tensor, k: int) -> SteeringTerm:
        def whole() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            here = x.detach().requires_grad_()
            b = velocity(here, t)
            r = rewards_of(problem, posterior.draw(here, t, draws, problem.noise_at(k)))
            pooled = estimator.pool(r)
            value = log_mean_exp(pooled.detach())
            return b.detach(), value_gradient(pooled, here), value, r.detach()

        def pieces() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            here = x.detach().requires_grad_()
            b = velocity(here, t)
            pulled = in_pieces(here, t, b, k)
            return b.detach(), *pulled.slope(estimator.pool, here, b), pulled.rewards

        b, slope, value, r = memory.first_fit(whole, pieces)
        # sigma^2 has no limit at 0, where a flow's own times may begin.
        late = t.clamp(min=params.start)
        factor = expand(guidance_factor(problem.interpolant, late, params.numerics), x)
        return SteeringTerm(b, factor * slope, _ess(r), slope, value)

    @torch.no_grad()
    def gradient_free(x: Tensor, t: Tensor, k: int) -> SteeringTerm:
        b = velocity(x, t)

        def whole() -> tuple[Tensor, Tensor]:
            x1 = posterior.draw(x, t, draws, problem.noise_at(k))
            return x1, rewards_of(problem, x1)

        def pieces() -> tuple[Tensor, Tensor]:
            pulled = in_pieces(x, t, b, k)
            return pulled.x1, pulled.rewards

        x1, r = memory.first_fit(whole, pieces)
        return SteeringTerm(b, problem.interpolant.tilt(denoiser_shift(r, x1), t), _ess(r))

    @torch.no_grad()
    def shifted(x: Tensor, t: Tensor, k: int) -> SteeringTerm:
        b = flow.velocity(x, t)
        point = problem.interpolant.denoiser(b, x, t)
        noise = problem.noise_at(k)
        tilt = local_tilt(problem, point, t, noise)
        pool = shifted_pool(problem, posterior, x, t, draws, noise, tilt)
        ess = {"draw_ess": pool.ess.mean()}
        return SteeringTerm(b, problem.interpolant.tilt(pool.shift, t), ess)

    if estimator.gradient:
        return gradient
    return shifted if estimator.shifted else gradient_free


def _ess(rewards: Tensor) -> dict[str, Tensor]:
    return {"draw_ess": softmax_ess(rewards).mean()}


class EstimatedSteering(Method[Any]):
    """Steering by an estimate from posterior draws; subclasses name their parts."""

    version: ClassVar[str] = "2"
    Params: ClassVar[type[Any]] = EstimatedSteeringParams
    effort: ClassVar[tuple[str, ...]] = ("draws", "steps")

    @property
    def estimator(self) -> Estimator:
        """How draws become a gradient of the value."""
        return ESTIMATORS["G"]

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
        return self.estimator.needs | self.choice.needs(self.estimator.gradient)

    def least(self, name: str) -> int:
        # A single draw carries no gradient-free information: its weight is 1.
        return 2 if name == "draws" and not self.estimator.gradient else 1

    def work(self, spec: ProblemSpec) -> Work:
        p, gradient, rewards = (
            self.params,
            self.estimator.gradient,
            self.estimator.work(spec, self.draws),
        )
        times = spec.grid(p.steps, p.start)[:-1]
        if self.estimator.shifted:  # from contexts at other times, which are not known beforehand
            each = self.choice.work(self.draws, gradient)
            drawn = (each + second_context_work(self.choice, self.draws)) * float(p.steps)
        else:
            drawn = self.choice.along(spec, times, self.draws, gradient)
        return forward("flow", spec.calls(times)) + drawn + rewards * float(p.steps)

    def sample(self, problem: Problem, n: int) -> Samples:
        term = estimated_term(problem, self.params, self.choice, self.draws, self.estimator)
        return steer(problem, self.params, term)
