"""Implicit tilt matching: fine-tuning without a map and without a reward gradient."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.api import FitProblem, MeteredModule, ProblemSpec, Work, expand, reward_work
from methods.finetuning.loop import Losses
from methods.finetuning.regression import (
    Regression,
    RegressionParams,
    log_scale,
    pair_velocity,
    pilot_of,
    pull,
    training_point,
)


def itm_residual(b_theta: Tensor, b: Tensor, rho: Tensor, u: Tensor) -> Tensor:
    """b_theta - b - (rho - 1)(u - b_theta), with u = d/dt x_t of the pair (x0, x1).

    Implicit tilt matching (arXiv 2512.21829).  Since E[u | x] = b it is zero in expectation at
    b_theta = E[rho u | x] / E[rho | x], whatever positive function of (t, x) divides rho.
    """
    return b_theta - b - expand(rho - 1, b) * (u - b_theta)


class ImplicitTiltMatching(Regression):
    """ITM: reward-weighted flow matching with the base velocity as control; no reward gradient.

    Potaptchik et al. 2025 (arXiv 2512.21829), in one stage: the pair (x1, x_t) is itself a draw of
    the posterior, so neither a map nor grad r is needed.  The fixed point is the tilted velocity;
    assumes that data points with a large e^r are met at all, and its variance grows with e^r.
    Fit per point: 2 flow forwards, 1 backward, 2 reward forwards.  Cost per sample: K flow
    rows of the sampler.
    """

    summary = "fine-tunes by reward-weighted flow matching with the base flow as control"
    Params = RegressionParams

    def one_step(self, spec: ProblemSpec) -> Work:
        return super().one_step(spec) + reward_work(spec, 1)

    def losses(self, problem: FitProblem) -> Losses:
        p, base = self.params, problem.problem
        scale = log_scale(problem, self.rho_scale, pilot_of(problem, p.iterations))

        def step(model: MeteredModule, k: int) -> Mapping[str, Tensor]:
            point = training_point(problem, p.batch, k, p.start)
            x, t = point.x, point.t
            with torch.no_grad():
                b = base.flow.velocity(x, t)
                denoised = base.interpolant.denoiser(b, x, t)
                rho = (base.reward(point.x1) - scale(denoised)).exp()
            u = pair_velocity(base.interpolant, point)
            b_theta = model.velocity(x, t)
            return {"match": pull(b_theta, itm_residual(b_theta, b, rho, u))}

        return step
