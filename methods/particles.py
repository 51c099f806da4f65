"""The particle engine that every sequential Monte Carlo method shares.

    for each time t:
        look     D_t(x), r(D_t(x)) and, if twisted, its gradient: one model row per particle
        weigh    log w += log potential            (and log p/q of the move that led here)
        select   resample where the effective sample size is low; other weights are carried
        move     x ~ q, the base ancestral step, its mean shifted by variance * gradient

At the last time the step is a point mass at D, so r(D) is r(x1): the last potential brings the
product of all to e^r(x1) exactly, whatever was seen on the way.
Each returned sample comes from a population of its own, so samples are independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.api import Problem, uniform
from bench.core.integrate import ancestral_moments, filled
from bench.core.interpolant import expand
from bench.core.posterior import denoised, softmax_ess
from methods.resampling import Resampler

Weigher = Callable[[Tensor, Tensor, bool], Tensor]
"""(rewards seen along each path (looks, ...), log potentials spent so far, last) -> log potential.

Rewards are tempered; the last one is whole.
"""


@dataclass(frozen=True)
class Selection:
    """Who goes on (populations, particles), with which log weights, and what log Z has gained."""

    index: Tensor
    log_weight: Tensor
    log_z: Tensor
    resampled: Tensor


Select = Callable[[Tensor, Tensor], Selection]
"""(log weights, uniforms), both (populations, particles) -> Selection."""


@dataclass(frozen=True)
class Design:
    """What makes one particle method different from another.

    grid: K + 1 times.  tempers: {step: factor of the reward seen there}; step K - 1 must be one of
    them.  founders: distinct particles at the start, each copied to fill the population.
    twisted: whether the gradient of the tempered reward shifts the proposal.
    """

    particles: int
    grid: Sequence[float]
    tempers: Mapping[int, float]
    weigh: Weigher
    select: Select
    founders: int
    twisted: bool = False

    @property
    def last(self) -> int:
        """The step whose move is a point mass."""
        return len(self.grid) - 2


@dataclass(frozen=True)
class Cloud:
    """Populations of particles; shapes are (populations, particles, ...).

    log_weight: since the last resampling.  path: (looks, ...), rewards seen by the ancestors.
    spent: log potentials paid by them.  log_z and resamplings: (populations,).  denoised and
    pull: D and the gradient of the tempered reward at x.
    """

    x: Tensor
    denoised: Tensor
    pull: Tensor | None
    log_weight: Tensor
    path: Tensor
    spent: Tensor
    log_z: Tensor
    resamplings: Tensor

    def chosen(self, index: Tensor) -> Cloud:
        """The particles at index (populations, any): nothing is evaluated again."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return replace(
            self,
            x=self.x[rows, index],
            denoised=self.denoised[rows, index],
            pull=None if self.pull is None else self.pull[rows, index],
            log_weight=self.log_weight[rows, index],
            path=self.path[:, rows, index],
            spent=self.spent[rows, index],
        )

    def filled(self, particles: int) -> Cloud:
        """Copies of a single founder, or the cloud itself if it is full."""
        if self.x.shape[1] == particles:
            return self
        return self.chosen(self.log_weight.new_zeros(len(self.x), particles, dtype=torch.long))

    @property
    def total_log_weight(self) -> Tensor:
        """Log weights whose mean over the population is the estimate of Z."""
        return self.log_z[:, None] + self.log_weight


def adaptive(resample: Resampler, threshold: float) -> Select:
    """Resample the populations with ESS < threshold * N; the others keep their weights.

    Dropping weights where resampling is skipped is the error of the public FK code (peers.md 2.5).
    """

    def select(log_weight: Tensor, u: Tensor) -> Selection:
        size = log_weight.shape[1]
        due = softmax_ess(log_weight, 1) < threshold * size
        stay = torch.arange(size, device=u.device).expand_as(log_weight)
        index = torch.where(due[:, None], resample(log_weight, u), stay) if due.any() else stay
        kept = log_weight.masked_fill(due[:, None], 0.0)
        gained = log_weight.logsumexp(1) - math.log(size)
        return Selection(index, kept, gained.where(due, torch.zeros_like(gained)), due)

    return select


def founded(problem: Problem, founders: int) -> Cloud:
    """Initial particles; the first starts where every other method starts."""
    more = problem.noise("particles", 0, (founders - 1, *problem.event_shape))
    x = torch.cat([problem.x0()[:, None], more], dim=1)
    none = torch.zeros(x.shape[:2], device=x.device, dtype=torch.float64)
    return Cloud(x, x, None, none, none[None][:0], none, none[:, 0], none[:, 0])


def look(problem: Problem, design: Design, cloud: Cloud, k: int) -> Cloud:
    """Evaluate D and, where step k sees the reward, weigh: one flow row per particle."""
    guided = design.twisted and k < design.last
    x = cloud.x.flatten(0, 1).detach().requires_grad_(guided)
    with torch.set_grad_enabled(guided):
        point = denoised(problem.flow, x, filled(design.grid[k], x), None)
        reward = design.tempers[k] * problem.reward(point) if k in design.tempers else None
        pull = gradient(reward, x).reshape(cloud.x.shape) if guided else None
    seen = replace(cloud, denoised=point.detach().reshape(cloud.x.shape), pull=pull)
    return seen if reward is None else weighed(design, seen, reward.detach(), k)


def gradient(reward: Tensor | None, x: Tensor) -> Tensor:
    """Gradient of each row's reward in that row's x."""
    assert reward is not None, "a twisted design sees the reward at every step"
    return torch.autograd.grad(reward.sum(), x)[0]


def weighed(design: Design, cloud: Cloud, reward: Tensor, k: int) -> Cloud:
    """Multiply the weights by the potential of the rewards seen so far."""
    path = torch.cat([cloud.path, reward.double().reshape(1, *cloud.spent.shape)])
    gain = finite(design.weigh(path, cloud.spent, k == design.last), "weights", k)
    return replace(cloud, path=path, spent=cloud.spent + gain, log_weight=cloud.log_weight + gain)


def move(problem: Problem, design: Design, cloud: Cloud, k: int) -> Cloud:
    """x ~ q = N(m + s^2 g, s^2) with p = N(m, s^2): log p/q = -s g.z - s^2 |g|^2 / 2."""
    x, shape = cloud.x.flatten(0, 1), cloud.x.shape
    t, u = filled(design.grid[k], x), filled(design.grid[k + 1], x)
    mean, s = ancestral_moments(problem.interpolant, x, cloud.denoised.flatten(0, 1), t, u)
    z = problem.noise("step", k, shape[1:]).flatten(0, 1)
    step = expand(s, x)
    if cloud.pull is None:
        return replace(cloud, x=finite(mean + step * z, "particles", k).reshape(shape))
    push = step * cloud.pull.flatten(0, 1)
    ratio = -(push * (z + 0.5 * push)).flatten(1).double().sum(1)
    moved = finite(mean + step * (push + z), "particles", k).reshape(shape)
    return replace(cloud, x=moved, log_weight=cloud.log_weight + ratio.reshape(shape[:2]))


def finite(x: Tensor, what: str, k: int) -> Tensor:
    """x, or an error: a particle that is lost is never put to zero in silence."""
    if not bool(torch.isfinite(x).all()):
        raise FloatingPointError(f"the {what} are not finite at step {k}")
    return x


def uniforms(problem: Problem, name: str, k: int, count: int) -> Tensor:
    """(populations, count), in float64."""
    return uniform(problem.noise(name, k, (count,)).double())


def survivors(problem: Problem, design: Design, cloud: Cloud, k: int) -> Cloud:
    """Let the design select who goes on from step k."""
    u = uniforms(problem, "resample", k, cloud.log_weight.shape[1])
    chosen = design.select(cloud.log_weight, u)
    return replace(
        cloud.chosen(chosen.index),
        log_weight=chosen.log_weight,
        log_z=cloud.log_z + chosen.log_z,
        resamplings=cloud.resamplings + chosen.resampled,
    )


def evolve(problem: Problem, design: Design) -> tuple[Cloud, dict[str, float]]:
    """One population per row of the problem, carried to the last time; weights not yet used."""
    cloud, sizes = founded(problem, design.founders), list[float]()
    for k in range(design.last):
        cloud = look(problem, design, cloud, k)
        if k in design.tempers:
            sizes.append(_ess(cloud))
            problem.log(k, ess=sizes[-1])
            cloud = survivors(problem, design, cloud, k)
        cloud = move(problem, design, cloud.filled(design.particles), k)
    cloud = look(problem, design, cloud, design.last)
    sizes.append(_ess(cloud))
    resamplings = float(cloud.resamplings.mean())
    return cloud, {"ess": sum(sizes) / len(sizes), "resamplings": resamplings}


def _ess(cloud: Cloud) -> float:
    return float(softmax_ess(cloud.log_weight, 1).mean())
