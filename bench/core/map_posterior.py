"""Posterior samplers made of a flow map: its one-step draws, and the point to which it jumps."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from bench.core.integrate import integrate, uniform_grid
from bench.core.paths import expand
from bench.core.posterior import draws_of, repeated
from bench.core.protocols import Condition, FlowMap, Noise


class MapVelocity(Protocol):
    """v_{s,u}(x_bar; t, x)."""

    def velocity(
        self, x_bar: Tensor, s: Tensor, u: Tensor, x: Tensor, t: Tensor, condition: Condition = None
    ) -> Tensor: ...


class MapPosterior:
    """X_{0,1}(e; t, x) in `steps` jumps over a uniform inner grid; one jump is the usual draw."""

    pathwise = True

    def __init__(self, flow_map: MapVelocity, steps: int = 1) -> None:
        self.flow_map, self.steps = flow_map, steps
        self.rows_per_draw = steps

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """n independent draws, (n, batch, *event_shape)."""
        context, times = repeated(x, n), repeated(t, n)

        def jump(x_bar: Tensor, s: Tensor, u: Tensor) -> Tensor:
            v = self.flow_map.velocity(x_bar, s, u, context, times, condition)
            return x_bar + expand(u - s, x_bar) * v

        start = draws_of(noise, "posterior", n, x.shape[1:]).reshape(context.shape)
        return integrate(jump, start, uniform_grid(self.steps)).reshape(n, *x.shape)


class Jump:
    """The point mass at X_{t,1}(x): where the deterministic flow takes x, in `steps` jumps.

    What FMTT and FMRG look at instead of the Tweedie point; not the posterior, but the flow's own
    guess of one of its draws.
    """

    pathwise = True

    def __init__(self, flow_map: FlowMap, steps: int = 1) -> None:
        self.flow_map, self.steps = flow_map, steps
        self.rows_per_draw = steps

    def draw(
        self, x: Tensor, t: Tensor, n: int, noise: Noise, condition: Condition = None
    ) -> Tensor:
        """n copies of the end of the trajectory."""
        end = x
        for k in range(self.steps):
            s, u = (t + (1 - t) * (j / self.steps) for j in (k, k + 1))
            end = self.flow_map.jump(end, s, u, condition)
        return end.expand(n, *end.shape)
