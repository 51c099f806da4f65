"""Gibbs moves between samples and their noised states, from an importance-resampled pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from bench.api import (
    FittedTilt,
    Growth,
    Members,
    Method,
    Need,
    PosteriorChoice,
    Problem,
    ProblemSpec,
    Redraw,
    Samples,
    Tilt,
    Work,
    fit_tilt,
    forward,
    golden_times,
    named_param,
    param,
    particle_noise,
    reward_work,
    row_blocks,
    sampler_param,
    systematic,
    uniforms,
    whole_populations,
)
from methods.search.generator import GENERATORS, Generator, generator_param

WORTHWHILE = 0.2
"""A tilt that explains less of the rewards' variance than this is no better than none."""


class Fit(NamedTuple):
    """The tilt of a pool, and the effective size of the pool per sample that it is for."""

    tilt: FittedTilt
    ess: float


def always(_: Fit) -> bool:
    """A tilt is used whatever the pool says."""
    return True


def where_it_pays(fit: Fit) -> bool:
    """The pool holds fewer samples of the tilted law than are asked for, and the tilt is like it.

    A learned map that is asked far from its own contexts answers worse, so that a tilt is not used
    where the pool does without.
    """
    return fit.ess < 1 and fit.tilt.explained > WORTHWHILE


@dataclass(frozen=True)
class Proposal:
    """Which rounds of a pool propose from shifted contexts: every `every`-th, or none if 0."""

    summary: str
    every: int
    wants: Callable[[Fit], bool] = always

    def shifts(self, k: int, fit: Fit) -> bool:
        """Whether round k of this pool is shifted."""
        return self.every > 0 and k % self.every == 0 and self.wants(fit)


PROPOSALS: Mapping[str, Proposal] = {
    "posterior": Proposal("the posterior of the noised state", every=0),
    "shifted": Proposal("that posterior under a quadratic tilt", every=1),
    "both": Proposal("in turn, where the pool is small for the tilt", 2, where_it_pays),
}


@dataclass(frozen=True)
class GibbsParams:
    """The pool, the rounds, and what a round proposes."""

    rounds: int = param(20, low=1, high=10_000, log=True, help="rounds J of moves")
    draws: int = param(2, low=1, high=100_000, log=True, help="posterior draws m per round")
    pool: int = param(10, low=1, high=1_000_000, log=True, help="base draws N per sample at start")
    particles: int = param(64, low=1, high=100_000, log=True, help="samples P that share a pool")
    proposal: str = named_param("both", PROPOSALS)
    posterior: str = sampler_param("map")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")
    generator: str = generator_param("map")
    generator_steps: int = param(1, low=1, high=1000, log=True, help="steps of a base draw")
    low: float = param(0.2, low=0.0, high=1.0, help="least time of a round: its largest moves")
    high: float = param(0.9, low=0.0, high=1.0, help="greatest time of a round")

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < 1:
            raise ValueError(f"0 < low <= high < 1 is needed, not {self.low} and {self.high}")


class Gibbs(Method[GibbsParams]):
    """Gibbs sampling of the tilted law: noise every sample, draw it again, keep one of the draws.

    Ours.  P samples share a pool of P N base draws and start from those that systematic resampling
    keeps in proportion to e^r; then J rounds of `bench.loops.moves`, each of which leaves the
    tilted law of the posterior sampler as it is, so that only mixing is biased.  Where the pool's
    effective size is below P, every other round proposes from the posterior shifted by the
    quadratic tilt that fits the pool's rewards (`bench.core.shifted`): exact at any tilt for linear
    and isotropic quadratic rewards, a proposal like another else.  Assumes nothing of the reward,
    not even a gradient.  A learned map adds its own error, at every round again.
    Relatives: iterated importance resampling, and particle Gibbs for diffusions (arXiv
    2405.13794), whose moves are whole paths.
    Cost per sample: 2 (N + J m) paper-nfe with one-jump draws of the map; the pool's mean of e^r
    estimates Z without bias.
    """

    summary = (
        "noises its samples and redraws them, each round keeping the tilted law; gradient-free"
    )
    colour = "#aa3377"
    Params = GibbsParams
    effort = ("draws", "pool", "rounds")
    # A fifth of the evaluations for the pool.  A learned map adds its error at every round, so that
    # rounds stay at 20 and larger budgets buy choice.
    split: ClassVar[Mapping[str, Growth]] = {
        "draws": Growth(2, 1),
        "pool": Growth(10, 1),
        "rounds": Growth(20, 0),
    }

    @property
    def generator(self) -> Generator:
        """Noise to base draw."""
        return GENERATORS[self.params.generator]

    @property
    def redraw(self) -> Redraw:
        """A round."""
        p = self.params
        return Redraw(PosteriorChoice(p.posterior, p.inner_steps), p.draws)

    @property
    def needs(self) -> frozenset[Need]:
        return self.generator.needs | self.redraw.posterior.needs(gradient=False)

    @property
    def together(self) -> int:
        return int(self.params.particles)

    def work(self, spec: ProblemSpec) -> Work:
        p = self.params
        start = forward(self.generator.role, p.generator_steps) + reward_work(spec, 1)
        move = self.redraw.work() + reward_work(spec, p.draws)
        return start * float(p.pool) + move * float(p.rounds)

    @torch.no_grad()
    def sample(self, problem: Problem, n: int) -> Samples:
        p, parts = self.params, list[Samples]()
        for populations, size in whole_populations(problem.rows, p.particles):
            blocks = row_blocks(populations, size * max(p.pool, p.draws))
            parts += [self._evolved(problem.for_rows(rows), size) for rows in blocks]
        return Samples.joined(parts)

    def _evolved(self, problem: Problem, size: int) -> Samples:
        """Populations of `size` samples, one per row of the problem."""
        pool = self._pool(problem, size)
        ess = 1 / pool.reward.softmax(1).square().sum(1)
        tilts = [fit_tilt(*each) for each in zip(pool.x, pool.reward, strict=True)]
        fits = [Fit(tilt, float(e) / size) for tilt, e in zip(tilts, ess, strict=True)]
        log_z = float(pool.reward.logsumexp((0, 1))) - math.log(pool.reward.numel())
        now, moved = self._started(problem, pool, size), 0.0
        for k, t in enumerate(golden_times(self.params.rounds, self.params.low, self.params.high)):
            now, share = self._moved(problem, now, fits, k, t)
            problem.log(k, moved=share, reward=float(now.reward.mean()))
            moved += share / self.params.rounds
        groups = torch.arange(len(now.x), device=now.x.device).repeat_interleave(size)
        info = {
            "pool_ess": float(ess.mean()),
            "moved": moved,
            "explained": sum(tilt.explained for tilt in tilts) / len(tilts),
        }
        return Samples(now.x.flatten(0, 1), group=groups, log_z=log_z, info=info)

    def _pool(self, problem: Problem, size: int) -> Members:
        """Base draws (populations, size * pool, *event) and their rewards."""
        p = self.params
        count = size * p.pool
        noise = particle_noise(problem, 0, count)("pool", problem.event_shape)
        x = self.generator.build(problem, p.generator_steps)(noise)
        reward = problem.reward(x).double()
        return Members(x.reshape(-1, count, *x.shape[1:]), reward.reshape(-1, count))

    def _started(self, problem: Problem, pool: Members, size: int) -> Members:
        """`size` members of every pool, in proportion to e^r."""
        u = uniforms(problem, "start", 0, 1).expand(-1, size)
        return pool.chosen(systematic(pool.reward, u))

    def _moved(
        self, problem: Problem, now: Members, fits: list[Fit], k: int, t: float
    ) -> tuple[Members, float]:
        """Round k; a population whose tilt is not used has none."""
        proposal = PROPOSALS[self.params.proposal]
        used = [fit.tilt if proposal.shifts(k, fit) else fit.tilt.none for fit in fits]
        size = now.x.shape[1]
        tilt = Tilt.joined([each.over(size) for each in used])
        return self.redraw(problem, now, k, t, tilt)
