"""The particle engine that every sequential Monte Carlo method shares.

    for each time t:
        look     D_t(x), the value r(D_t(x)) and, if twisted, its gradient: once per particle
        weigh    log w += log potential            (and log p/q of the move that led here)
        select   resample where the effective sample size is low; other weights are carried
        move     x ~ q, the base chain's step, its mean shifted by variance * gradient

At the last time the step is a point mass at D, so r(D) is r(x1): the last potential brings the
product of all to e^r(x1) exactly, whatever was seen on the way, at random or not.
Each returned sample comes from a population of its own, so samples are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.core.estimators import denoiser_shift, log_mean_exp, value_gradient
from bench.core.finite import refuse_not_finite
from bench.core.integrate import filled
from bench.core.noise import uniform
from bench.core.paths import expand
from bench.core.posterior import Remembered, softmax_ess
from bench.core.problem import Problem
from bench.core.protocols import Noise
from bench.core.values import ProblemSpec
from bench.core.watch import Watch, in_step
from bench.core.work import Work, forward
from bench.loops.posteriors import PosteriorChoice
from bench.loops.resampling import Select
from bench.loops.scoring import reward_work, rewards_of
from bench.loops.transitions import TRANSITIONS, Transition

Weigher = Callable[[Tensor, Tensor, bool], Tensor]
"""(values seen along each path (looks, ...), log potentials spent so far, last) -> log potential.

Values are tempered; the last one is r(x1), whole.
"""


Founding = Callable[[Problem, Tensor], tuple[Tensor, Tensor]]
"""(problem, normals (populations, founders, *event)) -> normals of a law q that is followed at the
first time, and their log p/q up to a constant, p the law N(0, I): (populations, founders).
"""


def from_noise(_: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
    """The base law itself."""
    return x, torch.zeros(x.shape[:2], device=x.device, dtype=torch.float64)


@dataclass(frozen=True)
class ParticleDesign:
    """What makes one particle method different from another.

    steps: K.  start: the first time, unless the flow has times of its own.  tempers: {step: factor
    of the value seen there}; step K - 1 is one of them.  fade: (t) -> that factor before the last,
    in the place of what `tempers` says.
    value and draws: the posterior whose log-mean-exp reward is the value.  founders: particles at
    the start, 1 or all.  twisted: whether the gradient of the tempered value shifts the proposal;
    gradient_free: whether that gradient is estimated from the draws, without back-propagation.
    transition: the step of the chain.  found: how the founders begin; its own rows are not in
    `work`, and where it is not `from_noise`, Z is known up to its constant.
    """

    particles: int
    steps: int
    start: float
    tempers: Mapping[int, float]
    value: PosteriorChoice
    draws: int
    weigh: Weigher
    select: Select
    founders: int
    twisted: bool = False
    gradient_free: bool = False
    transition: Transition = TRANSITIONS["signal"]
    found: Founding = from_noise
    fade: Callable[[float], float] | None = None
    grid: Sequence[float] = ()

    @property
    def last(self) -> int:
        """The step whose move is a point mass."""
        return self.steps - 1

    def on(self, grid: Sequence[float]) -> ParticleDesign:
        """The same on the K + 1 times of a run."""
        factors = dict(self.tempers)
        if self.fade is not None:
            factors = {k: f if k == self.last else self.fade(grid[k]) for k, f in factors.items()}
        return replace(self, grid=grid, tempers=factors)

    def work(self, spec: ProblemSpec) -> Work:
        """Rows of one population; resampling indexes what was evaluated and costs none."""
        gradient = self.twisted and not self.gradient_free
        grid, rewards = spec.grid(self.steps, self.start), reward_work(spec, self.draws, gradient)
        total = self.transition.work() * float(self.particles * self.last)
        for size, steps in ((self.founders, [0]), (self.particles, range(1, self.steps))):
            seen = [grid[k] for k in steps if k in self.tempers and k < self.last]
            looks = self.value.along(spec, seen, self.draws, gradient) + rewards * float(len(seen))
            total += (forward("flow", spec.calls([grid[k] for k in steps])) + looks) * float(size)
        return total + reward_work(spec, self.particles)


@dataclass(frozen=True)
class Cloud:
    """Populations of particles; shapes are (populations, particles, ...).

    log_weight: since the last resampling.  path: (looks, ...), values seen by the ancestors.
    spent: log potentials paid by them.  log_z and resamplings: (populations,).  denoised and
    pull: D and the gradient of the tempered value at x.
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

    @property
    def ess(self) -> Tensor:
        """Effective sample size, averaged over populations; without dimensions."""
        return softmax_ess(self.log_weight, 1).mean()


def founded(problem: Problem, design: ParticleDesign) -> Cloud:
    """Initial particles; the first starts where every other method starts."""
    more = problem.noise("particles", 0, (design.founders - 1, *problem.event_shape))
    x, weight = design.found(problem, torch.cat([problem.x0()[:, None], more], dim=1))
    x = problem.started(x, design.grid)
    none = torch.zeros_like(weight)
    return Cloud(x, x, None, weight, none[None][:0], none, none[:, 0], none[:, 0])


def particle_noise(problem: Problem, k: int, particles: int) -> Noise:
    """Normals of step k, (populations * particles, *shape)."""

    def noise(name: str, shape: tuple[int, ...]) -> Tensor:
        return problem.noise(name, k, (particles, *shape)).flatten(0, 1)

    return noise


def look(problem: Problem, design: ParticleDesign, cloud: Cloud, k: int) -> Cloud:
    """Evaluate D and, where step k sees it, the value: one flow row per particle and its draws."""
    twisted = design.twisted and k < design.last
    guided = twisted and not design.gradient_free
    x = cloud.x.flatten(0, 1).detach().requires_grad_(guided)
    t, flow = filled(design.grid[k], x), Remembered(problem.flow)
    with torch.set_grad_enabled(guided and design.value.differentiates_flow):
        point = problem.interpolant.denoiser(flow.velocity(x, t), x, t)
    seen = replace(cloud, denoised=point.detach().reshape(cloud.x.shape), pull=None)
    if k not in design.tempers:
        return seen
    with in_step(k, design.grid[k]), torch.set_grad_enabled(guided):
        noise = particle_noise(problem, k, cloud.x.shape[1])
        sampler = design.value.build(problem, flow)
        x1 = point[None] if k == design.last else sampler.draw(x, t, design.draws, noise)
        r = rewards_of(problem, x1)
        if twisted:
            pull = value_gradient(r, x) if guided else free_gradient(problem, r, x1, t)
            seen = replace(seen, pull=design.tempers[k] * pull.reshape(cloud.x.shape))
    return weighed(design, seen, design.tempers[k] * log_mean_exp(r.detach()), k)


def free_gradient(problem: Problem, rewards: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """grad V = (beta / alpha^2) (D^r - D), the shift of D estimated from the draws."""
    i = problem.interpolant
    return expand(i.beta(t) / i.alpha(t) ** 2, x1[0]) * denoiser_shift(rewards, x1)


def weighed(design: ParticleDesign, cloud: Cloud, value: Tensor, k: int) -> Cloud:
    """Multiply the weights by the potential of the values seen so far."""
    path = torch.cat([cloud.path, value.double().reshape(1, *cloud.spent.shape)])
    gain = require_finite(design.weigh(path, cloud.spent, k == design.last), "weights", k)
    return replace(cloud, path=path, spent=cloud.spent + gain, log_weight=cloud.log_weight + gain)


def move(problem: Problem, design: ParticleDesign, cloud: Cloud, k: int) -> Cloud:
    """x ~ q = N(m + s^2 g, s^2) with p = N(m, s^2): log p/q = -s g.z - s^2 |g|^2 / 2."""
    x, shape = cloud.x.flatten(0, 1), cloud.x.shape
    t, u = filled(design.grid[k], x), filled(design.grid[k + 1], x)
    noise = particle_noise(problem, k, shape[1])
    denoised = cloud.denoised.flatten(0, 1)
    mean, s = design.transition.moments(problem, x, denoised, t, u, noise)
    z = noise("step", shape[2:])
    scale = expand(s, x)
    if cloud.pull is None:
        return replace(cloud, x=require_finite(mean + scale * z, "particles", k).reshape(shape))
    push = scale * cloud.pull.flatten(0, 1)
    ratio = -(push * (z + 0.5 * push)).flatten(1).double().sum(1)
    moved = require_finite(mean + scale * (push + z), "particles", k).reshape(shape)
    return replace(cloud, x=moved, log_weight=cloud.log_weight + ratio.reshape(shape[:2]))


def require_finite(x: Tensor, what: str, k: int) -> Tensor:
    """x, or an error: a particle that is lost is never put to zero in silence."""
    refuse_not_finite(x, lambda _: f"the {what} are not finite at step {k}")
    return x


def uniforms(problem: Problem, name: str, k: int, count: int) -> Tensor:
    """(populations, count), in float64."""
    return uniform(problem.noise(name, k, (count,)).double())


def survivors(problem: Problem, design: ParticleDesign, cloud: Cloud, k: int) -> Cloud:
    """Let the design select who goes on from step k."""
    u = uniforms(problem, "resample", k, cloud.log_weight.shape[1])
    chosen = design.select(cloud.log_weight, u)
    return replace(
        cloud.chosen(chosen.index),
        log_weight=chosen.log_weight,
        log_z=cloud.log_z + chosen.log_z,
        resamplings=cloud.resamplings + chosen.resampled,
    )


def evolve(problem: Problem, design: ParticleDesign) -> tuple[Cloud, dict[str, float]]:
    """One population per row of the problem, carried to the last time; weights not yet used."""
    design = design.on(problem.grid(design.steps, design.start))
    cloud, sizes = founded(problem, design), list[float]()

    def tell(k: int, info: dict[str, float]) -> None:
        sizes.append(info["ess"])
        if k < design.last:
            problem.log(k, **info)

    with Watch(tell, cloud.x.device) as watch:
        for k in range(design.last):
            cloud = look(problem, design, cloud, k)
            if k in design.tempers:
                watch.note(k, {"ess": cloud.ess})
                cloud = survivors(problem, design, cloud, k)
            cloud = move(problem, design, cloud.filled(design.particles), k)
        cloud = look(problem, design, cloud, design.last)
        watch.note(design.last, {"ess": cloud.ess})
    resamplings = float(cloud.resamplings.mean())
    return cloud, {"ess": sum(sizes) / len(sizes), "resamplings": resamplings}
