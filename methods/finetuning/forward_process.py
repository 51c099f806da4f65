"""Policy optimisation on the forward process: samples are noised afresh and regressed on.

x1 ~ the current model's ODE, A = its advantage in its group        every `updates` optimiser steps
x_t = alpha_t x0 + beta_t x1, u = d/dt x_t                           new noise, any sampler
A says whether v(x_t) goes towards u or away from it

Nothing needs a density of the sampler.  At the first update both methods descend A |v - u|^2, whose
slope in v is 2 Cov(A, u | x_t), the derivative of the velocity in the strength of the reward A.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from bench.api import (
    FitProblem,
    Flow,
    Interpolant,
    MeteredModule,
    ProblemSpec,
    Work,
    backward,
    expand,
    forward,
    integrate,
    named_param,
    ode_step,
    param,
    reward_work,
)
from methods.finetuning.grpo import GroupParams, clipped_objective, own_advantages
from methods.finetuning.loop import FineTuned, Losses
from methods.finetuning.regression import Point, noised_point, pair_velocity


@dataclass(frozen=True)
class ForwardParams(GroupParams):
    """How samples are made, and at how many times each is noised."""

    fit_steps: int = param(10, low=1, high=1000, log=True, help="ODE steps per training sample")
    points: int = param(6, low=1, high=16, help="times at which a sample is noised")
    start: float = param(0.01, low=0.0, high=0.5, help="least time of training points")
    widest: float = param(5.0, low=0.01, high=1e6, log=True, help="largest |advantage|")


class Seen(NamedTuple):
    """Noised samples of a rollout, with what the policy and the base model said there.

    x, u, old, base: (rows, *event_shape); t, advantage: (rows,).
    """

    x: Tensor
    t: Tensor
    u: Tensor
    old: Tensor
    base: Tensor
    advantage: Tensor


class ForwardProcess(FineTuned):
    """Rollouts, advantages and noised points; subclasses give the loss of a velocity there."""

    Params: ClassVar[type[Any]] = ForwardParams

    def policy_loss(self, v: Tensor, seen: Seen, interpolant: Interpolant) -> Tensor:
        """What pulls the velocity v at the points towards good samples, ()."""
        raise NotImplementedError

    @property
    def cycle(self) -> int:
        return int(self.params.updates)

    def steps_work(self, spec: ProblemSpec, iterations: int) -> Work:
        p = self.params
        rollouts = -(-iterations // p.updates)
        drawn = forward("flow", p.fit_steps + 2 * p.points) + reward_work(spec, 1)
        updated = (forward("flow") + backward("flow")) * float(p.points * iterations)
        return (drawn * float(rollouts) + updated) * float(p.batch)

    def losses(self, problem: FitProblem) -> Losses:
        p, memory, i = self.params, list[Seen](), problem.problem.interpolant

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            if k % p.updates == 0:
                memory[:] = [self._seen(problem, model, k // p.updates)]
            seen = memory[0]
            v = model.velocity(seen.x, seen.t)
            kl = self.params.beta * mean_square(v - seen.base).mean()
            return {"policy": self.policy_loss(v, seen, i), "kl": kl}

        return step

    @torch.no_grad()
    def _seen(self, problem: FitProblem, model: Flow, rollout: int) -> Seen:
        p, base = self.params, problem.rows_of(self.params.batch)
        x0 = base.noise("fit-start", rollout, base.event_shape)
        grid = base.grid(p.fit_steps)
        x1 = integrate(ode_step(model.velocity, "euler"), base.started(x0, grid), grid)
        gain = own_advantages(problem, base.reward(x1), p)
        point = noised_often(problem, x1, rollout, p)
        x, t, u = point.x, point.t, pair_velocity(base.interpolant, point)
        old, of_base = model.velocity(x, t), base.flow.velocity(x, t)
        gain = gain.clamp(-p.widest, p.widest).repeat(p.points)
        return Seen(x, t, u, old, of_base, gain)


def noised_often(problem: FitProblem, x1: Tensor, rollout: int, p: ForwardParams) -> Point:
    """Each of this worker's samples noised to `points` times, which are strata of all rows'."""
    total = p.batch * p.points
    starts = range(0, total, p.batch)
    rows = (problem.rows_of(p.batch, start) for start in starts)
    parts = [noised_point(own, x1, rollout, p.start, total) for own in rows]
    return Point(*map(torch.cat, zip(*parts, strict=True)))


def mean_square(gap: Tensor) -> Tensor:
    """Mean over dimensions of gap^2, (batch,)."""
    return gap.flatten(1).square().mean(1)


# -- DiffusionNFT ---------------------------------------------------------------------------------

Regression = Callable[[Tensor, Tensor], Tensor]
"""(v - u, alpha / wronskian, by which it is the gap of denoisers) -> losses (batch,)."""


def _velocity(gap: Tensor, _: Tensor) -> Tensor:
    """|v - u|^2."""
    return mean_square(gap)


def _adaptive(gap: Tensor, scale: Tensor) -> Tensor:
    """|D(v) - x1|^2 / (mean |D(v) - x1|, held fixed), as released."""
    denoised = expand(scale, gap) * gap
    size = denoised.flatten(1).abs().mean(1).clamp(min=1e-5).detach()
    return mean_square(denoised) / size


REGRESSIONS: Mapping[str, Regression] = {"adaptive": _adaptive, "velocity": _velocity}


def nft_losses(
    v: Tensor, seen: Seen, mix: float, widest: float, regression: Callable[[Tensor], Tensor]
) -> Tensor:
    """(widest / mix) (r |v+ - u|^2 + (1 - r) |v- - u|^2), (batch,); r = (1 + A / widest) / 2.

    v+ = (1 - mix) old + mix v and v- = (1 + mix) old - mix v (arXiv 2509.16117, Eq. 5).  With the
    plain square, least at v = old + Cov(A, u | x) / (mix widest).
    """
    r = (1 + seen.advantage / widest) / 2
    towards, away = (seen.old + sign * mix * (v - seen.old) - seen.u for sign in (1, -1))
    return (r * regression(towards) + (1 - r) * regression(away)) * (widest / mix)


@dataclass(frozen=True)
class NFTParams(ForwardParams):
    """How far the positive policy is mixed with the old one, and the pull to the base model."""

    points: int = param(9, low=1, high=16, help="times at which a sample is noised")
    mix: float = param(1.0, low=0.01, high=10.0, log=True, help="beta of v+ and v-")
    regression: str = named_param("adaptive", REGRESSIONS, "squared error")
    beta: float = param(1e-4, low=0.0, high=100.0, help="factor of |v - base|^2")


class DiffusionNFT(ForwardProcess):
    """DiffusionNFT: regress implicit good and bad velocities on noised samples; no reward gradient.

    Zheng et al. 2025 (arXiv 2509.16117, Eq. 5, Theorem 3.2): r |v+ - u|^2 + (1 - r) |v- - u|^2 with
    r in [0, 1] from the group's advantage.  A rollout moves v by Cov(r, u | x) 2 / mix: the first
    order of a tilt whose strength the standard deviation of the reward decides.  Biased: rollouts
    add such steps up without end, towards the reward's maxima; neither its strength nor its scale
    matters, and the adaptive square estimates no mean.  v_old is the policy of the rollout (the
    release lags it by at most .001 per rollout at first).
    Fit per sample, M points, E updates per rollout: fit_steps + 2 M flow and one reward forward,
    E M flow forwards and backwards.  Cost per sample: K flow rows of the sampler.
    """

    summary = "fine-tunes by regression on noised samples, towards good ones and away from bad ones"
    caveat = (
        "it puts advantages, which are standardised, in the place of the reward, and so knows no "
        "strength; each rollout tilts once more, as long as the fit goes on"
    )
    Params = NFTParams

    def policy_loss(self, v: Tensor, seen: Seen, interpolant: Interpolant) -> Tensor:
        p, scale = self.params, interpolant.alpha(seen.t) / interpolant.wronskian(seen.t)
        square = REGRESSIONS[p.regression]
        return nft_losses(v, seen, p.mix, p.widest, lambda gap: square(gap, scale)).mean()


# -- advantage-weighted matching ------------------------------------------------------------------


def awm_losses(v: Tensor, seen: Seen, epsilon: float) -> Tensor:
    """-min(rho A, clip(rho, 1 - eps, 1 + eps) A), rho = exp(|old - u|^2 - |v - u|^2), (batch,).

    The flow-matching loss stands for -log p; at v = old the slope is that of A |v - u|^2.
    """
    ratio = (mean_square(seen.old - seen.u) - mean_square(v - seen.u)).exp()
    return -clipped_objective(ratio, seen.advantage, epsilon)


@dataclass(frozen=True)
class AWMParams(ForwardParams):
    """The release's trust region, on policy, and its pull to the base model."""

    updates: int = param(1, low=1, high=100, help="optimiser steps per rollout")
    widest: float = param(1.0, low=0.01, high=1e6, log=True, help="largest |advantage|")
    epsilon: float = param(1.0, low=1e-8, high=10.0, log=True, help="clip of the ratio")
    beta: float = param(3e-3, low=0.0, high=100.0, help="factor of |v - base|^2")


class AWM(ForwardProcess):
    """AWM: PPO with the flow-matching loss of a sample for its log-likelihood; no reward gradient.

    Advantage weighted matching, Xue et al. 2025 (arXiv 2509.25050): minimise A |v - u|^2 + beta
    |v - base|^2.  The fixed point is v = base + Cov_v(A, u | x) / beta, with the covariance under
    the fitted model: the tilted velocity at strength 1 / (beta sd(r)) if that covariance does not
    change with the tilt (a Gaussian and a linear reward), else biased, as an integral over
    strengths is by its last value; the reward's own strength does not matter.  The release's
    generalised Huber weights and its pull to an average policy are left out.
    Fit per sample, M points, E updates per rollout: fit_steps + 2 M flow and one reward forward,
    E M flow forwards and backwards.  Cost per sample: K flow rows of the sampler.
    """

    summary = "fine-tunes by flow matching on its own samples, weighted by their advantages"
    caveat = (
        "it puts advantages, which are standardised, in the place of the reward, and so knows no "
        "strength; only the pull to the base model says how far it goes"
    )
    Params = AWMParams

    def policy_loss(self, v: Tensor, seen: Seen, interpolant: Interpolant) -> Tensor:
        return awm_losses(v, seen, self.params.epsilon).mean()
