"""Diamond Maps: the value's gradient from one-step draws, posterior or weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from bench.api import (
    ESTIMATORS,
    Interpolant,
    Method,
    Need,
    PosteriorChoice,
    Problem,
    ProblemSpec,
    Samples,
    SteeringParams,
    SteeringTerm,
    Work,
    backward,
    draws_of,
    estimated_term,
    expand,
    forward,
    log_mean_exp,
    named_param,
    param,
    reward_work,
    rewards_of,
    safe,
    steer,
)

POSTERIOR = PosteriorChoice("map")
"""The stochastic flow map."""

Term = Callable[[Tensor, Tensor, int], SteeringTerm]
"""(x, t, step index) -> what the step steers with."""


def squared(x: Tensor) -> Tensor:
    """|x|^2 of every event, for x (draws, batch, *event): (draws, batch)."""
    return x.square().flatten(2).sum(2)


class Renoised(NamedTuple):
    """Where the weighted estimator looks from: x_t' | x_t ~ N(rho x_t, s^2 I), t' < t."""

    time: Tensor
    rho: Tensor
    s: Tensor

    @classmethod
    def of(cls, i: Interpolant, t: Tensor, snr: float, first: float = 0.0) -> Renoised:
        """The time whose (beta / alpha)^2 is that of t, divided by `snr`; not before `first`."""
        earlier = i.time_of_ratio(i.beta(t) / safe(i.alpha(t)) / snr**0.5).clamp(min=first)
        return cls(earlier, *i.noising(t, earlier))


def log_weights(fit: Tensor, e: Tensor, step: Tensor, scores: Tensor) -> Tensor:
    """log p(x | z) + log p_t'(y) - log q(y | x) up to a constant, (draws, batch).

    step: y - rho x; scores: the sum of those at its two ends.
    """
    return fit + 0.5 * (step * scores).flatten(2).sum(2) + 0.5 * squared(e)


def weighted_term(problem: Problem, params: DiamondParams) -> Term:
    """The steering term of the weighted estimator.

    z_i = X_{t',1}(y_i) with y_i = rho x + s e_i have the density p_1(z_i) q(y_i | x) / p_t'(y_i),
    the Jacobian of the map cancelling, so that with weights of

        log w_i = log p(x | z_i) + log p_t'(y_i) - log q(y_i | x)

    grad V = sum softmax(r + log w)_i grad_x (r(z_i) + log p(x | z_i) + log p_t'(y_i)) -
    score_t(x).  log p_t' is known by its score: along y_i - rho x by the trapezoidal rule.
    """
    i, flow_map, n = problem.interpolant, problem.flow_map, params.draws
    assert flow_map is not None
    first = problem.grid(params.steps)[0]  # a flow's own times may begin after 0

    def score(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            return i.score(i.denoiser(problem.flow.velocity(x, t), x, t), x, t)

    def seen(x: Tensor, t: Tensor, at: Renoised, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y, and r and log p(x | z) at the ends z, (draws, batch, ...)."""
        y = expand(at.rho, x) * x + expand(at.s, x) * e
        times = at.time.repeat(n)
        z = flow_map.jump(y.flatten(0, 1), times, torch.ones_like(times)).reshape(y.shape)
        fit = squared((x - expand(i.beta(t), x) * z) / expand(safe(i.alpha(t)), x))
        return y.detach(), rewards_of(problem, z), -0.5 * fit

    def term(x: Tensor, t: Tensor, k: int) -> SteeringTerm:
        x = x.detach().requires_grad_()
        at = Renoised.of(i, t, params.snr, first)
        with torch.no_grad():
            b = problem.flow.velocity(x, t)
        e = draws_of(problem.noise_at(k), "posterior", n, problem.event_shape)
        with torch.enable_grad():
            y, r, fit = seen(x, t, at, e)
        here = score(expand(at.rho, x) * x.detach(), at.time)
        there = score(y.flatten(0, 1), at.time.repeat(n)).reshape(y.shape)
        log_weight = log_weights(fit.detach(), e, expand(at.s, x) * e, here + there)
        weight = (r.detach() + log_weight).softmax(0)
        (inner,) = torch.autograd.grad((weight * (r + fit)).sum(), x)
        own = i.score(i.denoiser(b, x.detach(), t), x.detach(), t)
        slope = inner + expand(at.rho, x) * (expand(weight, there) * there).sum(0) - own
        value = log_mean_exp(r.detach() + log_weight) - log_mean_exp(log_weight)
        ess = {"draw_ess": (1 / weight.square().sum(0)).mean()}
        late = t.clamp(min=params.start)  # sigma^2 has no limit at 0
        return SteeringTerm(b, expand(i.half_variance(late), x) * slope, ess, slope, value)

    return term


def posterior_term(problem: Problem, params: DiamondParams) -> Term:
    """The steering term of the posterior estimator."""
    return estimated_term(problem, params, POSTERIOR, params.draws, ESTIMATORS["G"])


def posterior_work(spec: ProblemSpec, draws: int) -> Work:
    """Rows of a step beyond the velocity."""
    return POSTERIOR.work(draws, gradient=True) + reward_work(spec, draws, gradient=True)


def weighted_work(spec: ProblemSpec, draws: int) -> Work:
    """The map there and back, and the scores at y and at rho x."""
    ends = forward("map", draws) + backward("map", draws)
    return ends + forward("flow", draws + 1) + reward_work(spec, draws, gradient=True)


@dataclass(frozen=True)
class Estimate:
    """term: the steering term.  work: rows of a step beyond the velocity, for so many draws."""

    summary: str
    term: Callable[[Problem, DiamondParams], Term]
    work: Callable[[ProblemSpec, int], Work]


ESTIMATES: Mapping[str, Estimate] = {
    "posterior": Estimate("through draws of p(x1 | x_t)", posterior_term, posterior_work),
    "weighted": Estimate("through a weighted flow map", weighted_term, weighted_work),
}
"""Estimates of the value's gradient by name."""


@dataclass(frozen=True)
class DiamondParams(SteeringParams):
    """`snr` of the release: 20 with SANA, 1.1 to 1.5 with FLUX, 5 by default.

    Of 2 + (alpha / beta)^2 and more, draws have the spread of unit data's posterior, and weights a
    variance; all of the prior's when it is large.
    """

    draws: int = param(1, low=1, high=4096, log=True, help="draws N per step")
    estimate: str = named_param("posterior", ESTIMATES, "of the value's gradient", tunable=False)
    snr: float = param(20.0, low=1.01, high=1e4, log=True, help="how far back, for weighted")


class Diamond(Method[DiamondParams]):
    """Diamond Maps: steer by the value's gradient from one-step draws of a stochastic flow map.

    Holderrieth et al. 2026 (arXiv 2602.05993), linear time.  `posterior`: a map that draws
    p(x1 | x_t) in one step (theirs is distilled from GLASS flows), grad V = sum softmax(r)_i
    J_i' grad r(X_i): what `mfm-g` does, with the same map.  `weighted`: a plain flow map from x_t
    noised back to an earlier time, with importance weights; consistent as N grows, but for the
    trapezoidal rule in log p_t', which is exact for Gaussian data (the release weighs by r alone
    and normalises each of three gradients; here they are as derived).  Both assume a differentiable
    reward and a flow map, and are biased O(1/N).  The weighted one has its weights' variance too:
    with a few draws it diverges on sharp rewards and on data far from unit variance, unless its
    length is bounded (scale=clip, rescale).
    Cost per sample in paper-nfe: K (1 + 4 N) for posterior, K (2 + 5 N) for weighted.
    """

    summary = "value gradient through one-step draws of the posterior, or of a weighted flow map"
    standing = "baseline"
    Params = DiamondParams
    effort: ClassVar[tuple[str, ...]] = ("draws", "steps")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.REWARD_GRADIENT, Need.FLOW_MAP})

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        flow = forward("flow", spec.calls(spec.grid(p.steps, p.start)[:-1]))
        return flow + ESTIMATES[p.estimate].work(spec, p.draws) * float(p.steps)

    def sample(self, problem: Problem, n: int) -> Samples:
        return steer(
            problem, self.params, ESTIMATES[self.params.estimate].term(problem, self.params)
        )
