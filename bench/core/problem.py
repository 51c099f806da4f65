"""What a method is handed: one task, one reward, one condition, with everything metered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.core.metering import Meter, refuse_shape
from bench.core.noise import NoiseSource
from bench.core.paths import Interpolant
from bench.core.protocols import (
    Condition,
    Flow,
    MetaFlowMap,
    Noise,
    Oracle,
    PosteriorSampler,
)
from bench.core.trainable import MeteredModule
from bench.core.values import Samples
from bench.core.work import Budget

logger = logging.getLogger(__name__)


class MeteredFlow:
    """A flow whose every row is counted, bound to the condition of its problem."""

    def __init__(
        self, flow: Flow, meter: Meter, condition: Condition, key: tuple[Any, ...] = ()
    ) -> None:
        self.event_shape, self.interpolant = flow.event_shape, flow.interpolant

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return flow.velocity(x, t, condition)

        self._velocity = meter.wrap("flow", velocity, key=key, event_shape=flow.event_shape)
        self._jvp = meter.wrap_jvp("flow", velocity, key, flow.event_shape)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x) under the problem's condition."""
        return self._velocity(x, t)

    def jvp(self, x: Tensor, t: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """b_t(x) and J_b(x) tangent, without gradients; counted as JVP rows."""
        return self._jvp(x, t, tangent)


class MeteredMap:
    """A meta flow map whose every row is counted."""

    def __init__(
        self, flow_map: MetaFlowMap, meter: Meter, condition: Condition, key: tuple[Any, ...] = ()
    ) -> None:
        def velocity(x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor) -> Tensor:
            return flow_map.velocity(x_bar, s, u, x, t, condition)

        def jump(x: Tensor, s: Tensor, u: Tensor) -> Tensor:
            return flow_map.jump(x, s, u, condition)

        self._velocity = meter.wrap("map", velocity, key=key and (*key, "velocity"))
        self._jump = meter.wrap("map", jump, key=key and (*key, "jump"))

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x)."""
        return self._velocity(x_bar, s, u, x, t)

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """The deterministic map of the base flow."""
        return self._jump(x, s, u)


class MeteredPosterior:
    """An exact posterior sampler; a draw counts one oracle row per batch element."""

    def __init__(
        self,
        posterior: PosteriorSampler,
        meter: Meter,
        condition: Condition,
        key: tuple[Any, ...] = (),
    ) -> None:
        self._key = key
        self.pathwise, self.rows_per_draw = posterior.pathwise, posterior.rows_per_draw
        self._posterior, self._meter, self._condition = posterior, meter, condition

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, *event_shape)."""

        def drawn(x: Tensor, t: Tensor) -> Tensor:
            return self._posterior.draw(x, t, n, _for_rows(noise, len(x)), self._condition)

        key = self._key and (*self._key, n)
        out = self._meter.wrap("oracle", drawn, cost=n, key=key)(x, t)
        refuse_shape("oracle", out, (n, *x.shape))
        return out


def _for_rows(noise: Noise, rows: int) -> Noise:
    """The noise of a batch, cut or repeated to `rows`: a FLOP count runs on a few rows."""

    def adapted(name: str, shape: tuple[int, ...]) -> Tensor:
        z = noise(name, shape)
        return z if len(z) == rows else z[torch.arange(rows, device=z.device) % len(z)]

    return adapted


class MeteredOracle:
    """A closed-form oracle; every row of a call is one oracle row."""

    def __init__(self, oracle: Oracle, meter: Meter, key: tuple[Any, ...] = ()) -> None:
        self.log_z = oracle.log_z
        self.shift = meter.wrap("oracle", oracle.shift, key=key and (*key, "shift"))
        self.value = meter.wrap("oracle", oracle.value, key=key and (*key, "value"))
        self.draw = meter.wrap("oracle", oracle.draw, key=key and (*key, "draw"))


@dataclass
class Problem:
    """One task, one reward, one condition, bound to metered callables and named noise.

    `reward` is the raw reward times the problem's strength.  `rows` are the global indices of the
    samples that this call returns, so that batches continue one another.
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
    device: str = "cpu"
    budget: Budget | None = None
    workdir: Path | None = None
    on_log: Callable[[int, dict[str, float]], None] | None = None
    checkpoints: list[Samples] = field(default_factory=list)

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

    def x0(self) -> Tensor:
        """The initial noise, common to all methods: (n, *event_shape)."""
        return self.noise("x0", 0, self.event_shape)

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
    """

    problem: Problem
    conditions: list[Condition]
    data: Callable[[int, int], Tensor]
    trainable_flow: TrainableFlow

    def log(self, step: int, **scalars: float) -> None:
        """Report progress; the runner stores a curve."""
        self.problem.log(step, **scalars)
