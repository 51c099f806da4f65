"""When a flow is asked, and how many network rows an answer takes.

A flow may have times of its own (a pipeline's schedule) and rows that follow the time (guidance in
an interval): see `bench.core.protocols.Flow`.  One that says nothing is asked at equally spaced
times, and takes two rows per call under classifier-free guidance, one without.  Here is the only
place that decides between the two, for runs (`Problem`) and for predictions (`ProblemSpec`) alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.core.integrate import uniform_grid
from bench.core.params import UserError
from bench.core.paths import Interpolant, Linear

GUIDED_ROWS = 2
"""Network rows of a call under classifier-free guidance."""

DECIMALS = 6
"""Of the times at which rows are looked up: float32 and float64 name the same time."""

CLOSE = 1e-6
"""Times nearer to each other are the same."""

MOST_STEPS = 1000
"""The longest schedule that `Timing.remaining` looks at."""

Times = Callable[[int], Sequence[float]]
"""steps -> steps + 1 increasing times, the last 1."""

RowsAt = Callable[[float], int]
"""t -> network rows per velocity row."""


class UnstatedSteps(UserError):
    """A flow has no schedule of so many steps; the message says which it has."""


@dataclass(frozen=True)
class Timing:
    """What a flow says of its times and its rows; None where it says nothing.

    interpolant: the flow's, by which samplers know at which times they ask it.
    """

    times: Times | None = None
    rows: RowsAt | None = None
    interpolant: Interpolant = Linear()
    _known: dict[int, list[float]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def scheduled(self) -> bool:
        """Whether the flow has times of its own."""
        return self.times is not None

    def grid(self, steps: int, start: float = 0.0, end: float = 1.0) -> list[float]:
        """steps + 1 times from noise to `end`.

        The flow's own, if it has any: they win over a method's `start`.  Else equally spaced from
        `start`.  A part of a run (`end` < 1) is equally spaced from the flow's first time.
        Raises UnstatedSteps where the flow has no schedule of so many steps.
        """
        if not self.scheduled:
            return uniform_grid(steps, start, end)
        own = self._own(steps)
        if end == 1:
            return list(own)
        if own[0] >= end:
            raise UnstatedSteps(
                f"the flow's own times begin at {own[0]:.3f}, after the end at {end:g}: end later"
            )
        return uniform_grid(steps, own[0], end)

    def remaining(self, t: float, steps: int, end: float = 1.0) -> list[float]:
        """steps + 1 times from t to `end`, for rollouts, look-aheads and paths of a search.

        Equally spaced, unless the flow has times of its own and they are followed to 1: then t and
        the last `steps` times of its longest schedule that has as many after t.  Where t is one of
        its times, that is the rest of it.
        """
        if self.scheduled and end == 1:
            later = self._own(self._longest(t, steps))[-steps:]
            if later[0] > t + CLOSE:
                return [t, *later]
        return uniform_grid(steps, t, end)

    def _longest(self, t: float, left: int) -> int:
        """The most steps of a schedule whose `left` last ones begin at t or before."""

        def begins(steps: int) -> bool:
            try:
                return self._own(steps)[-left - 1] <= t + CLOSE
            except UnstatedSteps:
                return False

        low, high = left, 2 * left
        while high <= MOST_STEPS and begins(high):
            low, high = high, 2 * high
        high = min(high, MOST_STEPS + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if begins(middle) else (low, middle)
        return low

    def _own(self, steps: int) -> list[float]:
        """The flow's own times, asked once and checked."""
        assert self.times is not None
        if steps not in self._known:
            uniform_grid(steps)  # refuses less than a step
            try:
                found = [float(t) for t in self.times(steps)]
            except UserError as error:
                raise UnstatedSteps(str(error)) from error
            self._known[steps] = _checked(found, steps)
        return self._known[steps]

    def from_noise(self, z: Tensor, t0: float) -> Tensor:
        """Normals z (batch, ...) as states at t0: sqrt(alpha^2 + beta^2) z, which is z at 0.

        That is x_t0 = alpha x0 + beta x1 for data x1 of unit variance, and what a pipeline begins
        with: noise of unit variance in the scale in which alpha^2 + beta^2 = 1.  Rescaling the
        interpolant rescales it alike, so that it is the same state in every scale.
        """
        t, i = torch.tensor(t0, dtype=torch.float64), self.interpolant
        return z * math.hypot(float(i.alpha(t)), float(i.beta(t))) if t0 else z

    def started(self, z: Tensor, grid: Sequence[float]) -> Tensor:
        """Normals z as states at the first time of a grid: see `Problem.started`."""
        return self.from_noise(z, grid[0]) if self.scheduled else z

    def rows_at(self, t: float) -> int:
        """Network rows per velocity row at time t, of a flow whose rows follow the time."""
        assert self.rows is not None
        return int(self.rows(round(t, DECIMALS)))

    def cost(self, constant: int) -> Cost:
        """Network rows per row of a call; `constant` where the flow does not say."""
        return constant if self.rows is None else self.rows_at

    @cached_property
    def most_rows(self) -> int:
        """The most rows of a call, over a thousand times; 1 where the flow does not say."""
        return 1 if self.rows is None else max(1, *(self.rows_at(k / 1000) for k in range(1001)))


def _checked(times: list[float], steps: int) -> list[float]:
    """Times as a schedule must have them."""
    rising = all(t < u for t, u in pairwise(times))
    if len(times) == steps + 1 and rising and times[0] >= 0 and times[-1] == 1:
        return times
    raise UnstatedSteps(
        f"the flow's times for {steps} steps must be {steps + 1} increasing times from 0 or later "
        f"to 1, not {len(times)} from {times[:2]} to {times[-2:]}: mend its times(steps), or raise "
        "UserError there for steps that its schedule lacks"
    )


def timing_of(flow: Any) -> Timing:
    """What a flow, or the metered or remembered one around it, says of its times and rows."""
    known = getattr(flow, "timing", None)
    if isinstance(known, Timing):
        return known
    own = getattr(flow, "interpolant", None) or Linear()
    return Timing(_hidden(getattr(flow, "times", None)), _hidden(getattr(flow, "rows", None)), own)


def _hidden(told: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """A flow's method, which does not lead a method of ours to the unmetered flow."""
    return None if told is None else lambda value: told(value)


def remaining_times(flow: Any, t: Tensor, steps: int) -> list[Tensor]:
    """steps + 1 tensors of times from t (batch,) to 1: `Timing.remaining` of every row."""
    timing = timing_of(flow)
    if not timing.scheduled:
        return [t + (1 - t) * (k / steps) for k in range(steps + 1)]
    rows = {start: timing.remaining(start, steps) for start in set(t.tolist())}
    times = torch.tensor([rows[start] for start in t.tolist()], dtype=t.dtype, device=t.device)
    return list(times.unbind(1))


# -- the rows of a call ---------------------------------------------------------------------------

Cost = int | RowsAt
"""Network rows per row of a call: always the same, or a function of its time."""


class Part(NamedTuple):
    """Rows of a call that cost the same: `rows` of them, `where` they are, or all if None."""

    cost: int
    rows: int
    where: Tensor | None = None

    def of(self, value: Any, batch: int) -> Any:
        """These rows of an argument that has one for each."""
        if self.where is None or not isinstance(value, Tensor):
            return value
        return value[self.where] if value.dim() and len(value) == batch else value


def parts_of(cost: Cost, x: Tensor, *args: Any) -> list[Part]:
    """The rows of a call fn(x, t, ...), by what each costs.

    Where that follows the time, the times are read: the host waits for the device once per call.
    """
    if not callable(cost):
        return [Part(cost, len(x))]
    each = [cost(t) for t in args[0].tolist()]
    if len(set(each)) == 1:
        return [Part(each[0], len(x))]
    where = {c: [k for k, own in enumerate(each) if own == c] for c in sorted(set(each))}
    return [Part(c, len(at), torch.tensor(at, device=x.device)) for c, at in where.items()]
