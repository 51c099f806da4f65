"""Particle methods with weights: what all of them have, and the potentials that they may use.

Methods run the engine and differ in what they see, how they weigh it and whether gradients shift
the proposal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from bench.core.choices import named_param
from bench.core.methods import Method, Need
from bench.core.params import param
from bench.core.problem import Problem
from bench.core.values import ProblemSpec, Samples
from bench.core.work import Work
from bench.loops.particles import ParticleDesign, Weigher
from bench.loops.populations import OUTPUTS, PopulationOutput, output_param, sample_populations
from bench.loops.posteriors import PosteriorChoice, sampler_param
from bench.loops.resampling import RESAMPLERS, adaptive_resampling
from bench.loops.steering import start_param
from bench.loops.transitions import TRANSITIONS, Transition, transition_param

# -- potentials: log G of the rewards seen along each path (looks, ...), in order of their coming --


def _difference(path: Tensor) -> Tensor:
    """e^(r_t - r_s) of this look and the one before."""
    return path[-1] - path[-2] if len(path) > 1 else path[-1]


def _max(path: Tensor) -> Tensor:
    """e^(max_s r_s)."""
    return path.amax(0)


def _sum(path: Tensor) -> Tensor:
    """e^(sum_s r_s)."""
    return path.sum(0)


def _plain(path: Tensor) -> Tensor:
    """e^(r_t)."""
    return path[-1]


POTENTIALS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "difference": _difference,
    "max": _max,
    "sum": _sum,
    "plain": _plain,
}


def telescoped_potential(potential: Callable[[Tensor], Tensor]) -> Weigher:
    """A potential whose last value makes the product of all equal to e^r(x1)."""

    def weigh(path: Tensor, spent: Tensor, last: bool) -> Tensor:
        return path[-1] - spent if last else potential(path)

    return weigh


# -- the method -----------------------------------------------------------------------------------


def resampling_param(default: str) -> Any:
    """The field of Params that names a resampling scheme."""
    return named_param(default, RESAMPLERS)


@dataclass(frozen=True)
class ParticleParams:
    """What every particle method has.

    The value of a particle is r(D_t), as in all these papers, unless another posterior is named:
    then it is the log-mean-exp reward of its draws.  Any value leaves the limit and the mean of
    Z_hat as they are; r(D_t) is overconfident where the reward is sharper than the posterior.
    """

    particles: int = param(256, low=1, high=100_000, log=True, help="particles P per population")
    steps: int = param(20, low=5, high=2000, log=True, help="time steps K")
    resampling: str = resampling_param("systematic")
    threshold: float = param(0.5, low=0.0, high=1.0, help="resample when ESS < threshold * P")
    output: str = output_param()
    start: float = start_param()
    posterior: str = sampler_param("tweedie")
    draws: int = param(1, low=1, high=4096, log=True, help="draws per value; tweedie is one point")
    inner_steps: int = param(1, low=1, high=1000, help="steps inside one posterior draw")
    variance: str = transition_param()


class ParticleMethod(Method[Any]):
    """A particle method with weights; subclasses say what is seen and how it is weighed."""

    version: ClassVar[str] = "2"
    Params: ClassVar[type[Any]] = ParticleParams
    effort: ClassVar[tuple[str, ...]] = ("particles", "steps")
    twisted: ClassVar[bool] = False

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if self.output.whole:
            # Every particle is returned, so more of them cost nothing per sample.
            self.effort = ("steps",)  # type: ignore[misc]

    @property
    def output(self) -> PopulationOutput:
        """What is returned of a population."""
        return OUTPUTS[self.params.output]

    @property
    def together(self) -> int:
        return int(self.params.particles) if self.output.whole else 1

    @property
    def gradient_free(self) -> bool:
        """Whether the twist's gradient comes from the draws alone."""
        return False

    @property
    def needs(self) -> frozenset[Need]:
        gradient = self.twisted and not self.gradient_free
        own = frozenset({Need.REWARD_GRADIENT} if gradient else ())
        return own | self.value.needs(gradient) | self.transition.needs

    @property
    def value(self) -> PosteriorChoice:
        """The posterior behind the value of a particle."""
        return PosteriorChoice(self.params.posterior, self.params.inner_steps)

    @property
    def transition(self) -> Transition:
        """The step of the chain."""
        return TRANSITIONS[self.params.variance]

    @property
    def draws(self) -> int:
        """Draws per value."""
        return self.value.distinct(self.params.draws)

    def least(self, name: str) -> int:
        # A population of one is not weighted against anything.
        return 2 if name == "particles" else 1

    def tempers(self) -> Mapping[int, float]:
        """{step: factor of the reward seen there}."""
        return dict.fromkeys(range(self.params.steps), 1.0)

    @property
    def potential(self) -> Callable[[Tensor], Tensor]:
        """How rewards along a path become weights."""
        return POTENTIALS["difference"]

    def design(self) -> ParticleDesign:
        """The engine's settings."""
        p = self.params
        return ParticleDesign(
            particles=p.particles,
            steps=p.steps,
            start=p.start,
            tempers=self.tempers(),
            value=self.value,
            draws=self.draws,
            weigh=telescoped_potential(self.potential),
            select=adaptive_resampling(RESAMPLERS[p.resampling], p.threshold),
            founders=p.particles,
            twisted=self.twisted,
            gradient_free=self.gradient_free,
            transition=self.transition,
        )

    def work(self, spec: ProblemSpec) -> Work:
        whole = self.design().work(spec)
        return whole * (1 / self.params.particles if self.output.whole else 1.0)

    def sample(self, problem: Problem, n: int) -> Samples:
        samples, log_z = sample_populations(problem, self.design(), self.output)
        pooled = float(log_z.logsumexp(0)) - math.log(len(log_z))
        return replace(samples, log_z=pooled)
