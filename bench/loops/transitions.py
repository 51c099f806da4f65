"""The chain that particles follow: how x_u is drawn given x_t.

    x_u | x_t, x1 is Gaussian, and x1 | x_t is the posterior

so that a step draws x1 and then x_u, or takes x1 for its mean and widens the Gaussian instead.  A
proposal shifts the mean of the same Gaussian, with the same x1, so that their ratio is that of two
Gaussians of one variance and estimates of Z stay unbiased, whatever the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bench.core.choices import named_param
from bench.core.integrate import (
    NARROW,
    STEP_VARIANCES,
    StepVariance,
    ancestral_moments,
    of_gaussian_data,
)
from bench.core.methods import Need
from bench.core.posterior import Remembered
from bench.core.problem import Problem
from bench.core.protocols import Noise
from bench.core.work import Work
from bench.loops.posteriors import PosteriorChoice


def _of_the_data(problem: Problem) -> StepVariance:
    assert problem.data_variance is not None
    return of_gaussian_data(problem.data_variance)


@dataclass(frozen=True)
class Transition:
    """p(x_u | x_t) of one step.

    variance: what the Gaussian keeps of Var(x1 | x_t), or how that follows from the problem.
    sampler: that of x1; None takes the denoiser, which a step has anyway.  own: what the variance
    needs.
    """

    summary: str
    variance: StepVariance | Callable[[Problem], StepVariance] = NARROW
    sampler: PosteriorChoice | None = None
    own: frozenset[Need] = frozenset()

    @property
    def needs(self) -> frozenset[Need]:
        """What the problem must offer."""
        return self.own | (self.sampler.needs(gradient=False) if self.sampler else frozenset())

    def work(self) -> Work:
        """Rows of a step beyond the velocity at (x, t)."""
        return self.sampler.work(1, gradient=False) if self.sampler else Work()

    def moments(
        self, problem: Problem, x: Tensor, denoised: Tensor, t: Tensor, u: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Mean (batch, *event) and deviation (batch,) of x_u, given x1 if it is drawn."""
        x1 = self._drawn(problem, x, t, noise) if self.sampler else denoised
        kept = self.variance
        variance = kept if isinstance(kept, StepVariance) else kept(problem)
        return ancestral_moments(problem.interpolant, x, x1, t, u, variance)

    def _drawn(self, problem: Problem, x: Tensor, t: Tensor, noise: Noise) -> Tensor:
        def own(name: str, shape: tuple[int, ...]) -> Tensor:
            return noise(f"transition-{name}", shape)  # not the noise of a look's draws

        assert self.sampler is not None
        return self.sampler.build(problem, Remembered(problem.flow)).draw(x, t, 1, own)[0]


TRANSITIONS: Mapping[str, Transition] = {
    name: Transition(entry.summary, entry) for name, entry in STEP_VARIANCES.items()
} | {
    "data": Transition(
        "with that of x1 given x_t, for Gaussian data of the task's variance",
        _of_the_data,
        own=frozenset({Need.DATA_VARIANCE}),
    ),
    "map": Transition("x1 drawn by the map, then x_u", sampler=PosteriorChoice("map")),
    "exact": Transition("x1 drawn in closed form, then x_u", sampler=PosteriorChoice("exact")),
}
"""Steps of the memoryless chain by name."""


def transition_param(default: str = "signal") -> Any:
    """The field of Params that names the chain's variance."""
    return named_param(default, TRANSITIONS, "of a step of the chain")
