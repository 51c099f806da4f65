"""Sequential Monte Carlo: Feynman-Kac steering, twisted diffusion and its tempered sibling.

All three run the engine of `methods.particles` and differ in what they see, how they weigh it and
whether gradients shift the proposal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bench.api import Method, Need, Problem, ProblemSpec, Samples, UserError, Work
from bench.core.integrate import uniform_grid
from bench.core.params import param
from methods.particles import Cloud, Design, Weigher, evolve, uniforms
from methods.posteriors import POINTS, Kind, PosteriorChoice
from methods.resampling import SCHEMES, Scheme, adaptive, at_quantiles

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


class _SMC(Method[Any]):
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


@dataclass(frozen=True)
class FKParams(ParticleParams):
    """Feynman-Kac steering; the release takes 100 steps and potentials at 20, 40, 60 and 80."""

    resampling: Scheme = param("multinomial", help="systematic, stratified, multinomial or ssp")
    potential: Potential = param("difference", help="difference, max, sum or plain")
    looks: int = param(4, low=0, high=2000, help="potentials before the last, evenly")


class FK(_SMC):
    """Feynman-Kac steering: particles of the base sampler, weighted by rewards of their denoisers.

    Singhal et al. 2025 (arXiv 2501.06848), potentials of r(D_t): difference e^(r_t - r_s), max
    e^(max_s r_s), sum e^(sum_s r_s), plain e^(r_t); the last brings the product to e^r(x1).
    Assumes nothing of the reward, not even a gradient.  Exact for the chain of K steps as P grows
    (difference quickest), with an unbiased estimate of Z; at small P biased towards the base model,
    and argmax towards high reward.  Cost per sample, L looks: P (K flow + (L + 1) reward forwards).
    """

    Params = FKParams

    @property
    def potential(self) -> Potential:
        chosen: Potential = self.params.potential
        return chosen

    def tempers(self) -> Mapping[int, float]:
        # The first step sees noise and is left out; the last is always seen.
        last, looks = self.params.steps - 1, min(self.params.looks, self.params.steps - 2)
        seen = [last * j // (looks + 1) for j in range(1, looks + 1)]
        return dict.fromkeys([*seen, last], 1.0)


@dataclass(frozen=True)
class TwistedParams(ParticleParams):
    """The gradient that shifts the proposal; the papers' is G at the Tweedie point."""

    estimator: Literal["G", "GF"] = param(
        "G",
        tunable=False,
        help="G (back-propagate) or GF (from two or more posterior draws, no gradient)",
    )


class _Twisted(_SMC):
    """Particles whose proposal follows the value's gradient."""

    Params: ClassVar[type[Any]] = TwistedParams
    twisted = True

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if self.gradient_free and (params.posterior in POINTS or params.draws < 2):
            raise UserError(
                "estimator=GF learns from how posterior draws differ: take draws of 2 or more and "
                "a posterior other than tweedie and jump, such as posterior=map,draws=16"
            )

    @property
    def gradient_free(self) -> bool:
        # Relatives with parameters of their own have no choice but G.
        return getattr(self.params, "estimator", "G") == "GF"


class TDS(_Twisted):
    """Twisted diffusion sampler: steer every particle by the reward's gradient, then correct.

    Wu et al. 2023 (arXiv 2306.17775), Algorithm 1: twist psi_t = e^r(D_t), proposal mean shifted by
    variance * grad log psi, weights p psi' / (q psi).  Assumes a differentiable reward; exact for
    the chain of K steps as P grows, with an unbiased estimate of Z; at small P biased towards DPS.
    Cost per sample: P (K flow + K reward forwards + (K - 1) backwards of each); with another
    posterior the K - 1 values before the last cost its draws and their rewards instead, without
    backwards where `estimator` is GF: the way to go where r is sharper than the posterior.
    """


@dataclass(frozen=True)
class DASParams(TwistedParams):
    """Tempered twisted diffusion, with the release's defaults."""

    resampling: Scheme = param("ssp", help="systematic, stratified, multinomial or ssp")
    gamma: float = param(0.008, low=0.0, high=1.0, help="growth of the temper per 1/100 of the run")


class DAS(_Twisted):
    """Diffusion alignment as sampling: the twisted sampler with a reward that is faded in.

    Kim et al. 2025 (arXiv 2501.05803): psi_t = e^(lambda_t r(D_t)) with lambda = min((1 + gamma)^i
    - 1, 1), gamma = 0.008, at step i of the release's 100; here i = 100 k / K, so that the schedule
    does not depend on K.  The last weight uses r itself, so exactness is that of TDS and holds for
    every gamma.  The release returns the particle of largest weight: `output` keeps a draw and the
    arg-max apart.  Cost per sample: P (K flow + K reward forwards + (K - 1) backwards of each).
    """

    Params = DASParams

    def tempers(self) -> Mapping[int, float]:
        last, growth = self.params.steps - 1, 1 + self.params.gamma
        faded = {k: min(growth ** (100 * k / (last + 1)) - 1, 1.0) for k in range(last)}
        return faded | {last: 1.0}
