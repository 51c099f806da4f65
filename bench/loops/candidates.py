"""Candidates of a search: their noise, what each of them promises, and the best of them.

Candidate 0 of every output meets the noise that all methods share, so that a search among one is
the base sampler; the others have streams of their own, so that outputs never share a candidate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from bench.core.choices import named_param
from bench.core.estimators import log_mean_exp
from bench.core.integrate import euler, filled, integrate
from bench.core.methods import Method, Need
from bench.core.paths import expand
from bench.core.posterior import Remembered
from bench.core.problem import Problem
from bench.core.protocols import Noise
from bench.core.values import ProblemSpec
from bench.core.work import Work, forward
from bench.loops.posteriors import SAMPLERS, PosteriorChoice
from bench.loops.scoring import reward_work, rewards_of

R = TypeVar("R")
"""A dataclass of tensors, one row per sample."""


def candidate_noise(problem: Problem, name: str, others: str, step: int, count: int) -> Tensor:
    """Normals (rows, count, *event_shape): candidate 0 from the common stream `name`."""
    first = problem.noise(name, step, problem.event_shape)
    more = problem.noise(others, step, (count - 1, *problem.event_shape))
    return torch.cat([first[:, None], more], dim=1)


def candidates_at(x: Tensor, index: Tensor) -> Tensor:
    """x (rows, count, ...) at index (rows, any)."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def best_candidate(x: Tensor, reward: Tensor) -> Tensor:
    """The candidate of highest reward: x (rows, count, ...), reward (rows, count)."""
    return candidates_at(x, reward.argmax(1, keepdim=True))[:, 0]


def rows_taken(taken: Tensor, theirs: R, own: R) -> R:
    """The rows of `theirs` that are taken (rows,), and the own ones elsewhere.

    Both are dataclasses of tensors (rows, ...).
    """
    pairs = zip(vars(theirs).values(), vars(own).values(), strict=True)
    return type(own)(*(torch.where(expand(taken, a), a, b) for a, b in pairs))


# -- looking ahead --------------------------------------------------------------------------------


class LookAhead:
    """The value of an unfinished sample: the log-mean-exp reward of where it may end.

    Biased as a value wherever the end is not known: a point takes r at one end for log E e^r.
    """

    needs: frozenset[Need]
    """What the problem must offer."""
    sees_velocity: bool
    """Whether the velocity at (x, t) is evaluated on the way: a step from x then has it."""
    ends: int
    """Ends seen per candidate."""

    @abstractmethod
    def path_work(self, spec: ProblemSpec, times: Sequence[float]) -> Work:
        """Rows from a candidate at each of `times` to its ends, beyond the velocity at (x, t)."""

    @abstractmethod
    def reached(
        self, problem: Problem, flow: Remembered, x: Tensor, t: float, time: Tensor, noise: Noise
    ) -> Tensor:
        """The ends (ends, batch, *event_shape); `flow` remembers its velocity at (x, time)."""

    def work(self, spec: ProblemSpec, times: Sequence[float]) -> Work:
        """Rows of looks at a candidate, one at each of `times`.

        The velocity at (x, t) if it is seen, the ends, their rewards.
        """
        seen = forward("flow", spec.calls(times)) if self.sees_velocity else Work()
        rewards = reward_work(spec, self.ends) * float(len(times))
        return seen + self.path_work(spec, times) + rewards

    def __call__(
        self, problem: Problem, x: Tensor, t: float, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        """Values (batch,) of x (batch, *event_shape), and the velocity at (x, t) if it was seen."""
        time, flow = filled(t, x), Remembered(problem.flow)
        b = flow.velocity(x, time) if self.sees_velocity else None
        x1 = self.reached(problem, flow, x, t, time, noise)
        return log_mean_exp(rewards_of(problem, x1)), b


class PosteriorLookAhead(LookAhead):
    """Draws of a posterior sampler; tweedie is the point D_t(x), jump the map's X_{t,1}(x)."""

    def __init__(self, choice: PosteriorChoice, draws: int) -> None:
        self.choice, self.ends = choice, choice.distinct(draws)
        self.needs, self.sees_velocity = choice.needs(gradient=False), choice.differentiates_flow

    def path_work(self, spec: ProblemSpec, times: Sequence[float]) -> Work:
        return self.choice.along(spec, times, self.ends, gradient=False)

    def reached(
        self, problem: Problem, flow: Remembered, x: Tensor, t: float, time: Tensor, noise: Noise
    ) -> Tensor:
        return self.choice.build(problem, flow).draw(x, time, self.ends, noise)


class OdeLookAhead(LookAhead):
    """The rest of the base ODE in `steps` Euler steps, of which one is the Tweedie point.

    A flow with times of its own is followed on those (`Problem.remaining`).
    """

    needs = frozenset()
    sees_velocity, ends = True, 1

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def path_work(self, spec: ProblemSpec, times: Sequence[float]) -> Work:
        if spec.timing.rows is None:
            return forward("flow", (self.steps - 1) * len(times))
        left = [u for t in times for u in spec.remaining(t, self.steps)[1:-1]]
        return forward("flow", spec.calls(left))

    def reached(
        self, problem: Problem, flow: Remembered, x: Tensor, t: float, time: Tensor, noise: Noise
    ) -> Tensor:
        grid = problem.remaining(t, self.steps)
        first = x + (grid[1] - t) * flow.velocity(x, time)
        return integrate(euler(problem.flow.velocity), first, grid[1:])[None]


@dataclass(frozen=True)
class LookAheadEntry:
    """A look-ahead in the table; `build` makes it from the draws and the inner steps."""

    summary: str
    build: Callable[[int, int], LookAhead]


def _posterior(name: str) -> LookAheadEntry:
    def build(draws: int, inner_steps: int) -> LookAhead:
        return PosteriorLookAhead(PosteriorChoice(name, inner_steps), draws)

    return LookAheadEntry(SAMPLERS[name].summary, build)


LOOK_AHEADS: Mapping[str, LookAheadEntry] = {name: _posterior(name) for name in SAMPLERS} | {
    "ode": LookAheadEntry("the end of the base ODE", lambda _, steps: OdeLookAhead(steps))
}
"""Every posterior sampler, and the end of the base ODE."""


def look_ahead_param(default: str) -> Any:
    """A field of Params that names a look-ahead."""
    return named_param(default, LOOK_AHEADS)


class LookAheadSearch(Method[Any]):
    """A search among `candidates` that are judged before they are finished.

    Its parameters name the look-ahead: `lookahead`, `draws` and `inner_steps`.
    """

    @property
    def look(self) -> LookAhead:
        """What a candidate promises."""
        p = self.params
        return LOOK_AHEADS[p.lookahead].build(p.draws, p.inner_steps)

    @property
    def needs(self) -> frozenset[Need]:
        return self.look.needs

    def least(self, name: str) -> int:
        # A single candidate is no choice.
        return 2 if name == "candidates" else 1
