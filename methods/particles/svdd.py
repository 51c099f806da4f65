"""SVDD: a population that is refounded at every step by one of its members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from bench.api import (
    OUTPUTS,
    TRANSITIONS,
    Growth,
    Method,
    Need,
    ParticleDesign,
    PosteriorChoice,
    Problem,
    ProblemSpec,
    Samples,
    Work,
    param,
    sample_populations,
    sampler_param,
    single_survivor,
    start_param,
    transition_param,
)


@dataclass(frozen=True)
class SVDDParams:
    """The release takes M = 20, 50 steps and alpha = 0; alpha = 1 aims at e^r itself."""

    candidates: int = param(20, low=1, high=100_000, log=True, help="candidates M per step")
    steps: int = param(20, low=2, least=5, high=2000, log=True, help="time steps K")
    alpha: float = param(1.0, low=0.0, high=100.0, help="temperature of the choice; 0: arg-max")
    start: float = start_param()
    posterior: str = sampler_param("tweedie")
    draws: int = param(1, low=1, high=4096, log=True, help="draws per value; a point is one")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")
    variance: str = transition_param()


def latest(path: Tensor, _spent: Tensor, _last: bool) -> Tensor:
    """The potential e^r of the last look alone: the path has no say."""
    return path[-1]


class SVDD(Method[Any]):
    """Soft value-based decoding: of M base steps choose one by its reward, at every step.

    Li et al. 2024 (arXiv 2408.08252), the variant without training: value = r(D_t), candidate m
    with probability softmax(value / alpha)_m; alpha = 0 takes the best.  Needs no gradient.  The
    last step is chosen as every other is, by the reward of the sample; the release leaves it out.
    Tends to the tilted law as M and K grow only where r(D_t) is the value up to a constant (linear
    rewards of a Gaussian posterior with fixed covariance); else biased as its value is, and without
    weights to correct it; small M is biased towards the base model, alpha < 1 towards high reward.
    Cost per sample: 1 + M (K - 1) flow and M (K - 1) reward forwards.
    """

    version = "2"
    summary = "at every step, one of M base steps, chosen by its look-ahead reward"
    standing = "baseline"
    Params: ClassVar[type[Any]] = SVDDParams
    effort = ("candidates", "steps")
    split: ClassVar[Mapping[str, Growth]] = {
        "candidates": Growth(5, 0.5),
        "steps": Growth(10, 0.5),
    }

    @property
    def value(self) -> PosteriorChoice:
        """The posterior behind the value of a candidate."""
        return PosteriorChoice(self.params.posterior, self.params.inner_steps)

    @property
    def needs(self) -> frozenset[Need]:
        return self.value.needs(gradient=False) | TRANSITIONS[self.params.variance].needs

    def least(self, name: str) -> int:
        # A single candidate is no choice.
        return 2 if name == "candidates" else 1

    def design(self) -> ParticleDesign:
        """The engine's settings: one founder, then every step sees the reward."""
        p = self.params
        return ParticleDesign(
            particles=p.candidates,
            steps=p.steps,
            start=p.start,
            tempers=dict.fromkeys(range(1, p.steps), 1.0 / p.alpha if p.alpha else 1.0),
            value=self.value,
            draws=self.value.distinct(p.draws),
            weigh=latest,
            select=single_survivor(p.alpha == 0),
            founders=1,
            transition=TRANSITIONS[p.variance],
        )

    def work(self, spec: ProblemSpec) -> Work:
        return self.design().work(spec)

    def sample(self, problem: Problem, n: int) -> Samples:
        output = OUTPUTS["draw" if self.params.alpha else "argmax"]
        return sample_populations(problem, self.design(), output)[0]
