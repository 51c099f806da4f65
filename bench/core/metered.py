"""The metered callables of a problem: what a task brings, bound to its condition and counted.

Each takes a condition as the callable behind it does.  Without one, it hears its problem's.
A guided flow or map runs its network twice per call, so that its rows count twice (`cost`); a flow
with `rows` of its own says at which times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.core.metering import Meter
from bench.core.place import HOST, Place
from bench.core.protocols import Condition, Flow, MetaFlowMap, Noise, Oracle, PosteriorSampler
from bench.core.refusals import refuse_shape
from bench.core.timing import Timing, timing_of


class Conditioned:
    """Something that hears a problem's condition, unless a call gives another one."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition

    def _heard(self, given: Condition) -> Condition:
        return self._condition if given is None else given


class MeteredFlow(Conditioned):
    """A flow whose every row is counted, by its own `rows` or else `cost` times.

    timing: whose times and rows are the flow's, such as the base flow of a fitted one.
    """

    def __init__(
        self,
        flow: Flow,
        meter: Meter,
        condition: Condition,
        key: tuple[Any, ...] = (),
        cost: int = 1,
        timing: Timing | None = None,
        place: Place = HOST,
    ) -> None:
        super().__init__(condition)
        self.event_shape, self.interpolant = flow.event_shape, flow.interpolant
        self.timing = timing_of(flow) if timing is None else timing
        each, velocity = self.timing.cost(cost), place.of(flow, flow.velocity)
        self._velocity = meter.wrap("flow", velocity, each, key, flow.event_shape)
        self._jvp = meter.wrap_jvp("flow", velocity, key, flow.event_shape, each)

    def times(self, steps: int) -> list[float]:
        """The flow's own times, or uniform ones from 0."""
        return self.timing.grid(steps)

    def velocity(self, x: Tensor, t: Tensor, condition: Condition = None) -> Tensor:
        """b_t(x)."""
        return self._velocity(x, t, self._heard(condition))

    def jvp(
        self, x: Tensor, t: Tensor, tangent: Tensor, condition: Condition = None
    ) -> tuple[Tensor, Tensor]:
        """b_t(x) and J_b(x) tangent, without gradients; counted as JVP rows."""
        return self._jvp(x, t, tangent, self._heard(condition))


class MeteredMap(Conditioned):
    """A meta flow map whose every row is counted."""

    def __init__(
        self,
        flow_map: MetaFlowMap,
        meter: Meter,
        condition: Condition,
        key: tuple[Any, ...] = (),
        cost: int = 1,
        place: Place = HOST,
    ) -> None:
        super().__init__(condition)
        velocity, jump = (place.of(flow_map, fn) for fn in (flow_map.velocity, flow_map.jump))
        self._velocity = meter.wrap("map", velocity, cost, key and (*key, "velocity"))
        self._jump = meter.wrap("map", jump, cost, key and (*key, "jump"))

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor:
        """v_{s,u}(x_bar; t, x)."""
        return self._velocity(x_bar, s, u, x, t, self._heard(condition))

    def jump(self, x: Tensor, s: Tensor, u: Tensor, condition: Condition = None) -> Tensor:
        """The deterministic map of the base flow."""
        return self._jump(x, s, u, self._heard(condition))


class MeteredPosterior(Conditioned):
    """An exact posterior sampler; a draw counts one oracle row per batch element."""

    def __init__(
        self,
        posterior: PosteriorSampler,
        meter: Meter,
        condition: Condition,
        key: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(condition)
        self.pathwise, self.rows_per_draw = posterior.pathwise, posterior.rows_per_draw
        self._posterior, self._meter, self._key = posterior, meter, key

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """(n, batch, *event_shape)."""

        def drawn(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
            return self._posterior.draw(x, t, n, _for_rows(noise, len(x)), condition)

        key = self._key and (*self._key, n)
        out = self._meter.wrap("oracle", drawn, n, key)(x, t, self._heard(condition))
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
