"""Fine-tuning by regression on off-policy points: MFM-FT and implicit tilt matching.

Both draw (t, x) from data and pull b_theta to the tilted velocity b + (sigma^2/2) grad V with an
estimate that is linear in rho = e^r(x1), x1 ~ p(x1 | x_t = x), and so unbiased with a single draw.
In the estimate rho may be divided by any positive function of (t, x): the fixed point stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from bench.api import (
    FitProblem,
    Need,
    Problem,
    ProblemSpec,
    Work,
    expand,
    filled,
    log_mean_exp,
    uniform,
)
from bench.core.params import param
from bench.core.paths import Interpolant
from bench.core.posterior import Remembered
from bench.core.trainable import MeteredModule
from bench.core.work import backward, forward
from bench.loops.posteriors import Kind, PosteriorChoice
from bench.loops.steering import reward_work
from methods.finetuning.loop import FineTuned, FitParams, Losses, rows_of

Scaling = Literal["constant", "point"]
Variance = Literal["schedule", "release"]

RELEASE_VARIANCE = 200.0
"""The constant sigma^2 of the release of arXiv 2601.14430, which misses the tilted law."""
PILOT = 1024
"""Data points whose mean e^r scales rho."""


# -- residuals: zero in expectation at the fixed point --------------------------------------------


def mfm_residual(b_theta: Tensor, b: Tensor, rho: Tensor, push: Tensor) -> Tensor:
    """rho (b_theta - b) - (sigma^2/2) grad_x rho, with push the second term.

    arXiv 2601.14430, Eq. 43: b_theta minus the target b - (rho - 1)(b_theta - b) + push.  Zero in
    expectation at b_theta = b + (sigma^2/2) grad E[rho | x] / E[rho | x].
    """
    return expand(rho, b) * (b_theta - b) - push


def itm_residual(b_theta: Tensor, b: Tensor, rho: Tensor, u: Tensor) -> Tensor:
    """b_theta - b - (rho - 1)(u - b_theta), with u = d/dt x_t of the pair (x0, x1).

    Implicit tilt matching (arXiv 2512.21829).  Since E[u | x] = b it is zero in expectation at
    b_theta = E[rho u | x] / E[rho | x], whatever positive function of (t, x) divides rho.
    """
    return b_theta - b - expand(rho - 1, b) * (u - b_theta)


def pull(b_theta: Tensor, residual: Tensor) -> Tensor:
    """Mean of |b_theta - target|^2 over the batch, target = b_theta - residual held fixed."""
    target = (b_theta - residual).detach()
    return (b_theta - target).flatten(1).square().sum(-1).mean()


def half_variance(interpolant: Interpolant, t: Tensor, variance: Variance) -> Tensor:
    """sigma_t^2 / 2: the memoryless schedule, or the release's constant."""
    if variance == "release":
        return torch.full_like(t, RELEASE_VARIANCE / 2)
    return interpolant.half_variance(t)


# -- what a step is made of -----------------------------------------------------------------------


class Point(NamedTuple):
    """Training points: x_t = alpha_t x0 + beta_t x1, one time per row."""

    x0: Tensor
    x1: Tensor
    x: Tensor
    t: Tensor


def training_point(problem: FitProblem, batch: int, step: int, start: float) -> Point:
    """Data noised to stratified times in [start, 1]."""
    p = rows_of(problem, batch)
    x0, u = p.noise("fit-x0", step, p.event_shape), uniform(p.noise("fit-t", step, ()))
    x1 = problem.data(batch, step).to(x0)
    strata = torch.arange(batch, device=x0.device, dtype=x0.dtype)
    t = start + (1 - start) * (strata + u) / batch
    return Point(x0, x1, p.interpolant.noised(x1, x0, t), t)


LogScale = Callable[[Tensor], Tensor]
"""D_t(x) -> log s(t, x), (batch,): rho is divided by s."""


def log_scale(problem: FitProblem, scaling: Scaling, step: int) -> LogScale:
    """log s: the constant Z of a pilot, or Z + e^r(D_t(x)).

    The second is a guess of e^V_t(x) that never falls below Z: rho / s is close to 1 where the
    tilted law lives, and never above the rho / Z of the first.
    """
    with torch.no_grad():
        r = problem.problem.reward(problem.data(PILOT, step).to(problem.problem.device))
    log_z = float(log_mean_exp(r))

    @torch.no_grad()
    def scale(point: Tensor) -> Tensor:
        constant = filled(log_z, point)
        return (
            constant if scaling == "constant" else constant.logaddexp(problem.problem.reward(point))
        )

    return scale


@dataclass(frozen=True)
class MatchingParams(FitParams):
    """What both have."""

    scaling: Scaling = param("point", help="what divides e^r: Z (constant) or Z + e^r(D) (point)")
    start: float = param(0.01, low=0.0, high=0.5, help="least time of training points")


class _Matching(FineTuned):
    """Regression on points of the data; subclasses give the loss of a step."""

    def setup_work(self, spec: ProblemSpec) -> Work:
        return reward_work(spec, PILOT)

    def one_step(self, spec: ProblemSpec) -> Work:
        """Rows per point: base and trained velocity, and the scale's reward."""
        shared = 2 * forward("flow") + backward("flow")
        return shared + (reward_work(spec, 1) if self.params.scaling == "point" else Work())

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        return self.one_step(spec) * float(iterations * self.params.batch)


class ImplicitTiltMatching(_Matching):
    """ITM: reward-weighted flow matching with the base velocity as control; no reward gradient.

    Potaptchik et al. 2025 (arXiv 2512.21829), in one stage: the pair (x1, x_t) is itself a draw of
    the posterior, so neither a map nor grad r is needed.  The fixed point is the tilted velocity;
    assumes that data points with a large e^r are met at all, and its variance grows with e^r.
    Fit per point: 2 flow forwards, 1 backward, 2 reward forwards.  Cost per sample: K flow
    rows of the sampler.
    """

    summary = "fine-tunes by reward-weighted flow matching with the base flow as control"
    Params = MatchingParams

    def one_step(self, spec: ProblemSpec) -> Work:
        return super().one_step(spec) + reward_work(spec, 1)

    def losses(self, problem: FitProblem) -> Losses:
        p, base = self.params, problem.problem
        scale = log_scale(problem, p.scaling, p.iterations)

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            x0, x1, x, t = training_point(problem, p.batch, k, p.start)
            with torch.no_grad():
                b = base.flow.velocity(x, t)
                point = base.interpolant.denoiser(b, x, t)
                rho = (base.reward(x1) - scale(point)).exp()
            alpha, beta = base.interpolant.d_alpha(t), base.interpolant.d_beta(t)
            u = expand(alpha, x) * x0 + expand(beta, x) * x1
            b_theta = model.velocity(x, t)
            return {"match": pull(b_theta, itm_residual(b_theta, b, rho, u))}

        return step


@dataclass(frozen=True)
class MFMFTParams(MatchingParams):
    """MFM-FT: which posterior, how many draws, and the release's constant variance."""

    posterior: Kind = param("map", help="map, glass, glass-heun, sde, gaussian or tweedie")
    draws: int = param(1, low=1, high=1024, log=True, help="posterior draws N per point")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")
    variance: Variance = param(
        "schedule", tunable=False, help="sigma^2: schedule, or the release's constant 200"
    )


class MFMFineTuning(_Matching):
    """MFM-FT: regress on the gradient of e^r through one-step posterior draws, off-policy.

    arXiv 2601.14430, Eq. 43.  The fixed point is b + (sigma^2/2) grad V of the posterior sampler:
    the tilted velocity if that is exact.  Assumes a differentiable reward and pathwise draws; the
    variance grows with |grad r|^2.  variance=release aims at another law (its constant is 200).
    Fit per point, N draws: 2 flow forwards, 1 backward, N map and N + 1 reward forwards, N
    backwards of map and reward.  Cost per sample: K flow rows of the sampler.
    """

    summary = "fine-tunes the flow on the gradient of e^r through one-step draws of the map"
    Params = MFMFTParams

    @property
    def choice(self) -> PosteriorChoice:
        """The posterior sampler."""
        return PosteriorChoice(self.params.posterior, self.params.inner_steps)

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | {Need.REWARD_GRADIENT} | self.choice.needs(True)

    def one_step(self, spec: ProblemSpec) -> Work:
        draws = self.params.draws
        return (
            super().one_step(spec) + self.choice.work(draws, True) + reward_work(spec, draws, True)
        )

    def losses(self, problem: FitProblem) -> Losses:
        p, base = self.params, problem.problem
        scale = log_scale(problem, p.scaling, p.iterations)

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            _, _, x, t = training_point(problem, p.batch, k, p.start)
            estimate = self._estimate(rows_of(problem, p.batch), x, t, k, scale)
            half = half_variance(base.interpolant, t, p.variance)
            b_theta = model.velocity(x, t)
            push = expand(half, x) * estimate.gradient
            return {"match": pull(b_theta, mfm_residual(b_theta, estimate.b, estimate.rho, push))}

        return step

    def _estimate(
        self, problem: Problem, x: Tensor, t: Tensor, k: int, scale: LogScale
    ) -> Estimate:
        flow = Remembered(problem.flow)
        x = x.detach().requires_grad_()
        with torch.set_grad_enabled(self.choice.differentiates_flow):
            b = flow.velocity(x, t)
        point = problem.interpolant.denoiser(b, x, t).detach()
        x1 = self.choice.build(problem, flow).draw(x, t, self.params.draws, problem.noise_at(k))
        r = problem.reward(x1.flatten(0, 1)).reshape(x1.shape[:2])
        rho = (r - scale(point)).exp().mean(0)
        (gradient,) = torch.autograd.grad(rho.sum(), x)
        return Estimate(b.detach(), rho.detach(), gradient)


class Estimate(NamedTuple):
    """Base velocity, rho and grad_x rho at the points, the last two divided by the scale."""

    b: Tensor
    rho: Tensor
    gradient: Tensor


__all__: list[Any] = ["ImplicitTiltMatching", "MFMFineTuning", "itm_residual", "mfm_residual"]
