"""What a method is handed: one task, one reward, one condition, with everything metered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from torch import Tensor

from bench.core.conditions import Turn
from bench.core.metered import MeteredFlow, MeteredMap, MeteredOracle, MeteredPosterior
from bench.core.metering import Meter
from bench.core.noise import NoiseSource
from bench.core.paths import Interpolant
from bench.core.place import HOST, Place
from bench.core.protocols import Condition, Noise
from bench.core.timing import Timing, timing_of
from bench.core.trainable import MeteredModule
from bench.core.values import Samples
from bench.core.work import Budget
from bench.core.workers import ALONE, WorkerGroup, joined, own_rows


@dataclass
class Problem:
    """One task, one reward, one condition, bound to metered callables and named noise.

    `reward` is the raw reward times the problem's strength.  `rows` are the global indices of the
    samples that this call returns, so that batches continue one another.  `most_rows` bounds how
    many draws are scored or differentiated at once, where memory does not.  `data_variance`: see
    `Task`.
    """

    flow: MeteredFlow
    reward: Callable[[Tensor], Tensor]
    meter: Meter
    source: NoiseSource
    rows: range
    flow_map: MeteredMap | None = None
    posterior: MeteredPosterior | None = None
    oracle: MeteredOracle | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    condition: Condition = None
    place: Place = HOST
    most_rows: int | None = None
    data_variance: float | None = None
    budget: Budget | None = None
    workdir: Path | None = None
    on_log: Callable[[int, dict[str, float]], None] | None = None
    checkpoints: list[Samples] = field(default_factory=list)

    @property
    def device(self) -> str:
        """Where the state lies."""
        return self.place.device

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.flow.event_shape

    @property
    def interpolant(self) -> Interpolant:
        return self.flow.interpolant

    def noise(
        self, name: str, step: int, shape: tuple[int, ...], rows: range | None = None
    ) -> Tensor:
        """Standard normals (len(rows), *shape); `rows` count from 0 within this call."""
        wanted = self.rows if rows is None else self.rows[rows.start : rows.stop]
        return self.source.normal(name, step, shape, wanted)

    def noise_at(self, step: int) -> Noise:
        """The noise of one step as a function of (name, shape)."""

        def noise(name: str, shape: tuple[int, ...]) -> Tensor:
            return self.noise(name, step, shape)

        return noise

    @property
    def timing(self) -> Timing:
        """What the flow says of its times and rows."""
        return timing_of(self.flow)

    def grid(self, steps: int, start: float = 0.0, end: float = 1.0) -> list[float]:
        """steps + 1 times from noise to `end`: the flow's own, else equally spaced from `start`.

        See `Timing.grid`; a method takes its times from here, and begins at `started(z, grid)`.
        """
        return self.timing.grid(steps, start, end)

    def remaining(self, t: float, steps: int, end: float = 1.0) -> list[float]:
        """steps + 1 times from t on, for what begins in the middle; see `Timing.remaining`."""
        return self.timing.remaining(t, steps, end)

    def x0(self, t0: float = 0.0) -> Tensor:
        """The initial noise z, common to all methods, as states at t0: (n, *event_shape).

        sqrt(alpha^2 + beta^2) z, which is z at t0 = 0; see `Timing.from_noise`.
        """
        return self.timing.from_noise(self.noise("x0", 0, self.event_shape), t0)

    def started(self, z: Tensor, grid: Sequence[float]) -> Tensor:
        """Normals z (batch, ...) as states at the first time of `grid`, where a run begins.

        As in `x0` where the flow has times of its own.  Elsewhere z itself: a method that begins at
        a small `start` takes it for time 0.
        """
        return self.timing.started(z, grid)

    def log(self, step: int, **scalars: float) -> None:
        """Report progress; the runner stores a curve."""
        if self.on_log is not None:
            self.on_log(step, scalars)

    def checkpoint(self, samples: Samples) -> None:
        """Declare samples that are worth keeping should the budget run out."""
        self.checkpoints.append(samples)

    def for_rows(self, rows: range) -> Problem:
        """The same problem for other sample indices."""
        return replace(self, rows=rows)


class TrainableFlow(Protocol):
    """Makes a metered copy of the base flow to train; a positive rank trains a LoRA of that rank
    and leaves the base weights frozen.
    """

    def __call__(self, rank: int = 0) -> MeteredModule: ...


@dataclass
class FitProblem:
    """What `FineTuning.fit` is handed: a problem, its conditions and data, and a trainable flow.

    problem: the base flow, the map, the reward and the oracle, metered on the fit's own ledger;
        its noise is a function of (fit seed, name, step, row) like any other, `rows` being the
        largest batch that was declared.
    conditions: the conditions that the fit is for.
    data: (n, step) -> n data points (n, *event_shape) for one optimisation step, the same for the
        same arguments.
    trainable_flow: see `TrainableFlow`.
    parts: where the fit is for many conditions, its problem under each, on one ledger; `problem`
        and `data` are then those of the first.
    group: the workers that share the fit.
    """

    problem: Problem
    conditions: list[Condition]
    data: Callable[[int, int], Tensor]
    trainable_flow: TrainableFlow
    parts: tuple[FitProblem, ...] = ()
    turn: Turn = field(default_factory=lambda: Turn(None))
    group: WorkerGroup = ALONE

    @property
    def each(self) -> tuple[FitProblem, ...]:
        """The problem under each condition."""
        return self.parts or (self,)

    def take_turn(self, k: int) -> FitProblem:
        """The problem under the k-th condition, which trainable flows hear from here on."""
        self.turn.condition = self.conditions[k]
        return self.each[k]

    def rows_of(self, n: int, start: int = 0) -> Problem:
        """The problem with the noise of the rows of a batch of n that fall to this worker.

        start: index of the batch's first row.  Raises UserError where n cannot be shared equally.
        """
        own = own_rows(self.group, n)
        return self.problem.for_rows(range(start + own.start, start + own.stop))

    def own_data(self, n: int, step: int) -> Tensor:
        """This worker's part of n data points."""
        own = own_rows(self.group, n)
        return self.data(n, step)[own.start : own.stop]

    def own_part(self, of_all: Tensor) -> Tensor:
        """This worker's part of what all workers hold."""
        own = own_rows(self.group, len(of_all))
        return of_all[own.start : own.stop]

    def joined(self, own: Tensor) -> Tensor:
        """The rows of all workers, in order, from each one's own; without a gradient."""
        return joined(self.group, own)

    def log(self, step: int, **scalars: float) -> None:
        """Report progress; the runner stores a curve."""
        self.problem.log(step, **scalars)
