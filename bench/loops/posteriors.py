"""The posterior samplers that methods name: one entry of a table says everything about each.

Names, help texts, what a problem must offer, predicted work and the sampler itself follow from
`SAMPLERS`; another sampler is another entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.core.choices import named_param
from bench.core.glass import asked_times
from bench.core.integrate import uniform_grid
from bench.core.map_posterior import Jump, MapPosterior
from bench.core.metered import MeteredMap
from bench.core.methods import Need
from bench.core.posterior import Gaussian, Glass, NoiseGaussian, Remembered, SDERollout, Tweedie
from bench.core.problem import Problem
from bench.core.protocols import Condition, Noise, PosteriorSampler
from bench.core.timing import Timing
from bench.core.units import Role
from bench.core.values import ProblemSpec
from bench.core.work import Work, backward, forward


class Rigid:
    """Another sampler's draws, moved along with x: dx1/dx is taken for the identity.

    Gradients then skip the networks behind the draw, at no backward rows (FMRG-E, MPGD).
    """

    pathwise = True

    def __init__(self, sampler: PosteriorSampler) -> None:
        self.sampler, self.rows_per_draw = sampler, sampler.rows_per_draw

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, *event_shape)."""
        with torch.no_grad():
            x1 = self.sampler.draw(x, t, n, noise, condition)
        return x1 + (x - x.detach())


class SamplerInputs(NamedTuple):
    """What a sampler is built from: settings, metered callables, and the step's own velocity."""

    choice: PosteriorChoice
    problem: Problem
    flow: Remembered

    @property
    def flow_map(self) -> MeteredMap:
        """The problem's map; `needs` has seen to it that there is one."""
        assert self.problem.flow_map is not None
        return self.problem.flow_map

    @property
    def posterior(self) -> PosteriorSampler:
        """The problem's exact posterior, likewise."""
        assert self.problem.posterior is not None
        return self.problem.posterior


@dataclass(frozen=True)
class SamplerEntry:
    """A posterior sampler in the table.

    summary: what it draws, for help texts.
    build: the sampler over a problem's callables.
    rows: inner steps -> rows of a draw beyond the velocity at (x, t), which a step has anyway.
    asked: (timing, times t, inner steps) -> the times of these rows, where they are the flow's.
    role: whose rows these are.  A sampler of the flow passes gradients through that velocity.
    point: whether its draws are all the same point, which is computed once.
    needs: what the problem must offer for draws, and for gradients through them.
    """

    summary: str
    build: Callable[[SamplerInputs], PosteriorSampler]
    rows: Callable[[int], int]
    asked: Callable[[Timing, Sequence[float], int], list[float]] = lambda *_: []
    role: Role = "flow"
    point: bool = False
    needs: tuple[frozenset[Need], frozenset[Need]] = (frozenset(), frozenset())


def _glass_times(timing: Timing, times: Sequence[float], steps: int) -> list[float]:
    return asked_times(timing.interpolant, times, uniform_grid(steps)[1:-1])


def _heun_times(timing: Timing, times: Sequence[float], steps: int) -> list[float]:
    inner = uniform_grid(steps)[1:]
    return asked_times(timing.interpolant, times, inner + inner[:-1])


def _rollout_times(timing: Timing, times: Sequence[float], steps: int) -> list[float]:
    return [u for t in times for u in timing.remaining(t, steps)[1:-1]]


GAUSSIAN_WIDTHS: Mapping[str, type[Gaussian]] = {"signal": Gaussian, "noise": NoiseGaussian}
"""Gaussian samplers by their deviation."""

MAP = frozenset({Need.FLOW_MAP})

SAMPLERS: Mapping[str, SamplerEntry] = {
    "tweedie": SamplerEntry(
        "the point E[x1 | x_t]", lambda given: Tweedie(given.flow), rows=lambda _: 0, point=True
    ),
    "gaussian": SamplerEntry(
        "a Gaussian around that point",
        lambda given: GAUSSIAN_WIDTHS[given.choice.width](given.flow, given.choice.spread),
        rows=lambda _: 0,
    ),
    "glass": SamplerEntry(
        "the GLASS ODE by Euler steps",
        lambda given: Glass(given.flow, given.choice.inner_steps, "euler"),
        rows=lambda steps: steps - 1,
        asked=_glass_times,
    ),
    "glass-heun": SamplerEntry(
        "the GLASS ODE by Heun steps, of two evaluations each",
        lambda given: Glass(given.flow, given.choice.inner_steps, "heun"),
        rows=lambda steps: 2 * steps - 1,
        asked=_heun_times,
    ),
    "sde": SamplerEntry(
        "a rollout of the memoryless SDE",
        lambda given: SDERollout(given.flow, given.choice.inner_steps),
        rows=lambda steps: steps - 1,
        asked=_rollout_times,
    ),
    "map": SamplerEntry(
        "a draw of the meta flow map",
        lambda given: MapPosterior(given.flow_map, given.choice.inner_steps),
        rows=lambda steps: steps,
        role="map",
        needs=(MAP, MAP),
    ),
    "exact": SamplerEntry(
        "the posterior in closed form",
        lambda given: given.posterior,
        rows=lambda _: 1,
        role="oracle",
        # A categorical draw has no derivative in x.
        needs=(frozenset({Need.POSTERIOR}), frozenset({Need.PATHWISE_POSTERIOR})),
    ),
    "jump": SamplerEntry(
        "the point to which the flow map carries x_t",
        lambda given: Jump(given.flow_map, given.choice.inner_steps),
        rows=lambda steps: steps,
        role="map",
        point=True,
        needs=(MAP, MAP),
    ),
}
"""Posterior samplers by name."""


def sampler_param(default: str, *, only: Collection[str] = (), searched: bool = False) -> Any:
    """A field of Params that names a posterior sampler."""
    return named_param(default, SAMPLERS, only=only, searched=searched)


@dataclass(frozen=True)
class PosteriorChoice:
    """A posterior sampler by name, with its settings.

    inner_steps: Euler or Heun steps of GLASS, steps of an SDE rollout, or jumps of the map.
    spread, width: deviation of the Gaussian.  jacobian: whether gradients pass through the
    networks of a draw.
    """

    name: str
    inner_steps: int = 1
    spread: float = 1.0
    width: str = "signal"
    jacobian: bool = True

    @property
    def entry(self) -> SamplerEntry:
        """What the table says of it."""
        return SAMPLERS[self.name]

    @property
    def differentiates_flow(self) -> bool:
        """Whether a pathwise gradient passes through the velocity at (x, t)."""
        return self.jacobian and self.entry.role == "flow"

    def distinct(self, draws: int) -> int:
        """How many of so many draws differ: one if they are a point."""
        return 1 if self.entry.point else draws

    def needs(self, gradient: bool) -> frozenset[Need]:
        """What the problem must offer."""
        return self.entry.needs[gradient]

    def work(self, draws: int, gradient: bool) -> Work:
        """Rows of one steering step's draws; the shared velocity's forward is the step's own."""
        return self._rows(self.entry.rows(self.inner_steps) * self.distinct(draws), 1.0, gradient)

    def along(self, spec: ProblemSpec, times: Sequence[float], draws: int, gradient: bool) -> Work:
        """`work` of a step at each of `times`, in all; exact also where rows follow the time."""
        each, rows = self.inner_steps, self.entry.rows(self.inner_steps) * float(len(times))
        if self.entry.role == "flow" and spec.timing.rows is not None:
            rows = spec.calls(self.entry.asked(spec.timing, times, each))
        return self._rows(rows * self.distinct(draws), spec.calls(times), gradient)

    def _rows(self, drawn: float, shared: float, gradient: bool) -> Work:
        """Rows of the draws, and backwards of the velocity that they share."""
        role = self.entry.role
        work = forward(role, drawn)
        if not (gradient and self.jacobian):
            return work
        work = work + backward(role, drawn)
        return work + backward("flow", shared) if self.differentiates_flow else work

    def build(self, problem: Problem, flow: Remembered) -> PosteriorSampler:
        """The sampler, over metered callables."""
        sampler = self.entry.build(SamplerInputs(self, problem, flow))
        return sampler if self.jacobian else Rigid(sampler)
