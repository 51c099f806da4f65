"""MFM-FT: fine-tuning on the gradient of e^r through draws of the posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench.api import (
    FitProblem,
    Interpolant,
    MeteredModule,
    Need,
    PosteriorChoice,
    Problem,
    ProblemSpec,
    Remembered,
    Work,
    expand,
    named_param,
    param,
    reward_work,
    rewards_of,
    sampler_param,
)
from methods.finetuning.loop import Losses, rows_of
from methods.finetuning.regression import (
    LogScale,
    Regression,
    RegressionParams,
    log_scale,
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


class Estimate(NamedTuple):
    """Base velocity, rho and grad_x rho at the points, the last two divided by the scale."""

    b: Tensor
    rho: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class MFMFTParams(RegressionParams):
    """MFM-FT: which posterior, how many draws, and the release's constant variance."""

    posterior: str = sampler_param("map")
    draws: int = param(1, low=1, high=1024, log=True, help="posterior draws N per point")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")
    variance: str = named_param("schedule", HALF_VARIANCES, "sigma^2", tunable=False)


class MFMFineTuning(Regression):
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
        scale = log_scale(problem, self.rho_scale, p.iterations)

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            _, _, x, t = training_point(problem, p.batch, k, p.start)
            estimate = self._estimate(rows_of(problem, p.batch), x, t, k, scale)
            half = HALF_VARIANCES[p.variance](base.interpolant, t)
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
        rho = (rewards_of(problem, x1) - scale(point)).exp().mean(0)
        (gradient,) = torch.autograd.grad(rho.sum(), x)
        return Estimate(b.detach(), rho.detach(), gradient)
