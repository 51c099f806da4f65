"""MFM-FT: fine-tuning on the gradient of e^r through draws of the posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import (
    FitProblem,
    FittedTilt,
    Interpolant,
    MeteredModule,
    Need,
    PosteriorChoice,
    PosteriorSampler,
    Problem,
    ProblemSpec,
    Remembered,
    Work,
    expand,
    fit_tilt,
    named_param,
    param,
    reward_work,
    rewards_of,
    sampler_param,
    second_context_work,
    shifted_pool,
)
from methods.finetuning.loop import Losses
from methods.finetuning.regression import (
    LogScale,
    Regression,
    RegressionParams,
    log_scale,
    pilot_of,
    pull,
    training_point,
)

RELEASE_VARIANCE = 200.0
"""The constant sigma^2 of the release of arXiv 2601.14430, which misses the tilted law."""


def _schedule(interpolant: Interpolant, t: Tensor) -> Tensor:
    """The memoryless schedule."""
    return interpolant.half_variance(t)


def _release(_: Interpolant, t: Tensor) -> Tensor:
    """The release's constant 200."""
    return torch.full_like(t, RELEASE_VARIANCE / 2)


HALF_VARIANCES: Mapping[str, Callable[[Interpolant, Tensor], Tensor]] = {
    "schedule": _schedule,
    "release": _release,
}
"""sigma_t^2 / 2 of the target, (batch,)."""


def mfm_residual(b_theta: Tensor, b: Tensor, rho: Tensor, push: Tensor) -> Tensor:
    """rho (b_theta - b) - (sigma^2/2) grad_x rho, with push the second term.

    arXiv 2601.14430, Eq. 43: b_theta minus the target b - (rho - 1)(b_theta - b) + push.  Zero in
    expectation at b_theta = b + (sigma^2/2) grad E[rho | x] / E[rho | x].
    """
    return expand(rho, b) * (b_theta - b) - push


@dataclass(frozen=True)
class Points:
    """What a target is made from: contexts, the base flow there, and the posterior's draws.

    x, b and the denoiser `point` (batch, *event), t (batch,).  scale: log of what divides e^r.
    variance: the name of sigma^2.
    """

    problem: Problem
    x: Tensor
    t: Tensor
    b: Tensor
    point: Tensor
    sampler: PosteriorSampler
    draws: int
    step: int
    scale: LogScale
    variance: str
    tilt: FittedTilt

    def drawn(self) -> Tensor:
        """(draws, batch, *event)."""
        return self.sampler.draw(self.x, self.t, self.draws, self.problem.noise_at(self.step))

    @property
    def half_variance(self) -> Tensor:
        """sigma^2 / 2 of the target, shaped like x."""
        return expand(HALF_VARIANCES[self.variance](self.problem.interpolant, self.t), self.x)


Residual = Callable[[Points, Tensor], Tensor]
"""(points, b_theta) -> b_theta minus its target."""


def pathwise(points: Points, b_theta: Tensor) -> Tensor:
    """The paper's: grad_x rho through the draws."""
    rho = (rewards_of(points.problem, points.drawn()) - points.scale(points.point)).exp().mean(0)
    (gradient,) = torch.autograd.grad(rho.sum(), points.x)
    push = points.half_variance * gradient
    return mfm_residual(b_theta, points.b, rho.detach(), push)


@torch.no_grad()
def weighted(points: Points, b_theta: Tensor) -> Tensor:
    """grad_x E[rho | x] = (beta / alpha^2) E[rho (x1 - D) | x]: no gradient, as unbiased."""
    x1 = points.drawn()
    reward = rewards_of(points.problem, x1)
    return _by_weights(points, b_theta, x1, reward, torch.ones_like(reward))


def _by_weights(points: Points, b_theta: Tensor, x1: Tensor, reward: Tensor, own: Tensor) -> Tensor:
    """The residual from the draws that are the posterior's own (n, batch): 1, others 0."""
    share, i = own / own.sum(0), points.problem.interpolant
    rho = share * (reward - points.scale(points.point)).exp()
    moved = (expand(rho, x1) * (x1 - points.point)).sum(0)
    push = points.half_variance * i.value_gradient(moved.to(x1), points.t)
    return mfm_residual(b_theta, points.b, rho.sum(0).to(x1), push)


@torch.no_grad()
def pooled(points: Points, b_theta: Tensor) -> Tensor:
    """The mean of tilted draws where the quadratic is like the reward, `weighted` elsewhere."""
    noise, i = points.problem.noise_at(points.step), points.problem.interpolant
    tilt = points.tilt.over(len(points.x))
    pool = shifted_pool(
        points.problem, points.sampler, points.x, points.t, points.draws, noise, tilt
    )
    push = points.half_variance * i.value_gradient(pool.shift, points.t)
    plain = _by_weights(points, b_theta, pool.x1, pool.reward, pool.own.to(pool.reward))
    return torch.where(expand(pool.holds, plain), b_theta - points.b - push, plain)


@dataclass(frozen=True)
class FitEstimator:
    """How a target comes from draws; `gradient`: whether through them, `shifted`: whether half of
    them from another context.
    """

    summary: str
    residual: Residual
    gradient: bool = False
    shifted: bool = False

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs of the reward."""
        return frozenset({Need.REWARD_GRADIENT} if self.gradient else ())


FIT_ESTIMATORS: Mapping[str, FitEstimator] = {
    "G": FitEstimator("the gradient through the draws, as published", pathwise, gradient=True),
    "GF": FitEstimator("reward-weighted draws, without a gradient", weighted),
    "shifted": FitEstimator(
        "weighted draws, half of them from a shifted context", pooled, shifted=True
    ),
}


@dataclass(frozen=True)
class MFMFTParams(RegressionParams):
    """MFM-FT: which posterior, how many draws, and the release's constant variance."""

    posterior: str = sampler_param("map")
    draws: int = param(8, low=1, high=1024, log=True, help="posterior draws N per point")
    estimator: str = named_param("shifted", FIT_ESTIMATORS, "of the target")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")
    variance: str = named_param("schedule", HALF_VARIANCES, "sigma^2", tunable=False)


class MFMFineTuning(Regression):
    """MFM-FT: regress on the gradient of e^r through one-step posterior draws, off-policy.

    arXiv 2601.14430, Eq. 43.  The fixed point is b + (sigma^2/2) grad V of the posterior sampler:
    the tilted velocity if that is exact.  variance=release aims at another law (its constant is
    200).  `estimator` is how the gradient comes from the draws: G is the paper's, through them,
    whose variance grows with |grad r|^2 and is heavy-tailed where modes are apart; GF weighs them
    instead, is as unbiased and needs no gradient; shifted, the default, does so too, and where the
    quadratic that fits the pilot's rewards is like the reward, half of its draws come from the
    context shifted by it (`bench.loops.shifted_draws`): a bias of O(1/N), but weights that do not
    collapse.
    Fit per point, N draws: 2 flow forwards, 1 backward, N map and N + 1 reward forwards; with G the
    N backwards of map and reward, with shifted and a sampler of the flow a flow forward.
    Cost per sample: K flow rows of the sampler.
    """

    version = "3"
    summary = "fine-tunes the flow on the gradient of E[e^r | x], from one-step draws of the map"
    Params = MFMFTParams

    @property
    def choice(self) -> PosteriorChoice:
        """The posterior sampler."""
        return PosteriorChoice(self.params.posterior, self.params.inner_steps)

    @property
    def estimator(self) -> FitEstimator:
        """How a target comes from draws."""
        return FIT_ESTIMATORS[self.params.estimator]

    @property
    def needs(self) -> frozenset[Need]:
        return super().needs | self.estimator.needs | self.choice.needs(self.estimator.gradient)

    def one_step(self, spec: ProblemSpec) -> Work:
        draws, gradient = self.params.draws, self.estimator.gradient
        own = self.choice.work(draws, gradient) + reward_work(spec, draws, gradient)
        again = second_context_work(self.choice, draws) if self.estimator.shifted else Work()
        return super().one_step(spec) + own + again

    def losses(self, problem: FitProblem) -> Losses:
        p = self.params
        pilot = pilot_of(problem, p.iterations)
        scale, tilt = log_scale(problem, self.rho_scale, pilot), fit_tilt(*pilot)

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            _, _, x, t = training_point(problem, p.batch, k, p.start)
            points = self._points(problem.rows_of(p.batch), x, t, k, scale, tilt)
            b_theta = model.velocity(x, t)
            return {"match": pull(b_theta, self.estimator.residual(points, b_theta))}

        return step

    def _points(
        self, problem: Problem, x: Tensor, t: Tensor, k: int, scale: LogScale, tilt: FittedTilt
    ) -> Points:
        flow, through = Remembered(problem.flow), self.estimator.gradient
        x = x.detach().requires_grad_(through)
        with torch.set_grad_enabled(through and self.choice.differentiates_flow):
            b = flow.velocity(x, t)
        point = problem.interpolant.denoiser(b, x, t).detach()
        sampler = self.choice.build(problem, flow)
        p = self.params
        own = (sampler, p.draws, k, scale, p.variance, tilt)
        return Points(problem, x, t, b.detach(), point, *own)
