"""Populations of particles, from the engine to samples: who is returned, and what it costs.

The methods of `methods.particles` run this and differ in what they see, how they weigh it and
whether gradients shift the proposal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bench.core.contracts import Method, Need
from bench.core.integrate import uniform_grid
from bench.core.params import UserError, param
from bench.core.problem import Problem
from bench.core.values import ProblemSpec, Samples
from bench.core.work import Work
from bench.loops.particles import Cloud, Design, Weigher, evolve, uniforms
from bench.loops.posteriors import POINTS, Kind, PosteriorChoice
from bench.loops.resampling import SCHEMES, Scheme, adaptive, at_quantiles

Output = Literal["draw", "argmax", "population"]
Potential = Literal["difference", "max", "sum", "plain"]

ROWS = 8192
"""Particles evolved at once: bounds memory without changing the result."""


@dataclass(frozen=True)
class ParticleParams:
    """What every particle method has.

    The value of a particle is r(D_t), as in all these papers, unless another posterior is named:
    then it is the log-mean-exp reward of its draws.  Any value leaves the limit and the mean of
    Z_hat as they are; r(D_t) is overconfident where the reward is sharper than the posterior.
    """

    particles: int = param(4, low=1, high=100_000, log=True, help="particles P per population")
    steps: int = param(20, low=5, high=2000, log=True, help="time steps K")
    resampling: Scheme = param("systematic", help="systematic, stratified, multinomial or ssp")
    threshold: float = param(0.5, low=0.0, high=1.0, help="resample when ESS < threshold * P")
    output: Output = param(
        "draw", tunable=False, help="draw by weight, argmax of the reward, or all (population)"
    )
    start: float = param(0.01, low=1e-4, high=0.5, help="first time; x ~ N(0, I) there")
    posterior: Kind = param(
        "tweedie", help="tweedie, jump, gaussian, glass, glass-heun, sde, map or exact"
    )
    draws: int = param(1, low=1, high=4096, log=True, help="draws per value; tweedie is one point")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")


def log_potential(potential: Potential, path: Tensor) -> Tensor:
    """log G of the rewards seen along each path (looks, ...), in the order in which they came."""
    if potential == "max":
        return path.amax(0)
    if potential == "sum":
        return path.sum(0)
    return path[-1] - path[-2] if potential == "difference" and len(path) > 1 else path[-1]


def telescoped(potential: Potential) -> Weigher:
    """The named potential; the last one makes the product of all equal to e^r(x1)."""

    def weigh(path: Tensor, spent: Tensor, last: bool) -> Tensor:
        return path[-1] - spent if last else log_potential(potential, path)

    return weigh


def picked(problem: Problem, cloud: Cloud, output: Output) -> Samples:
    """Samples of finished populations: one by weight, the best one, or all with their weights."""
    if output == "population":
        groups = torch.arange(len(cloud.x), device=cloud.x.device)
        return Samples(
            cloud.denoised.flatten(0, 1),
            cloud.total_log_weight.flatten(),
            groups.repeat_interleave(cloud.x.shape[1]),
        )
    if output == "argmax":
        index = cloud.path[-1].argmax(1, keepdim=True)
    else:
        index = at_quantiles(cloud.log_weight, uniforms(problem, "draw", 0, 1))
    return Samples(cloud.chosen(index).denoised[:, 0])


def population_rows(problem: Problem, n: int, particles: int, output: Output) -> range:
    """Global indices of the populations that make n samples."""
    if output != "population":
        return problem.rows
    if n % particles or problem.rows.start % particles:
        raise UserError(
            f"output=population returns whole populations: n and the batch size must be "
            f"multiples of particles = {particles}"
        )
    return range(problem.rows.start // particles, problem.rows.stop // particles)


def blocks(rows: range, width: int) -> Iterator[range]:
    """The populations of `width` rows each, as many at a time as ROWS allows."""
    size = max(1, ROWS // width)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@torch.no_grad()
def run(problem: Problem, n: int, design: Design, output: Output) -> tuple[Samples, Tensor]:
    """Evolve populations and pick n samples; also log Z_hat of every population."""
    parts, estimates = [], []
    populations = population_rows(problem, n, design.particles, output)
    for rows in blocks(populations, design.particles * design.draws):
        part = problem.for_rows(rows)
        cloud, info = evolve(part, design)
        parts.append(replace(picked(part, cloud, output), info=info))
        size = math.log(cloud.x.shape[1])
        estimates.append(cloud.total_log_weight.logsumexp(1) - size)
    return Samples.joined(parts), torch.cat(estimates)


class ParticleMethod(Method[Any]):
    """A particle method with weights; subclasses say what is seen and how it is weighed."""

    Params: ClassVar[type[Any]] = ParticleParams
    effort: ClassVar[tuple[str, ...]] = ("particles", "steps")
    twisted: ClassVar[bool] = False

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if params.output == "population":
            # Every particle is returned, so more of them cost nothing per sample.
            self.effort = ("steps",)  # type: ignore[misc]

    @property
    def needs(self) -> frozenset[Need]:
        gradient = self.twisted and not self.gradient_free
        own = {Need.REWARD_GRADIENT} if gradient else set[Need]()
        return frozenset(own | self.value.needs(gradient))

    @property
    def gradient_free(self) -> bool:
        """Whether the twist's gradient comes from the draws alone."""
        return False

    @property
    def value(self) -> PosteriorChoice:
        """The posterior behind the value of a particle."""
        return PosteriorChoice(self.params.posterior, self.params.inner_steps)

    def least(self, name: str) -> int:
        # A population of one is not weighted against anything.
        return 2 if name == "particles" else 1

    def tempers(self) -> Mapping[int, float]:
        """{step: factor of the reward seen there}."""
        return dict.fromkeys(range(self.params.steps), 1.0)

    @property
    def potential(self) -> Potential:
        """How rewards along a path become weights."""
        return "difference"

    def design(self) -> Design:
        """The engine's settings."""
        p = self.params
        return Design(
            particles=p.particles,
            grid=uniform_grid(p.steps, p.start),
            tempers=self.tempers(),
            value=self.value,
            draws=1 if p.posterior in POINTS else p.draws,
            weigh=telescoped(self.potential),
            select=adaptive(SCHEMES[p.resampling], p.threshold),
            founders=p.particles,
            twisted=self.twisted,
            gradient_free=self.gradient_free,
        )

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        whole = self.design().work(spec)
        return whole * (1 / p.particles if p.output == "population" else 1.0)

    def sample(self, problem: Problem, n: int) -> Samples:
        samples, log_z = run(problem, n, self.design(), self.params.output)
        pooled = float(log_z.logsumexp(0)) - math.log(len(log_z))
        return replace(samples, log_z=pooled)
