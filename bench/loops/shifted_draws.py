"""Tilted denoisers from draws at the context itself and at a shifted one.

Half of the draws X_i come from p(x1 | x_t = x).  Where a quadratic s is like the reward over them
(its expansion at the denoiser, or one that was fitted to a pool), the other half X_i' comes from
the posterior of the context that e^s shifts x to (`bench.core.shifted`), with the same noise;
elsewhere from the context itself, with noise of its own, so that nothing is lost there.  The
estimate of D^r - D is

    sum_i softmax(r' - s')_i X_i' - mean_i X_i        or        sum_i softmax(r)_i X_i - mean_i X_i

the first without variance in its weights where the reward is that quadratic, and nearly without
any, since the noise cancels.  A quadratic holds where r - s varies over the plain half much less
than r, and over the shifted half little: draws of a proposal that misses the tilted law do not know
what they miss, and plain ones do not know where a steep slope sends the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.core.paths import expand
from bench.core.posterior import softmax_ess
from bench.core.problem import Problem
from bench.core.protocols import Noise, PosteriorSampler
from bench.core.shifted import Tilt
from bench.core.values import ProblemSpec
from bench.core.work import Work, forward
from bench.loops.posteriors import PosteriorChoice
from bench.loops.scoring import reward_work, rewards_of

HOLDS = 0.1
"""A quadratic holds where it leaves less than this share of the rewards' deviation.

At 0.5 a rank-one likelihood passes for isotropic now and then: 7.6 floors in the plane, not 2.6.
"""

SPREAD = 1.0
"""Shifted draws count where r - s varies over them by less than this, in nats.

A slope that is right over the posterior of a late time, which is narrow, is wrong where it sends
the draws of a sharp reward: 52 floors in the plane at five steps, not 5.
"""

GRADIENTS = 2
"""Rewards that are differentiated for a tilt."""


def slope_of(reward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """grad r(x), shape of x."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        # Not the leaf itself: a network that is fed a leaf cannot be audited by the FLOP counter.
        (gradient,) = torch.autograd.grad(reward(x * 1).sum(), x)
    return gradient


def local_tilt(problem: Problem, point: Tensor, t: Tensor, noise: Noise) -> Tilt:
    """The quadratic that meets r at the denoiser: its gradient there, and its mean curvature.

    kappa is minus the curvature along one random direction, over the posterior's deviation for data
    of unit variance; a positive curvature is taken for none.
    """
    i = problem.interpolant
    z = noise("curvature", problem.event_shape)
    step = (i.alpha(t) / (i.alpha(t) ** 2 + i.beta(t) ** 2).sqrt()).clamp(min=1e-3)
    here = slope_of(problem.reward, point)
    there = slope_of(problem.reward, point + expand(step, point) * z)
    along = ((there - here) * z).flatten(1).sum(1) / (step * z.flatten(1).square().sum(1))
    kappa = (-along).clamp(min=0)
    return Tilt(here + expand(kappa, point) * point, kappa)


@dataclass(frozen=True)
class Pool:
    """Draws of which the second half is shifted where the tilt holds, with their weights.

    x1 (n, batch, *event), reward and tilt, log e^s, (n, batch), moved (batch,): where the second
    half is shifted; the first `plain` draws are of the posterior itself.
    """

    x1: Tensor
    reward: Tensor
    tilt: Tensor
    moved: Tensor
    plain: int

    @property
    def holds(self) -> Tensor:
        """Where the shifted draws count, (batch,): over them, too, s is like the reward."""
        if self.plain == len(self.x1):
            return self.moved
        return self.moved & (self._residual.std(0) < SPREAD)

    @property
    def own(self) -> Tensor:
        """Which draws are of the posterior itself, (n, batch)."""
        first = torch.arange(len(self.x1), device=self.moved.device) < self.plain
        return first[:, None] | ~self.moved

    @property
    def shift(self) -> Tensor:
        """The self-normalised D^r - D, (batch, *event)."""
        return torch.where(expand(self.holds, self.x1[0]), self._shifted, self._unshifted)

    @property
    def _shifted(self) -> Tensor:
        there = self.x1[self.plain :]
        return mean_under(self._residual, there) - self.x1[: len(there)].mean(0)

    @property
    def _unshifted(self) -> Tensor:
        return mean_under(self._own(self.reward), self.x1) - mean_under(
            self._own(torch.zeros_like(self.reward)), self.x1
        )

    def _own(self, log_weight: Tensor) -> Tensor:
        """Log weights of the draws of the posterior, none of the others."""
        return log_weight.masked_fill(~self.own, -torch.inf)

    @property
    def _residual(self) -> Tensor:
        return (self.reward - self.tilt)[self.plain :]

    @property
    def ess(self) -> Tensor:
        """Effective size of the weights that count, (batch,)."""
        return torch.where(
            self.holds, softmax_ess(self._residual), softmax_ess(self._own(self.reward))
        )


def mean_under(log_weight: Tensor, x1: Tensor) -> Tensor:
    """Self-normalised mean of x1 (n, batch, *event) under log weights (n, batch)."""
    return (expand(log_weight.softmax(0).to(x1), x1) * x1).sum(0)


FEWEST = 4
"""Draws of which half can tell anything."""


def holds(r: Tensor, s: Tensor) -> Tensor:
    """Whether the quadratic s explains the rewards r (n, batch) of plain draws, (batch,)."""
    return (r - s).std(0) < HOLDS * r.std(0)


def fresh_unless(same: Tensor, noise: Noise) -> Noise:
    """`noise` for the rows of `same` (batch,), other noise for the rest."""

    def mixed(name: str, shape: tuple[int, ...]) -> Tensor:
        z = noise(name, shape)
        return torch.where(expand(same, z), z, noise(f"{name} again", shape))

    return mixed


def shifted_pool(
    problem: Problem,
    sampler: PosteriorSampler,
    x: Tensor,
    t: Tensor,
    n: int,
    noise: Noise,
    tilt: Tilt,
) -> Pool:
    """n draws at (x, t): half are plain, half shifted by `tilt` where it is like the reward.

    All are plain where there are fewer than `FEWEST`.
    """

    def scored(x1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x1, rewards_of(problem, x1).double(), tilt.log(x1).double()

    plain = n - n // 2 if n >= FEWEST else n
    here, r, s = scored(sampler.draw(x, t, plain, noise))
    if plain == n:
        return Pool(here, r, s, torch.zeros_like(t, dtype=torch.bool), plain)
    moved = holds(r, s)
    x_new, t_new = tilt.context(problem.interpolant, x, t)
    context = torch.where(expand(moved, x), x_new, x), torch.where(moved, t_new, t)
    there = scored(sampler.draw(*context, n - plain, fresh_unless(moved, noise)))
    x1, reward, log_tilt = (torch.cat(pair) for pair in zip((here, r, s), there, strict=True))
    return Pool(x1, reward, log_tilt, moved, plain)


def tilt_work(spec: ProblemSpec) -> Work:
    """Rows of a local tilt, per context."""
    return reward_work(spec, GRADIENTS, gradient=True)


def second_context_work(choice: PosteriorChoice, draws: int) -> Work:
    """Rows of the shifted context itself: samplers of the flow see its velocity there first."""
    seen = choice.differentiates_flow and draws >= FEWEST
    return forward("flow") if seen else Work()
